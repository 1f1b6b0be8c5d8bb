// What the kernels on tensor cores move at full inner sizes: bytes against those that differ,
// passes of shared memory against the least. With DSV32_COSTS the counts go to that file, a line of
// JSON each, for scripts/cost_model.py.
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/cuda/kernels_shapes.h"

namespace dsv32::test {
namespace {

constexpr std::uint64_t kL2 = 40u << 20;  // of the smallest that is meant: an A100's

struct Shape {
  const char* kernel;
  std::int64_t m, n, k;  // rows, queries or tokens; outputs, heads or keys; columns or keys
};

// One launch, counted.
template <class Arguments>
ptxemu::Meter count(KernelMachine& gpu, const Shape& shape, const Arguments& arguments,
                    const cuda::Launch& launch) {
  ptxemu::Meter meter(kL2);
  const std::uint64_t before = gpu.instructions();
  gpu.measure(&meter);
  gpu.run(launch, arguments);
  gpu.measure(nullptr);
  if (const char* path = std::getenv("DSV32_COSTS")) {
    std::ofstream(path, std::ios::app)
        << "{\"kernel\": \"" << shape.kernel << "\", \"m\": " << shape.m << ", \"n\": " << shape.n
        << ", \"k\": " << shape.k << ", \"function\": \""
        << cuda::kKernelNames[static_cast<int>(launch.kernel)].function
        << "\", \"blocks\": " << launch.grid_x * launch.grid_y * launch.grid_z
        << ", \"threads\": " << launch.threads << ", \"shared\": " << launch.shared
        << ", \"unique_bytes\": " << meter.unique_bytes()
        << ", \"dram_bytes\": " << meter.dram_bytes() << ", \"l2_bytes\": " << meter.l2_bytes()
        << ", \"tensor_flop\": " << meter.tensor_flop()
        << ", \"shared_passes\": " << meter.shared_passes()
        << ", \"conflicts\": " << meter.shared_conflicts()
        << ", \"instructions\": " << gpu.instructions() - before << "}\n";
  }
  return meter;
}

// From DRAM at most `factor` times what differs, and hardly a bank twice.
void check_moved(const ptxemu::Meter& meter, double factor) {
  CHECK(static_cast<double>(meter.dram_bytes()) <=
        factor * static_cast<double>(meter.unique_bytes()));
  for (const auto& [line, extra] : meter.conflicts())
    UNSCOPED_INFO("PTX line " << line << ": " << extra);
  CHECK(meter.shared_conflicts() * 100 <= meter.shared_passes());
}

ptxemu::Meter count_linear(int rows, int outs, int cols) {
  Data data(301);
  KernelMachine gpu;
  const auto args = linear_of(gpu, data, rows, outs, cols);
  return count(gpu, {"linear", rows, outs, cols}, args, launch_of(args));
}

TEST_CASE("a product moves little more than what differs", "[costs]") {
  // Two numbers of outputs: what is moved grows by the same for each of them.
  for (const int rows : {1, 64}) {
    for (const int outs : {128, 256}) {
      for (const int cols : {2048, 7168}) {
        INFO(rows << " rows, " << outs << " outputs, " << cols << " columns");
        check_moved(count_linear(rows, outs, cols), 1.25);
      }
    }
  }
}

ptxemu::Meter count_attention(int queries, int heads, int keys, int block_heads) {
  Data data(302);
  KernelMachine gpu;
  const auto args = attention_of(gpu, data, queries, heads, keys);
  const std::string name = "sparse_mla_" + std::to_string(block_heads);
  return count(gpu, {name.c_str(), queries, heads, keys}, args,
               launch_sparse_mla_mma(args, block_heads));
}

TEST_CASE("decode attention moves little more than what differs", "[costs]") {
  for (const int queries : {1, 2}) {
    for (const int block_heads : {16, 32, 64}) {
      check_moved(count_attention(queries, 128, 2048, block_heads), 1.15);
    }
  }
}

ptxemu::Meter count_scores(int keys) {
  Data data(303);
  KernelMachine gpu;
  const auto args = scores_of(gpu, data, 1, keys);
  return count(gpu, {"index_scores", 1, 64, keys}, args, launch_of(args));
}

TEST_CASE("index scores move little more than what differs", "[costs]") {
  check_moved(count_scores(4096), 1.15);
  check_moved(count_scores(8192), 1.15);
}

}  // namespace
}  // namespace dsv32::test
