// Times of kernels at the shapes of V3.2, on hardware: DSV32_TIMES names the file, a line of JSON
// each. On an emulated GPU there is no time, and nothing runs; DSV32_TIMES_SMALL takes the smallest
// shape of each alone, for a rehearsal.
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/cuda/kernels_shapes.h"

namespace dsv32::test {
namespace {

void note(const std::string& kernel, std::int64_t m, std::int64_t n, std::int64_t k,
          double microseconds) {
  const char* path = std::getenv("DSV32_TIMES");
  if (path == nullptr) return;
  std::ofstream(path, std::ios::app)
      << "{\"kernel\": \"" << kernel << "\", \"m\": " << m << ", \"n\": " << n << ", \"k\": " << k
      << ", \"us\": " << microseconds << "}\n";
}

TEST_CASE("times of kernels", "[.times]") {
  constexpr int kWide[][2] = {
      {2112, 7168}, {4096, 7168}, {7168, 2048}, {24576, 1536}, {7168, 16384}};  // outputs, columns
  Data data(311);
  const bool small = std::getenv("DSV32_TIMES_SMALL") != nullptr;
  for (const auto [outs, cols] : kWide) {
    for (const int rows : {1, 8, 64, 128, 4096}) {
      if (small && (rows > 1 || outs > 2112)) continue;
      KernelMachine gpu;
      const auto us = gpu.time(linear_of(gpu, data, rows, outs, cols));
      if (us) note("linear", rows, outs, cols, *us);
    }
  }
  for (const int queries : {1, 8, 64, 256}) {
    if (small && queries > 1) continue;
    KernelMachine gpu;
    const auto us = gpu.time(attention_of(gpu, data, queries, 128, 2048));
    if (us) note("sparse_mla", queries, 128, 2048, *us);
  }
  for (const int queries : {1, 8, 64}) {
    for (const int keys : {8192, 32768, 131072}) {
      if (small && (queries > 1 || keys > 8192)) continue;
      KernelMachine gpu;
      const auto us = gpu.time(scores_of(gpu, data, queries, keys));
      if (us) note("index_scores", queries, 64, keys, *us);
      const auto choice = gpu.time(choice_of(gpu, data, queries, keys));
      if (choice) note("top_k", queries, 2048, keys, *choice);
    }
  }
}

}  // namespace
}  // namespace dsv32::test
