// Topic indexer on the emulated GPU, against the double-precision twins; of INT8 codes, scores to
// the bit.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "tests/cuda/kernels_best.h"
#include "tests/kernels/store_data.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using Format = CacheLayout::Format;
using kernels::kPageSize;

// The table that others may be compared with to the bit: not the twins.
const kernels::CpuKernels& generic_table() {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  for (int i = 0; i < tables.count; ++i) {
    if (std::strcmp(tables.tables[i]->name, "generic") == 0) return *tables.tables[i];
  }
  FAIL("no generic table");
  return *tables.tables[0];
}

Bytes twin_pages(const kernels::CpuKernels& kernel, const StoreInput& in, const CacheLayout& layout,
                 ValueType type, bool pow2, bool interleave, const std::vector<std::int32_t>& slots,
                 Bytes pages) {
  const Bytes k = Data::stored(in.rows, type);
  kernel.index_store({.k = k.data(),
                      .gain = in.gain.data(),
                      .bias = in.bias.data(),
                      .rope = in.rope.data(),
                      .slots = slots.data(),
                      .pages = pages.data(),
                      .layout = layout,
                      .type = type,
                      .pow2 = pow2,
                      .interleave = interleave,
                      .num_tokens = static_cast<int>(slots.size())});
  return pages;
}

Bytes gpu_pages(const StoreInput& in, const CacheLayout& layout, ValueType type, bool pow2,
                bool interleave, const std::vector<std::int32_t>& slots, const Bytes& pages) {
  KernelMachine gpu;
  auto* to = gpu.put(pages);
  gpu.run(cuda::IndexStoreArguments{.k = gpu.put(Data::stored(in.rows, type)),
                                    .gain = gpu.put(in.gain),
                                    .bias = gpu.put(in.bias),
                                    .rope = gpu.put(in.rope),
                                    .slots = gpu.put(slots),
                                    .pages = to,
                                    .layout = layout,
                                    .type = type,
                                    .pow2 = pow2,
                                    .interleave = interleave,
                                    .num_tokens = static_cast<int>(slots.size())});
  return gpu.get(to, static_cast<std::int64_t>(pages.size()));
}

TEST_CASE("bytes of index pages are the twin's, and padding is stored nowhere", "[quick]") {
  Data data(231);
  const int tokens = 70;
  std::vector<std::int32_t> slots;
  for (int t = 0; t < tokens; ++t) slots.push_back(t % 3 == 2 ? -1 : 2 * kPageSize - 1 - t);
  for (const int dim : {32, 64, 128}) {
    for (const bool int8 : {false, true}) {
      const CacheLayout layout{Format::fp8, 0, dim / 2, dim, int8};
      const Bytes before = data.values(2 * layout.index_page(), ValueType::e4m3);
      for (const bool pow2 : {true, false}) {
        INFO("width " << dim << ", pow2 " << pow2 << ", int8 " << int8);
        const StoreInput exact = exact_input(data, tokens, dim, dim, dim / 2);
        CHECK((gpu_pages(exact, layout, ValueType::bf16, pow2, !pow2, slots, before) ==
               twin_pages(reference_twins(), exact, layout, ValueType::bf16, pow2, !pow2, slots,
                          before)));
        const StoreInput any = random_input(data, tokens, dim, dim, dim / 2);
        const Bytes got = gpu_pages(any, layout, ValueType::bf16, pow2, pow2, slots, before);
        const Bytes want =
            twin_pages(reference_twins(), any, layout, ValueType::bf16, pow2, pow2, slots, before);
        std::size_t differ = 0;
        for (std::size_t i = 0; i < got.size(); ++i) differ += got[i] == want[i] ? 0 : 1;
        CHECK(static_cast<double>(differ) <= 1e-3 * static_cast<double>(got.size()));
      }
    }
  }
  const CacheLayout layout{Format::f32, 0, 10, 40};
  const StoreInput any = random_input(data, tokens, 40, 40, 10);
  const Bytes before = data.values(2 * kPageSize * 40, ValueType::f32);
  for (const bool interleave : {false, true}) {
    CHECK(deviation(read(gpu_pages(any, layout, ValueType::f32, true, interleave, slots, before),
                         ValueType::f32),
                    read(twin_pages(reference_twins(), any, layout, ValueType::f32, true,
                                    interleave, slots, before),
                         ValueType::f32)) < 4e-6);
  }
}

