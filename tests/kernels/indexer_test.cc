// Topic indexer: scores against the double-precision twin, top-k against a sort.
#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;

// Positions of the k largest; of equal scores the earlier ones. By sorting: nothing shared with the
// kernel.
std::vector<std::int32_t> best_positions(const std::vector<float>& scores, int k) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](std::int32_t s) {  // NaN is worst
    const float x = scores[static_cast<std::size_t>(s)];
    return std::isnan(x) ? std::pair{0, 0.0f} : std::pair{1, x};
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return rank(a) > rank(b); });
  if (static_cast<int>(order.size()) > k) order.resize(static_cast<std::size_t>(k));
  std::sort(order.begin(), order.end());
  order.resize(static_cast<std::size_t>(k), -1);
  return order;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<std::int32_t> run_top_k(const CpuKernels& table, const std::vector<float>& scores,
                                    int k) {
  std::vector<std::uint32_t> scratch(static_cast<std::size_t>(kernels::top_k_scratch(k)));
  std::vector<std::int32_t> positions(static_cast<std::size_t>(k), -7);
  table.top_k({.scores = scores.data(),
               .scratch = scratch.data(),
               .positions = positions.data(),
               .count = static_cast<int>(scores.size()),
               .top_k = k});
  return positions;
}

TEST_CASE("top_k equals a sort, on every distribution") {
  Data data(1);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const int count : {1, 7, 63, 64, 65, 1000, 5000, 9001, 20000}) {
      for (const int k : {1, 5, 64, 999}) {
        for (int shape = 0; shape < 9; ++shape) {
          std::vector<float> scores = data.floats(count);
          for (std::size_t i = 0; i < scores.size(); ++i) {
            if (shape == 1) scores[i] = std::round(scores[i]);      // many ties
            if (shape == 2) scores[i] = -1.0f;                      // one value
            if (shape == 3) scores[i] = static_cast<float>(i);      // ascending
            if (shape == 4) scores[i] = -static_cast<float>(i);     // descending
            if (shape == 5) scores[i] = i % 2 == 0 ? 0.0f : -0.0f;  // both zeros are equal
            if (shape == 6 && i % 3 != 1) scores[i] = i % 2 == 0 ? kNaN : -kNaN;
            if (shape == 7) scores[i] = kNaN;
            if (shape == 8 && i % 5 != 1) scores[i] = i % 2 == 0 ? kInfinity : -kInfinity;
          }
          INFO("count " << count << ", k " << k << ", shape " << shape);
          const auto want = best_positions(scores, k);
          REQUIRE(run_top_k(table, scores, k) == want);
          REQUIRE(run_top_k(reference, scores, k) == want);
        }
      }
    }
  });
}

TEST_CASE("top_k puts NaN last and infinities where they belong") {
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const CpuKernels* t : {&table, &reference}) {
      CHECK(run_top_k(*t, {kNaN, 1, -kInfinity, kInfinity, kNaN, 2}, 3) ==
            std::vector<std::int32_t>{1, 3, 5});
      CHECK(run_top_k(*t, {kNaN, -kInfinity, kNaN, -5}, 2) == std::vector<std::int32_t>{1, 3});
    }
  });
}

