// Values that are no numbers, in every kernel set: indices stay in range, results that depend on
// one are no numbers either, and the others keep their bits.
#include <algorithm>
#include <limits>

#include "tests/kernels/data.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("moe_gate gives distinct experts in range for any scores") {
  Data data(31);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (int round = 0; round < 200; ++round) {
      const int groups = 1 << data.integer(0, 3), size = data.integer(2, 9);
      const int experts = groups * size, kept = data.integer(1, groups);
      const int top = data.integer(1, kept * size), density = data.integer(0, 4);
      auto scores = data.floats(experts, 2.0f);
      for (float& x : scores) {
        const int draw = data.integer(0, 19);
        if (draw < 4 * density) x = draw % 4 == 0 ? kInfinity : draw % 4 == 1 ? -kInfinity : kNaN;
      }
      if (density == 4) std::ranges::fill(scores, kNaN);
      const auto bias = data.floats(experts, 0.3f);
      const auto run = [&](const CpuKernels& kernel) {
        std::vector<std::int32_t> ids(static_cast<std::size_t>(top), -7);
        std::vector<float> weights(ids.size()), scratch(static_cast<std::size_t>(experts + groups));
        kernel.moe_gate({.scores = scores.data(),
                         .bias = bias.data(),
                         .ids = ids.data(),
                         .weights = weights.data(),
                         .scratch = scratch.data(),
                         .num_tokens = 1,
                         .num_experts = experts,
                         .n_group = groups,
                         .topk_group = kept,
                         .top = top,
                         .routed_scaling_factor = 2.5f,
                         .norm_topk_prob = true});
        return ids;
      };
      const auto ids = run(table);
      REQUIRE(ids == run(reference));
      REQUIRE(ids.front() >= 0);
      REQUIRE(ids.back() < experts);
      REQUIRE(std::ranges::is_sorted(ids));
      REQUIRE(std::ranges::adjacent_find(ids) == ids.end());
    }
  });
}

// A page of index keys in FP8; key 5 has a NaN code, key 9 a NaN scale, and key 12 an infinite one.
TEST_CASE("an index key that is no number makes its own score none, and no other") {
  Data data(32);
  const int dim = 128, count = 2 * kPageSize;
  const CacheLayout layout{CacheLayout::Format::fp8, 0, 64, dim};
  const std::int32_t page_table[] = {1, 0};
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    for (const int heads : {1, 16, 37, 64}) {
      Bytes pages(static_cast<std::size_t>(2 * layout.index_page()));
      for (int page = 0; page < 2; ++page) {
        std::byte* at = pages.data() + page * layout.index_page();
        const Bytes codes = data.values(kPageSize * dim, ValueType::e4m3);
        std::copy(codes.begin(), codes.end(), at);
        const float scale = 0.5f;
        for (int i = 0; i < kPageSize; ++i) std::memcpy(at + kPageSize * dim + 4 * i, &scale, 4);
      }
      std::vector<float> q;
      for (const double x : read(data.values(heads * dim, ValueType::e4m3), ValueType::e4m3))
        q.push_back(static_cast<float>(x));
      const auto weights = data.floats(heads);
      const auto score = [&] {
        std::vector<float> scores(static_cast<std::size_t>(count), 1e9f);
        Aligned scratch(4 * kPageSize * (dim + 1));
        table.index_scores({.q = q.data(),
                            .weights = weights.data(),
                            .pages = pages.data(),
                            .page_table = page_table,
                            .scores = scores.data(),
                            .scratch = scratch.floats(),
                            .layout = layout,
                            .num_heads = heads,
                            .first = 0,
                            .last = count});
        return scores;
      };
      const auto want = score();
      std::byte* first = pages.data() + layout.index_page();
      first[5 * dim + 77] = std::byte{0x7F};
      std::memcpy(first + kPageSize * dim + 4 * 9, &kNaN, 4);
      std::memcpy(first + kPageSize * dim + 4 * 12, &kInfinity, 4);
      const auto got = score();
      for (std::size_t i = 0; i < got.size(); ++i) {
        INFO(heads << " heads, key " << i);
        if (i == 5 || i == 9) CHECK(std::isnan(got[i]));
        if (i == 12) CHECK(!std::isfinite(got[i]));
        if (i != 5 && i != 9 && i != 12) CHECK(got[i] == want[i]);
      }
    }
  });
}