struct Query {
  int heads, dim, rope;
  ValueType type;
  bool pow2, interleave, int8;
};

struct QueryData {
  Bytes q;
  std::vector<float> weights, angles;

  QueryData(Data& data, const Query& c, int tokens)
      : q(data.values(std::int64_t{tokens} * c.heads * c.dim, c.type)),
        weights(data.floats(std::int64_t{tokens} * c.heads)),
        angles(data.rope(tokens, c.rope)) {}
};

struct QueryOut {
  std::vector<float> q, weights;
};

QueryOut twin_query(const kernels::CpuKernels& kernel, const Query& c, const QueryData& in,
                    int tokens) {
  QueryOut out{std::vector<float>(static_cast<std::size_t>(tokens * c.heads * c.dim)),
               std::vector<float>(static_cast<std::size_t>(tokens * c.heads))};
  kernel.index_query({.q = in.q.data(),
                      .head_weights = in.weights.data(),
                      .rope = in.angles.data(),
                      .out = out.q.data(),
                      .out_weights = out.weights.data(),
                      .type = c.type,
                      .pow2 = c.pow2,
                      .interleave = c.interleave,
                      .int8 = c.int8,
                      .num_tokens = tokens,
                      .num_heads = c.heads,
                      .index_dim = c.dim,
                      .rope_dim = c.rope});
  return out;
}

QueryOut gpu_query(KernelMachine& gpu, const Query& c, const QueryData& in, int tokens) {
  const std::int64_t size = std::int64_t{tokens} * c.heads * c.dim;
  auto* q = gpu.empty<float>(size);
  auto* weights = gpu.empty<float>(std::int64_t{tokens} * c.heads);
  gpu.run(cuda::IndexQueryArguments{.q = gpu.put(in.q),
                                    .head_weights = gpu.put(in.weights),
                                    .rope = gpu.put(in.angles),
                                    .out = q,
                                    .out_weights = weights,
                                    .type = c.type,
                                    .pow2 = c.pow2,
                                    .interleave = c.interleave,
                                    .int8 = c.int8,
                                    .num_tokens = tokens,
                                    .num_heads = c.heads,
                                    .index_dim = c.dim,
                                    .rope_dim = c.rope});
  return {gpu.get(q, size), gpu.get(weights, std::int64_t{tokens} * c.heads)};
}

TEST_CASE("index_query equals its twin", "[quick]") {
  Data data(232);
  const int tokens = 5;
  const Query cases[] = {{16, 128, 64, ValueType::bf16, true, false, false},
                         {3, 64, 16, ValueType::bf16, false, true, false},
                         {5, 32, 32, ValueType::bf16, true, false, true},
                         {16, 128, 32, ValueType::bf16, true, true, true},
                         {3, 40, 20, ValueType::f32, true, false, false},
                         {3, 128, 64, ValueType::f32, true, true, false}};
  for (const Query& c : cases) {
    INFO(c.heads << " heads of " << c.dim << ", type " << int(c.type) << ", int8 " << c.int8);
    const QueryData in(data, c, tokens);
    KernelMachine gpu;
    const QueryOut got = gpu_query(gpu, c, in, tokens);
    // Against the generic table: its bits, for nothing is summed but in the transform's one order.
    const QueryOut want = twin_query(generic_table(), c, in, tokens);
    CHECK(got.q == want.q);
    CHECK(got.weights == want.weights);
  }
}

// Pages in any order, and queries that see some of their keys.
struct Scores {
  CacheLayout layout;
  int heads;
  std::vector<std::int32_t> positions;
  int top;
};

struct ScoreData {
  Bytes pages;
  std::vector<std::int32_t> seq, table;
  QueryOut query;
  int table_stride = 0, longest = 0;

