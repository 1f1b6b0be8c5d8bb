// Topic indexer with INT8 keys: pages byte for byte, scores against the twin, and every kernel set
// against every other, bit for bit.
#include <limits>

#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;

CacheLayout int8_layout(int dim) {
  return {CacheLayout::Format::fp8, 0, dim / 2, dim, /*int8_index=*/true};
}

struct Keys {
  int tokens, dim;
  std::vector<float> k, gain, bias, rope;
  std::vector<std::int32_t> page_table, slots;
};

// Pages in reverse order, so that neither kernel nor test can take positions for slots.
Keys make_keys(Data& data, int tokens, int dim) {
  Keys keys{tokens,
            dim,
            data.floats(tokens * dim, 3.0f),
            data.floats(dim),
            {},
            data.rope(tokens, dim / 2),
            {},
            {}};
  keys.bias = data.floats(dim);
  const int pages = (tokens + kPageSize - 1) / kPageSize;
  for (int i = 0; i < pages; ++i) keys.page_table.push_back(pages - 1 - i);
  for (int t = 0; t < tokens; ++t) {
    keys.slots.push_back(keys.page_table[static_cast<std::size_t>(t / kPageSize)] * kPageSize +
                         t % kPageSize);
  }
  return keys;
}

Bytes store(const CpuKernels& table, const Keys& keys) {
  const CacheLayout layout = int8_layout(keys.dim);
  Bytes pages(keys.page_table.size() * static_cast<std::size_t>(layout.index_page()),
              std::byte{0xA5});
  const Bytes k = Data::stored(keys.k, ValueType::bf16);
  table.index_store({.k = k.data(),
                     .gain = keys.gain.data(),
                     .bias = keys.bias.data(),
                     .rope = keys.rope.data(),
                     .slots = keys.slots.data(),
                     .pages = pages.data(),
                     .layout = layout,
                     .type = ValueType::bf16,
                     .pow2 = true,
                     .interleave = false,
                     .num_tokens = keys.tokens});
  return pages;
}

struct Query {
  std::vector<float> q, weights;
};

Query make_query(const CpuKernels& table, const Bytes& q, const std::vector<float>& head_weights,
                 const std::vector<float>& rope, int dim) {
  const auto heads = static_cast<int>(head_weights.size());
  Query out{std::vector<float>(static_cast<std::size_t>(heads * dim)),
            std::vector<float>(static_cast<std::size_t>(heads))};
  table.index_query({.q = q.data(),
                     .head_weights = head_weights.data(),
                     .rope = rope.data(),
                     .out = out.q.data(),
                     .out_weights = out.weights.data(),
                     .type = ValueType::bf16,
                     .pow2 = true,
                     .interleave = false,
                     .int8 = true,
                     .num_tokens = 1,
                     .num_heads = heads,
                     .index_dim = dim,
                     .rope_dim = dim / 2});
  return out;
}

// Scores of [0, tokens), cut at `cut`: where must not matter.
std::vector<float> score(const CpuKernels& table, const Query& query, const Keys& keys,
                         const Bytes& pages, int cut) {
  std::vector<float> scores(static_cast<std::size_t>(keys.tokens), 1e9f);
  std::vector<float> scratch(static_cast<std::size_t>(kPageSize * (keys.dim + 1)));
  for (const auto& [first, last] : {std::pair{0, cut}, std::pair{cut, keys.tokens}}) {
    table.index_scores({.q = query.q.data(),
                        .weights = query.weights.data(),
                        .pages = pages.data(),
                        .page_table = keys.page_table.data(),
                        .scores = scores.data(),
                        .scratch = scratch.data(),
                        .layout = int8_layout(keys.dim),
                        .num_heads = static_cast<int>(query.weights.size()),
                        .first = first,
                        .last = last});
  }
  return scores;
}

std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

bool same_bits(const std::vector<float>& x, const std::vector<float>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

// A gain of 0 makes the LayerNorm's output the bias, here small integers, whose Hadamard transform
// of order 64 (a division by 8) BF16 holds exactly: nothing before the codes is rounded.
TEST_CASE("INT8 pages are what the definition says, byte for byte") {
  Data data(1);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (int round = 0; round < 8; ++round) {
      constexpr int kDim = 64;
      Keys keys = make_keys(data, 70, kDim);
      keys.gain.assign(kDim, 0.0f);
      for (float& x : keys.bias) x = static_cast<float>(data.integer(-3, 3));
      if (round == 0) keys.bias.assign(kDim, 0.0f);
      keys.rope.assign(keys.rope.size(), 0.0f);
      for (std::size_t i = 0; i < keys.rope.size(); ++i)
        keys.rope[i] = i / (kDim / 4) % 2 == 0 ? 1.0f : 0.0f;  // cosines, then sines
      std::vector<float> x(kDim);
      float amax = 1e-4f;
      for (int i = 0; i < kDim; ++i) {
        float& value = x[static_cast<std::size_t>(i)];
        for (int j = 0; j < kDim; ++j) {
          value += __builtin_parity(static_cast<unsigned>(i & j)) != 0
                       ? -keys.bias[static_cast<std::size_t>(j)]
                       : keys.bias[static_cast<std::size_t>(j)];
        }
        value /= 8.0f;
        amax = std::max(amax, std::fabs(value));
      }
      const float scale = amax / 127.0f;
      const auto page = static_cast<std::size_t>(int8_layout(kDim).index_page());
      Bytes want(2 * page, std::byte{0xA5});
      for (const std::int32_t slot : keys.slots) {
        std::byte* at = want.data() + static_cast<std::size_t>(slot / kPageSize) * page;
        for (int i = 0; i < kDim; ++i) {
          const float code = std::nearbyint(x[static_cast<std::size_t>(i)] / scale);
          at[slot % kPageSize * kDim + i] = static_cast<std::byte>(static_cast<std::int8_t>(code));
        }
        std::memcpy(at + kPageSize * kDim + slot % kPageSize * 4, &scale, 4);
      }
      REQUIRE(store(table, keys) == want);
      REQUIRE(store(reference, keys) == want);
    }
  });
}

