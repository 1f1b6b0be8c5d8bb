// The indexer with INT8 keys beside the one with FP8 keys: how much faster, and whether it chooses
// the same ones.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "benchmarks/attention.h"
#include "lib/base/check.h"

#include "kernels/numbers.h"

namespace dsv32::bench {
namespace {

using kernels::CacheLayout;
using kernels::CpuKernels;
using kernels::kPageSize;
using kernels::ValueType;

constexpr int kDim = kIndexer.dim, kHeads = kIndexer.heads, kTopK = kIndexer.top_k;
constexpr int kQueries = 8;

struct Vectors {
  std::vector<float> keys;          // [tokens, dim]
  std::vector<float> queries;       // [kQueries, heads, dim]
  std::vector<float> head_weights;  // [kQueries, heads]
};

// Independent normal values: no key stands out, thousands lie at the edge of the best 2,048.
Vectors isotropic(int tokens) {
  Vectors v{std::vector<float>(static_cast<std::size_t>(tokens * kDim)),
            std::vector<float>(std::size_t{kQueries} * kHeads * kDim),
            std::vector<float>(std::size_t{kQueries} * kHeads)};
  fill_f32(v.keys.data(), tokens * kDim, 21);
  fill_f32(v.queries.data(), kQueries * kHeads * kDim, 22);
  fill_f32(v.head_weights.data(), kQueries * kHeads, 23);
  return v;
}

// As of a text: passages of 16 to 256 tokens about one of 256 subjects; subjects lie in the space
// of keys as activations do, with a spectrum that falls as 1 / (1 + i / 8); a key is its subject
// and half as much of its own. A query asks for one subject: each head for a mixture of it and
// other directions, heads weighing differently and some of them against.
Vectors passages(int tokens) {
  Vectors v = isotropic(tokens);
  constexpr int kSubjects = 256;
  std::vector<float> subjects(std::size_t{kSubjects} * kDim);
  fill_f32(subjects.data(), kSubjects * kDim, 24);
  const auto spectrum = [](int i) { return 1.0f / (1.0f + static_cast<float>(i) / 8.0f); };
  const auto subject = [&](int s, int i) {
    return subjects[static_cast<std::size_t>(s * kDim + i)];
  };
  std::mt19937 engine(25);
  std::uniform_int_distribution<int> any(0, kSubjects - 1), longest(16, 256);
  for (int t = 0; t < tokens;) {
    const int about = any(engine), end = std::min(tokens, t + longest(engine));
    for (; t < end; ++t) {
      for (int i = 0; i < kDim; ++i) {
        float& x = v.keys[static_cast<std::size_t>(t * kDim + i)];
        x = spectrum(i) * (subject(about, i) + 0.5f * x);
      }
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    const int about = any(engine);
    for (int i = 0; i < kHeads * kDim; ++i) {
      float& x = v.queries[static_cast<std::size_t>(q * kHeads * kDim + i)];
      x = spectrum(i % kDim) * (subject(about, i % kDim) + x);
    }
  }
  for (float& w : v.head_weights) w += 1.0f;
  return v;
}

std::vector<std::byte> stored(const std::vector<float>& x, ValueType type) {
  std::vector<std::byte> out(x.size() * (type == ValueType::f32 ? 4 : 2));
  for (std::size_t i = 0; i < x.size(); ++i)
    kernels::store_value(out.data(), type, static_cast<std::int64_t>(i), x[i]);
  return out;
}

// A cache of index keys, and queries, as one kind of indexer has them.
class IndexerBench {
 public:
  IndexerBench(const CpuKernels& table, const Vectors& v, const CacheLayout& layout)
      : table_(table), layout_(layout), tokens_(static_cast<int>(v.keys.size()) / kDim) {
    const ValueType type =
        layout.format == CacheLayout::Format::f32 ? ValueType::f32 : ValueType::bf16;
    const int pages = (tokens_ + kPageSize - 1) / kPageSize;
    page_table_.resize(static_cast<std::size_t>(pages));
    std::iota(page_table_.begin(), page_table_.end(), 0);
    std::shuffle(page_table_.begin(), page_table_.end(), std::mt19937(3));  // as after long use
    pages_ = huge_memory(static_cast<std::size_t>(pages) *
                         static_cast<std::size_t>(layout.index_page()));
    store_keys(v, type);
    make_queries(v, type);
    scores_.resize(static_cast<std::size_t>(tokens_));
    scratch_.resize(std::size_t{kPageSize} * (kDim + 1) + 16);
  }

  void scores(int query) {
    table_.index_scores({.q = q_.data() + std::ptrdiff_t{query} * kHeads * kDim,
                         .weights = weights_.data() + std::ptrdiff_t{query} * kHeads,
                         .pages = pages_.get(),
                         .page_table = page_table_.data(),
                         .scores = scores_.data(),
                         .scratch = scratch_.data(),
                         .layout = layout_,
                         .num_heads = kHeads,
                         .first = 0,
                         .last = tokens_});
  }

  std::vector<std::int32_t> choose(int query) {
    scores(query);
    std::vector<std::int32_t> best(kTopK);
    std::vector<std::uint32_t> scratch(static_cast<std::size_t>(kernels::top_k_scratch(kTopK)));
    table_.top_k({.scores = scores_.data(),
                  .scratch = scratch.data(),
                  .positions = best.data(),
                  .count = tokens_,
                  .top_k = kTopK});
    return best;
  }

 private:
  void store_keys(const Vectors& v, ValueType type) {
    const std::vector<float> gain(kDim, 1.0f), bias(kDim, 0.0f);
    std::vector<float> rope;
    std::vector<std::int32_t> slots;
    for (int t = 0; t < tokens_; ++t) {
      rope.insert(rope.end(), kMla.rope / 2, 0.8f);
      rope.insert(rope.end(), kMla.rope / 2, 0.6f);
      slots.push_back(page_table_[static_cast<std::size_t>(t / kPageSize)] * kPageSize +
                      t % kPageSize);
    }
    const auto keys = stored(v.keys, type);
    table_.index_store({.k = keys.data(),
                        .gain = gain.data(),
                        .bias = bias.data(),
                        .rope = rope.data(),
                        .slots = slots.data(),
                        .pages = pages_.get(),
                        .layout = layout_,
                        .type = type,
                        .pow2 = true,
                        .interleave = false,
                        .num_tokens = tokens_});
    rope_ = std::move(rope);
  }

  void make_queries(const Vectors& v, ValueType type) {
    q_.resize(v.queries.size() + 16);
    weights_.resize(v.head_weights.size() + 16);
    const auto queries = stored(v.queries, type);
    table_.index_query({.q = queries.data(),
                        .head_weights = v.head_weights.data(),
                        .rope = rope_.data(),
                        .out = q_.data(),
                        .out_weights = weights_.data(),
                        .type = type,
                        .pow2 = true,
                        .interleave = false,
                        .int8 = layout_.int8_index,
                        .num_tokens = kQueries,
                        .num_heads = kHeads,
                        .index_dim = kDim,
                        .rope_dim = kMla.rope});
  }

  const CpuKernels& table_;
  CacheLayout layout_;
  int tokens_;
  std::shared_ptr<std::byte> pages_;
  std::vector<std::int32_t> page_table_;
  std::vector<float> rope_, q_, weights_, scores_, scratch_;
};

CacheLayout layout(CacheLayout::Format format, bool int8) {
  return {format, kMla.latent, kMla.rope, kDim, int8};
}

// Parts of the best 2,048 that two kinds of indexer share, means over the queries.
struct Recall {
  double int8_fp8 = 0, int8_f32 = 0, fp8_f32 = 0;

  std::string text() const {
    return formatted("{:.4f} of FP8's; of unquantised: INT8 {:.4f}, FP8 {:.4f}", int8_fp8, int8_f32,
                     fp8_f32);
  }
};

Recall recall(const CpuKernels& table, const Vectors& v) {
  using Format = CacheLayout::Format;
  IndexerBench int8(table, v, layout(Format::fp8, true));
  IndexerBench fp8(table, v, layout(Format::fp8, false));
  IndexerBench f32(table, v, layout(Format::f32, false));
  const auto shared = [](const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
    std::vector<std::int32_t> both;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    return static_cast<double>(both.size()) / kTopK / kQueries;
  };
  Recall r;
  for (int q = 0; q < kQueries; ++q) {
    const auto a = int8.choose(q), b = fp8.choose(q), c = f32.choose(q);
    r.int8_fp8 += shared(a, b);
    r.int8_f32 += shared(a, c);
    r.fp8_f32 += shared(b, c);
  }
  return r;
}

Result speed(Bench& bench, int length) {
  length = bench.pick(length, 512);
  const Vectors v = isotropic(length);
  IndexerBench fp8(bench.kernels(), v, layout(CacheLayout::Format::fp8, false));
  IndexerBench int8(bench.kernels(), v, layout(CacheLayout::Format::fp8, true));
  const auto seconds = [](IndexerBench& indexer) {
    const double start = now();
    indexer.scores(0);
    return now() - start;
  };
  const Paired p = bench.compare([&] { return seconds(fp8); }, [&] { return seconds(int8); });
  return {.value = p.ratio,
          .note = formatted("FP8 {:.3f} ms, INT8 {:.3f} ms; {}", 1e3 * p.time, 1e3 * p.reference,
                            p.text())};
}

Result recall_row(Bench& bench) {
  const Recall text = recall(bench.kernels(), passages(bench.pick(32768, 4096)));
  const Recall worst = recall(bench.kernels(), isotropic(bench.pick(32768, 4096)));
  return {.value = text.int8_fp8,
          .note = formatted("{}; independent normal keys: {}", text.text(), worst.text())};
}

const Register rows([](std::vector<Row>& out) {
  for (const int length : {8192, 32768, 131072}) {
    out.push_back({.name = formatted("indexer_int8_{}k", length / 1024),
                   .shape = formatted("FP8 over INT8 keys: scores of {} keys, 1 thread", length),
                   .unit = "times faster",
                   .goal = 1.7,
                   .basis = "2: VPDPBUSD takes twice the products of VDPBF16PS",
                   .run = [length](Bench& bench) { return speed(bench, length); },
                   .per_table = true});
  }
  out.push_back({.name = "indexer_int8_recall",
                 .shape = "best 2,048 of 32,768 keys like passages of text, 8 queries",
                 .unit = "of FP8's choice",
                 .goal = 0.99,
                 .basis = "1: the same keys",
                 .run = recall_row});
});

}  // namespace
}  // namespace dsv32::bench