  ScoreData(Data& data, const Scores& c) {
    const int sequences = 2;
    longest = *std::max_element(c.positions.begin(), c.positions.end()) + 1;
    table_stride = longest / kPageSize + 2;
    const int count = sequences * table_stride;
    for (int i = 0; i < count; ++i) table.push_back((i * 5 + 2) % count);
    const int slots = count * kPageSize;
    const bool f32 = c.layout.format == Format::f32;
    const ValueType type = f32 ? ValueType::f32 : ValueType::bf16;
    std::vector<std::int32_t> all(static_cast<std::size_t>(slots));
    std::iota(all.begin(), all.end(), 0);
    pages = twin_pages(
        generic_table(),
        random_input(data, slots, c.layout.index_dim, c.layout.index_dim, c.layout.rope), c.layout,
        type, true, false, all, Bytes(static_cast<std::size_t>(count * c.layout.index_page())));
    const auto tokens = static_cast<int>(c.positions.size());
    for (int t = 0; t < tokens; ++t) seq.push_back(t % sequences);
    const Query q{c.heads, c.layout.index_dim, c.layout.rope, type, true,
                  false,   c.layout.int8_index};
    query = twin_query(generic_table(), q, QueryData(data, q, tokens), tokens);
  }
  const std::int32_t* pages_of(std::size_t token) const {
    return table.data() + seq[token] * table_stride;
  }
};

struct Chosen {
  std::vector<float> scores;
  std::vector<std::int32_t> indices, nan_queries;
};

Chosen gpu_choose(KernelMachine& gpu, const Scores& c, const ScoreData& in) {
  const auto tokens = static_cast<int>(c.positions.size());
  const std::int64_t stride = in.longest + 3;
  const cuda::VisibleKeys keys{.positions = gpu.put(c.positions),
                               .seq_of_token = gpu.put(in.seq),
                               .page_table = gpu.put(in.table),
                               .page_stride = in.table_stride};
  std::vector<float> poison(static_cast<std::size_t>(tokens * stride), 1e9f);
  auto* scores = gpu.put(poison);
  auto* indices = gpu.empty<std::int32_t>(std::int64_t{tokens} * c.top);
  auto* nan_queries = gpu.put(std::vector<std::int32_t>(static_cast<std::size_t>(tokens), 5));
  gpu.run(cuda::IndexScoresArguments{.q = gpu.put(in.query.q),
                                     .weights = gpu.put(in.query.weights),
                                     .pages = gpu.put(in.pages),
                                     .keys = keys,
                                     .scores = scores,
                                     .score_stride = stride,
                                     .layout = c.layout,
                                     .num_tokens = tokens,
                                     .num_heads = c.heads,
                                     .top_k = c.top});
  gpu.run(cuda::TopKArguments{.scores = scores,
                              .score_stride = stride,
                              .keys = keys,
                              .indices = indices,
                              .nan_queries = nan_queries,
                              .num_tokens = tokens,
                              .top_k = c.top});
  Chosen out{{}, gpu.get(indices, std::int64_t{tokens} * c.top), gpu.get(nan_queries, tokens)};
  const auto all = gpu.get(scores, tokens * stride);
  for (int t = 0; t < tokens; ++t) {  // what is behind a query's own position is not touched
    const auto row = all.begin() + t * stride;
    const int count = c.positions[static_cast<std::size_t>(t)] + 1;
    CHECK(std::all_of(row + (count > c.top ? count : 0), row + stride,
                      [](float x) { return x == 1e9f; }));
    out.scores.insert(out.scores.end(), row, row + in.longest);
  }
  return out;
}

std::vector<float> cpu_scores(const kernels::CpuKernels& kernel, const Scores& c,
                              const ScoreData& in, std::size_t token) {
  std::vector<float> scores(static_cast<std::size_t>(c.positions[token] + 1));
  Aligned scratch(4 * kPageSize * (c.layout.index_dim + 1));
  const auto row = token * static_cast<std::size_t>(c.heads);
  kernel.index_scores({.q = in.query.q.data() + row * static_cast<std::size_t>(c.layout.index_dim),
                       .weights = in.query.weights.data() + row,
                       .pages = in.pages.data(),
                       .page_table = in.pages_of(token),
                       .scores = scores.data(),
                       .scratch = scratch.floats(),
                       .layout = c.layout,
                       .num_heads = c.heads,
                       .first = 0,
                       .last = static_cast<int>(scores.size())});
  return scores;
}

