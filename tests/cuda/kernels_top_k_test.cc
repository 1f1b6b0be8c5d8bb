// top_k on the emulated GPU, exactly as its twin.
#include <algorithm>
#include <numeric>

#include "tests/cuda/kernels_best.h"

namespace dsv32::test {
namespace {

using kernels::kPageSize;

// Chooses among given scores; slots are positions.
std::vector<std::int32_t> gpu_top_k(const std::vector<float>& scores, int top, std::uint64_t seed,
                                    int* nans = nullptr) {
  const auto count = static_cast<std::int32_t>(scores.size());
  KernelMachine gpu(seed);
  std::vector<std::int32_t> table(static_cast<std::size_t>(count / kPageSize + 1));
  std::iota(table.begin(), table.end(), 0);
  auto* indices = gpu.empty<std::int32_t>(top);
  auto* nan_queries = gpu.put(std::vector<std::int32_t>{0});
  gpu.run(cuda::TopKArguments{.scores = gpu.put(scores),
                              .score_stride = count,
                              .keys = {.positions = gpu.put(std::vector<std::int32_t>{count - 1}),
                                       .seq_of_token = gpu.put(std::vector<std::int32_t>{0}),
                                       .page_table = gpu.put(table),
                                       .page_stride = 0},
                              .indices = indices,
                              .nan_queries = nans ? nan_queries : nullptr,
                              .num_tokens = 1,
                              .top_k = top});
  if (nans) *nans = gpu.get(nan_queries, 1)[0];
  return gpu.get(indices, top);
}

void check_top_k(Data& data, int count, int top) {
  const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e-40f, -1e-40f};
  for (int kind = 0; kind < 5; ++kind) {
    std::vector<float> scores = data.floats(count);
    for (float& x : scores) {
      if (kind == 1) x = static_cast<float>(data.integer(-1, 1));
      if (kind == 2 && data.integer(0, 3) > 0) x = special[data.integer(0, 5)];
      if (kind >= 3 && data.integer(0, 9) < (kind == 3 ? 1 : 9)) x = std::nanf("");
    }
    std::vector<std::int32_t> identity(static_cast<std::size_t>(count / kPageSize + 1));
    std::iota(identity.begin(), identity.end(), 0);
    INFO(count << " scores of kind " << kind << ", top " << top);
    int nans = 0;
    CHECK(gpu_top_k(scores, top, static_cast<std::uint64_t>(kind), &nans) ==
          best_slots(scores, identity.data(), top));
    const bool any = std::any_of(scores.begin(), scores.end(), [](float x) { return x != x; });
    CHECK(nans == (any && count > top ? 1 : 0));
  }
}

TEST_CASE("top_k chooses as its twin: ties, zeros of both signs, infinities, NaN", "[quick]") {
  Data data(235);
  for (const int count : {1, 31, 32, 33, 64, 200}) {
    for (const int top : {1, 32, 64}) check_top_k(data, count, top);
  }
}

TEST_CASE("top_k of long rows chooses as its twin") {
  Data data(236);
  check_top_k(data, 1024, 200);
  check_top_k(data, 1025, 200);
  check_top_k(data, 5000, 2048);
  check_top_k(data, 5000, 4999);
}

}  // namespace
}  // namespace dsv32::test