// Stores keys with `store`, scores them with both tables.
void check_scores(Data& data, const CpuKernels& table, const CpuKernels& reference,
                  CacheLayout::Format format, bool pow2, bool interleave) {
  const int dim = data.integer(0, 1) == 0 ? 128 : 32, rope = dim / 2, heads = data.integer(1, 70);
  const int tokens = data.integer(1, 150);
  const CacheLayout layout{format, 0, rope, dim};
  const ValueType type = format == CacheLayout::Format::f32 ? ValueType::f32 : ValueType::bf16;
  const Bytes k = data.values(tokens * dim, type, 3.0f);
  const auto gain = data.floats(dim), bias = data.floats(dim), angles = data.rope(tokens, rope);
  const int num_pages = (tokens + kPageSize - 1) / kPageSize;
  std::vector<std::int32_t> page_table(static_cast<std::size_t>(num_pages)), slots;
  for (int i = 0; i < num_pages; ++i) {
    page_table[static_cast<std::size_t>(i)] = num_pages - 1 - i;  // not in order
  }
  for (int t = 0; t < tokens; ++t) {
    slots.push_back(page_table[static_cast<std::size_t>(t / kPageSize)] * kPageSize +
                    t % kPageSize);
  }
  const auto store = [&](const CpuKernels& kernel) {
    Bytes pages(static_cast<std::size_t>(num_pages * layout.index_page()));
    kernel.index_store({.k = k.data(),
                        .gain = gain.data(),
                        .bias = bias.data(),
                        .rope = angles.data(),
                        .slots = slots.data(),
                        .pages = pages.data(),
                        .layout = layout,
                        .type = type,
                        .pow2 = pow2,
                        .interleave = interleave,
                        .num_tokens = tokens});
    return pages;
  };
  const Bytes pages = store(table), twin_pages = store(reference);
  // A LayerNorm, a rotation and a Hadamard sum of 128: some tens of f32 roundings of 6e-8.
  if (format == CacheLayout::Format::f32) {
    CHECK(deviation(read(pages, ValueType::f32), read(twin_pages, ValueType::f32)) < 5e-6);
  }
  const auto weights = data.floats(heads);
  std::vector<float> q;  // what index_query gives: e4m3 values, or any in exact numerics
  for (const double x :
       read(data.values(heads * dim, type == ValueType::f32 ? type : ValueType::e4m3),
            type == ValueType::f32 ? type : ValueType::e4m3)) {
    q.push_back(static_cast<float>(x));
  }
  const auto score = [&](const CpuKernels& kernel, const Bytes& from) {
    std::vector<float> scores(static_cast<std::size_t>(tokens), 1e9f);
    std::vector<float> scratch(static_cast<std::size_t>(kPageSize * (dim + 1)));
    const int half = tokens / 2;  // in two parts: the cut must not matter
    for (const auto& [first, last] : {std::pair{0, half}, std::pair{half, tokens}}) {
      kernel.index_scores({.q = q.data(),
                           .weights = weights.data(),
                           .pages = from.data(),
                           .page_table = page_table.data(),
                           .scores = scores.data(),
                           .scratch = scratch.data(),
                           .layout = layout,
                           .num_heads = heads,
                           .first = first,
                           .last = last});
    }
    return std::vector<double>(scores.begin(), scores.end());
  };
  // f32 sums of at most 128 products, then of as many heads: roundings of 6e-8 that partly cancel.
  CHECK(deviation(score(table, pages), score(reference, pages)) < 2e-6);
}

TEST_CASE("index keys and scores equal their twins") {
  Data data(2);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (int round = 0; round < 24; ++round) {
      check_scores(data, table, reference,
                   round % 3 == 0 ? CacheLayout::Format::f32 : CacheLayout::Format::fp8,
                   round % 2 == 0, round % 4 == 1);
    }
  });
}

TEST_CASE("index queries equal their twins") {
  Data data(3);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
      const int tokens = 9, heads = 6, dim = 64, rope = 32;
      const Bytes q = data.values(tokens * heads * dim, type);
      const auto weights = data.floats(tokens * heads), angles = data.rope(tokens, rope);
      const auto run = [&](const CpuKernels& kernel) {
        std::vector<float> out(tokens * heads * dim), out_weights(tokens * heads);
        kernel.index_query({.q = q.data(),
                            .head_weights = weights.data(),
                            .rope = angles.data(),
                            .out = out.data(),
                            .out_weights = out_weights.data(),
                            .type = type,
                            .pow2 = true,
                            .interleave = false,
                            .num_tokens = tokens,
                            .num_heads = heads,
                            .index_dim = dim,
                            .rope_dim = rope});
        std::vector<double> all;  // what a score sees: values times weight
        for (std::size_t i = 0; i < out.size(); ++i) {
          all.push_back(static_cast<double>(out[i]) * static_cast<double>(out_weights[i / dim]));
        }
        return all;
      };
      // A value on the edge between two FP8 codes may fall either way: one step of 1/16.
      CHECK(deviation(run(table), run(reference)) < (type == ValueType::f32 ? 2e-6 : 0.07));
    }
  });
}

}  // namespace
}  // namespace dsv32::test