void check_scores(Data& data, const Scores& c, std::uint64_t seed = 1) {
  INFO("format " << int(c.layout.format) << ", int8 " << c.layout.int8_index << ", " << c.heads
                 << " heads of " << c.layout.index_dim << ", top " << c.top);
  const ScoreData in(data, c);
  KernelMachine gpu(seed);
  const Chosen got = gpu_choose(gpu, c, in);
  for (std::size_t t = 0; t < c.positions.size(); ++t) {
    const auto count = static_cast<std::size_t>(c.positions[t] + 1);
    std::vector<float> scores(count);
    if (c.positions[t] + 1 > c.top) {
      const auto row = got.scores.begin() + static_cast<std::ptrdiff_t>(t) * in.longest;
      scores.assign(row, row + static_cast<std::ptrdiff_t>(count));
      const auto twin = cpu_scores(reference_twins(), c, in, t);
      CHECK(deviation({scores.begin(), scores.end()}, {twin.begin(), twin.end()}) < 4e-6);
      if (c.layout.int8_index) CHECK(scores == cpu_scores(generic_table(), c, in, t));
    }
    const std::vector<std::int32_t> list(got.indices.begin() + static_cast<int>(t) * c.top,
                                         got.indices.begin() + static_cast<int>(t + 1) * c.top);
    CHECK(list == best_slots(scores, in.pages_of(t), c.top));
    CHECK(got.nan_queries[t] == 5);
  }
}

TEST_CASE("scores equal their twins, and the best of them are chosen", "[quick]") {
  Data data(233);
  const std::vector<std::int32_t> positions = {150, 3, -1, 64, 65, 100};
  check_scores(data, {{Format::fp8, 0, 64, 128}, 16, positions, 64});
  check_scores(data, {{Format::fp8, 0, 16, 32}, 37, positions, 20}, 2);
  check_scores(data, {{Format::fp8, 0, 64, 128, true}, 16, positions, 64}, 3);
  check_scores(data, {{Format::fp8, 0, 64, 128, true}, 37, positions, 5});
  check_scores(data, {{Format::f32, 0, 64, 128}, 5, positions, 64});
  check_scores(data, {{Format::f32, 0, 10, 40}, 3, positions, 10});
}

TEST_CASE("a query's scores and choice are the same bits in any company", "[quick]") {
  Data data(234);
  Scores c{{Format::fp8, 0, 64, 128}, 16, {}, 16};
  for (int t = 0; t < 40; ++t) c.positions.push_back(t == 0 ? 131 : data.integer(-1, 131));
  const ScoreData in(data, c);
  Chosen alone;
  for (const int queries : {1, 2, 40}) {
    Scores part = c;
    part.positions.resize(static_cast<std::size_t>(queries));
    KernelMachine gpu(static_cast<std::uint64_t>(queries));
    const Chosen got = gpu_choose(gpu, part, in);
    if (alone.scores.empty()) alone = got;
    REQUIRE(std::memcmp(got.scores.data(), alone.scores.data(), alone.scores.size() * 4) == 0);
    REQUIRE(std::equal(alone.indices.begin(), alone.indices.end(), got.indices.begin()));
  }
}

// Key 5 has a NaN code, key 9 a NaN scale.
TEST_CASE("an index key that is no number makes its own score none, and is counted", "[quick]") {
  Data data(237);
  Scores c{{Format::fp8, 0, 64, 128}, 16, {100}, 20};
  ScoreData in(data, c);
  KernelMachine gpu;
  const Chosen want = gpu_choose(gpu, c, in);
  std::byte* page = in.pages.data() + in.table[0] * c.layout.index_page();
  page[5 * 128 + 77] = std::byte{0x7F};
  const float nan = std::nanf("");
  std::memcpy(page + kPageSize * 128 + 4 * 9, &nan, 4);
  const Chosen got = gpu_choose(gpu, c, in);
  for (std::size_t i = 0; i < got.scores.size(); ++i) {
    INFO("key " << i);
    if (i == 5 || i == 9) CHECK(std::isnan(got.scores[i]));
    if (i != 5 && i != 9) CHECK(got.scores[i] == want.scores[i]);
  }
  CHECK(want.nan_queries[0] == 5);
  CHECK(got.nan_queries[0] == 6);
}

}  // namespace
}  // namespace dsv32::test