TEST_CASE("INT8 pages, queries and scores: the same bits in every kernel set, and near the twin") {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  const CpuKernels& generic = *tables.tables[tables.count - 2];
  REQUIRE(std::strcmp(generic.name, "generic") == 0);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    Data data(2);
    for (const int heads : {1, 6, 16, 17, 33, 48, 64, 70, 128}) {
      for (const int dim : {16, 32, 128}) {
        const int tokens = data.integer(1, 200);
        INFO("heads " << heads << ", dim " << dim << ", tokens " << tokens);
        const Keys keys = make_keys(data, tokens, dim);
        const Bytes pages = store(table, keys), q = data.values(heads * dim, ValueType::bf16);
        const auto head_weights = data.floats(heads), rope = data.rope(1, dim / 2);
        const Query query = make_query(table, q, head_weights, rope, dim);
        REQUIRE(pages == store(generic, keys));
        const Query other = make_query(generic, q, head_weights, rope, dim);
        REQUIRE(query.q == other.q);
        REQUIRE(query.weights == other.weights);
        const auto scores = score(table, query, keys, pages, tokens / 2);
        REQUIRE(same_bits(scores, score(table, query, keys, pages, tokens / 3)));
        REQUIRE(same_bits(scores, score(generic, query, keys, pages, tokens / 2)));
        // Dots are exact; what is left are fp32 sums of at most 128 products.
        const auto twin = score(reference, query, keys, pages, tokens / 2);
        REQUIRE(deviation(doubles(scores), doubles(twin)) < 1e-6);
      }
    }
  });
}

TEST_CASE("index queries with INT8 codes equal their twins") {
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    Data data(3);
    const int heads = 40, dim = 128;
    const Bytes q = data.values(heads * dim, ValueType::bf16);
    const auto head_weights = data.floats(heads), rope = data.rope(1, dim / 2);
    const Query got = make_query(table, q, head_weights, rope, dim);
    const Query want = make_query(reference, q, head_weights, rope, dim);
    CHECK(deviation(doubles(got.weights), doubles(want.weights)) < 0.01);  // a BF16 step of amax
    CHECK(deviation(doubles(got.q), doubles(want.q)) < 1.5 / 127);  // one code, after a BF16 step
    for (const float x : got.q) REQUIRE((x == std::round(x) && std::fabs(x) <= 127.0f));
  });
}

TEST_CASE("INT8 scores at the largest codes are exact") {
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    const int dim = 128, heads = 16;
    for (const int sign : {1, -1}) {
      Data data(4);
      const Keys keys = make_keys(data, 1, dim);
      Bytes pages(static_cast<std::size_t>(int8_layout(dim).index_page()));
      std::fill_n(pages.begin(), dim, static_cast<std::byte>(sign * 127));
      const float scale = 0.5f;
      std::memcpy(pages.data() + kPageSize * dim, &scale, 4);
      const Query query{std::vector<float>(static_cast<std::size_t>(heads * dim),
                                           static_cast<float>(sign) * 127.0f),
                        std::vector<float>(heads, 0.25f)};
      const float want = 16 * 0.25f * 128 * 127 * 127 * 0.5f;
      CHECK(score(table, query, keys, pages, 0) == std::vector<float>{want});
      CHECK(score(reference, query, keys, pages, 0) == std::vector<float>{want});
    }
  });
}

TEST_CASE("INT8 keys and queries that are not finite score NaN") {
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const CpuKernels* t : {&table, &reference}) {
      for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
        Data data(5);
        const int dim = 32, heads = 20;
        Keys keys = make_keys(data, 5, dim);
        keys.k[static_cast<std::size_t>(2 * dim + 7)] = bad;
        const Bytes pages = store(*t, keys);
        auto q = data.floats(heads * dim);
        const auto head_weights = data.floats(heads), rope = data.rope(1, dim / 2);
        const auto run = [&] {
          const Bytes values = Data::stored(q, ValueType::bf16);
          return score(*t, make_query(*t, values, head_weights, rope, dim), keys, pages, 0);
        };
        const auto scores = run();
        for (std::size_t i = 0; i < scores.size(); ++i) CHECK(std::isnan(scores[i]) == (i == 2));
        q[3] = bad;
        for (const float x : run()) CHECK(std::isnan(x));
      }
    }
  });
}

}  // namespace
}  // namespace dsv32::test