// The second of three queries has a key that is no number: in the first group or in the last.
void check_sparse_mla(Data& data, const CpuKernels& table, int heads, bool bf16_probabilities,
                      int bad_entry) {
  const CacheLayout layout{CacheLayout::Format::fp8, 512, 64, 0};
  const int width = 576, slots = 200, top = 100, queries = 3;
  Bytes records(static_cast<std::size_t>(slots * layout.latent_record()));
  const float scale = 0.01f;
  for (int i = 0; i < slots; ++i) {
    std::byte* record = records.data() + i * layout.latent_record();
    const Bytes codes = data.values(512, ValueType::e4m3, 20.0f);
    const Bytes rope = data.values(64, ValueType::bf16);
    std::ranges::copy(codes, record);
    for (int b = 0; b < layout.scales(); ++b) std::memcpy(record + 512 + 4 * b, &scale, 4);
    std::ranges::copy(rope, record + 528);
  }
  const Bytes q = data.values(queries * heads * width, ValueType::bf16, 0.3f);
  std::vector<std::int32_t> indices;
  for (int i = 0; i < queries * top; ++i) indices.push_back(i % 3 == 0 ? i / 3 : 100 + i % 90);
  for (std::int32_t& slot : indices) slot = slot == 7 ? 8 : slot;
  const auto run = [&] {
    Bytes out(static_cast<std::size_t>(queries * heads * 512 * 2));
    Aligned scratch(4 * kernels::sparse_mla_scratch(layout, heads));
    table.sparse_mla({.q = q.data(),
                      .latent = records.data(),
                      .indices = indices.data(),
                      .out = out.data(),
                      .scratch = scratch.floats(),
                      .layout = layout,
                      .type = ValueType::bf16,
                      .num_tokens = queries,
                      .num_heads = heads,
                      .top_k = top,
                      .first_head = 0,
                      .last_head = heads,
                      .scale = 0.1f,
                      .bf16_probabilities = bf16_probabilities});
    return read(out, ValueType::bf16);
  };
  indices[static_cast<std::size_t>(top + bad_entry)] = 7;
  const auto want = run();
  records[static_cast<std::size_t>(7 * layout.latent_record() + 300)] = std::byte{0xFF};
  const auto got = run();
  const std::size_t row = got.size() / queries;
  bool others = true, own = true;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (i / row == 1) own = own && std::isnan(got[i]);
    if (i / row != 1) others = others && got[i] == want[i];
  }
  CHECK(own);
  CHECK(others);
}

TEST_CASE("a latent record that is no number spoils the queries that read it, and no other") {
  Data data(33);
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    for (const int heads : {3, 16, 37}) {
      for (const bool rounded : {false, true}) {
        for (const int entry : {0, 50, 99}) {
          INFO(heads << " heads, BF16 probabilities " << rounded << ", entry " << entry);
          check_sparse_mla(data, table, heads, rounded, entry);
        }
      }
    }
  });
}

TEST_CASE("norm, silu, sums of experts and FP8 codes keep what is no number") {
  Data data(34);
  const int cols = 300, rows = 3;
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    for (const float bad : {kNaN, kInfinity, -kInfinity}) {
      auto values = data.floats(rows * cols);
      values[cols + 130] = bad;
      const Bytes x = Data::stored(values, ValueType::bf16);
      const auto gain = data.floats(cols);
      Bytes out(x.size());
      table.add_rms_norm({.x = x.data(),
                          .residual = nullptr,
                          .gain = gain.data(),
                          .out = out.data(),
                          .x_stride = cols,
                          .residual_stride = cols,
                          .out_stride = cols,
                          .eps = 1e-6f,
                          .x_type = ValueType::bf16,
                          .type = ValueType::bf16,
                          .num_rows = rows,
                          .cols = cols});
      const auto normed = read(out, ValueType::bf16);
      CHECK(std::isnan(normed[cols + 130]));
      CHECK(std::all_of(normed.begin(), normed.begin() + cols,
                        [](double v) { return std::isfinite(v); }));

      const Bytes one = Data::stored(std::vector<float>(values.size(), 1.0f), ValueType::bf16);
      table.silu_mul({.gate = x.data(),
                      .up = one.data(),
                      .out = out.data(),
                      .type = ValueType::bf16,
                      .num_rows = rows,
                      .cols = cols});
      const auto activated = read(out, ValueType::bf16);
      CHECK((bad == -kInfinity || !std::isfinite(activated[cols + 130])));
      CHECK(std::isfinite(activated[cols + 129]));

      std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols));
      std::vector<float> scale(rows * 3);
      table.quantise({.x = x.data(),
                      .out = codes.data(),
                      .scale = scale.data(),
                      .x_stride = cols,
                      .type = ValueType::bf16,
                      .pow2 = true,
                      .num_rows = rows,
                      .cols = cols});
      const auto decoded =
          kernels::from_e4m3(codes[cols + 130]) * scale[3 + 1];  // block 1 of row 1
      CHECK(!std::isfinite(decoded));
      CHECK(std::isfinite(scale[0]));
    }
  });
}

}  // namespace
}  // namespace dsv32::test
