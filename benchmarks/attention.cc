#include "benchmarks/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "kernels/numbers.h"

namespace dsv32::bench {
namespace {

using kernels::kPageSize;

constexpr kernels::CacheLayout kLayout{.format = kernels::CacheLayout::Format::fp8,
                                       .latent = kMla.latent,
                                       .rope = kMla.rope,
                                       .index_dim = kIndexer.dim};
constexpr int kPattern = 1024;  // distinct records; the rest repeats them, but lies elsewhere

std::shared_ptr<void> normal_bf16(std::int64_t count, unsigned seed) {
  std::shared_ptr<std::byte> memory = huge_memory(static_cast<std::size_t>(2 * count));
  fill_bf16(memory.get(), count, seed);
  return memory;
}

TensorView view(const void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
  return {.data = static_cast<std::byte*>(const_cast<void*>(data)),
          .dtype = dtype,
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

void fill_latent(std::byte* records, int count) {
  constexpr std::size_t kRecord = kLayout.latent_record();
  for (int i = 0; i < std::min(count, kPattern); ++i) {
    std::byte* record = records + static_cast<std::size_t>(i) * kRecord;
    fill_codes({record, kMla.latent}, static_cast<std::uint64_t>(i) + 11);
    for (int s = 0; s < kLayout.scales(); ++s) {
      const float scale = 0.0078125f;
      std::memcpy(record + kMla.latent + 4 * s, &scale, 4);
    }
    fill_bf16(record + kMla.latent + 4 * kLayout.scales(), kMla.rope, static_cast<unsigned>(i));
  }
  for (int i = kPattern; i < count; i += kPattern) {
    std::memcpy(records + static_cast<std::size_t>(i) * kRecord, records,
                static_cast<std::size_t>(std::min(kPattern, count - i)) * kRecord);
  }
}

void fill_index(std::byte* pages, int count) {
  constexpr std::size_t kPage = kLayout.index_page();
  std::mt19937 engine(5);
  std::uniform_real_distribution<float> scale(0.5f, 1.5f);
  for (int i = 0; i < count; ++i) {
    std::byte* page = pages + static_cast<std::size_t>(i) * kPage;
    fill_codes({page, kPageSize * kIndexer.dim}, static_cast<std::uint64_t>(i) + 99);
    for (int j = 0; j < kPageSize; ++j) {
      const float x = scale(engine) / 64;
      std::memcpy(page + kPageSize * kIndexer.dim + 4 * j, &x, 4);
    }
  }
}

}  // namespace

void fill_bf16(void* out, std::int64_t count, unsigned seed, float scale) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  auto* data = static_cast<std::byte*>(out);
  for (std::int64_t i = 0; i < count; ++i)
    kernels::store_value(data, kernels::ValueType::bf16, i, scale * normal(engine));
}

void fill_f32(float* out, std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::generate_n(out, count, [&] { return normal(engine); });
}

AttentionBench::AttentionBench(Bench& bench, int tokens, int queries) {
  const int pages = (tokens + kPageSize - 1) / kPageSize;
  const std::int64_t page_bytes = std::int64_t{kPageSize} * kLayout.latent_record();
  latent_ = huge_memory(static_cast<std::size_t>(pages * page_bytes));
  index_ = huge_memory(static_cast<std::size_t>(pages) * kLayout.index_page());
  fill_latent(latent_.get(), pages * kPageSize);
  fill_index(index_.get(), pages);
  kv_ = {.latent = view(latent_.get(), DType::u8, pages, page_bytes),
         .index_key = view(index_.get(), DType::u8, pages, kLayout.index_page()),
         .layout = kLayout};
  for (int i = 0; i < pages; ++i) page_table_.push_back(i);
  std::shuffle(page_table_.begin(), page_table_.end(), std::mt19937(3));  // as after long use
  q_latent_ = normal_bf16(std::int64_t{queries} * kMla.heads * (kMla.latent + kMla.rope), 1);
  out_latent_ = normal_bf16(std::int64_t{queries} * kMla.heads * kMla.latent, 2);
  index_q_ = normal_bf16(std::int64_t{queries} * kIndexer.heads * kIndexer.dim, 3);
  head_weights_.resize(static_cast<std::size_t>(queries * kIndexer.heads));
  fill_f32(head_weights_.data(), queries * kIndexer.heads, 4);
  for (int t = 0; t < queries; ++t) {
    rope_.insert(rope_.end(), kMla.rope / 2, 0.8f);
    rope_.insert(rope_.end(), kMla.rope / 2, 0.6f);
  }
  // The indexer's own inputs, for the kernel alone.
  query_.resize(static_cast<std::size_t>(kIndexer.heads * kIndexer.dim) + 16);
  query_weights_.resize(static_cast<std::size_t>(kIndexer.heads) + 16);
  scores_.resize(static_cast<std::size_t>(pages * kPageSize) + 16);
  scratch_.resize(std::size_t{kPageSize} * (kIndexer.dim + 1) + 16);
  bench.kernels().index_query({.q = static_cast<std::byte*>(index_q_.get()),
                               .head_weights = head_weights_.data(),
                               .rope = rope_.data(),
                               .out = query_.data(),
                               .out_weights = query_weights_.data(),
                               .type = kernels::ValueType::bf16,
                               .pow2 = true,
                               .interleave = false,
                               .num_tokens = 1,
                               .num_heads = kIndexer.heads,
                               .index_dim = kIndexer.dim,
                               .rope_dim = kMla.rope});
}

TensorView AttentionBench::ints(std::vector<std::int32_t>& values, std::int64_t rows) const {
  const auto count = static_cast<std::int64_t>(values.size());
  return view(values.data(), DType::i32, rows, count / rows);
}

BatchView AttentionBench::batch(int length, int queries) {
  tokens_.assign(static_cast<std::size_t>(queries), 0);
  sequences_ = slots_ = tokens_;
  positions_.clear();
  for (int t = 0; t < queries; ++t) positions_.push_back(length - queries + t);
  return {.tokens = ints(tokens_, 1),
          .positions = ints(positions_, 1),
          .slots = ints(slots_, 1),
          .seq_of_token = ints(sequences_, 1),
          .page_table = ints(page_table_, 1),
          .rope = view(rope_.data(), DType::f32, queries, kMla.rope)};
}

void AttentionBench::attend(Backend& backend, TensorView indices) {
  backend.sparse_mla(
      view(q_latent_.get(), DType::bf16, indices.rows, kMla.heads * (kMla.latent + kMla.rope)),
      kMla, kv_, indices, kSoftmaxScale,
      view(out_latent_.get(), DType::bf16, indices.rows, kMla.heads * kMla.latent));
}

void AttentionBench::sparse(Backend& backend, int length, int queries) {
  const int top = std::min(kIndexer.top_k, length);
  indices_.resize(static_cast<std::size_t>(queries) * static_cast<std::size_t>(top));
  const TensorView indices = ints(indices_, queries);
  backend.index_select(batch(length, queries), kIndexer,
                       view(index_q_.get(), DType::bf16, queries, kIndexer.heads * kIndexer.dim),
                       view(head_weights_.data(), DType::f32, queries, kIndexer.heads), kv_,
                       indices, {});
  attend(backend, indices);
}

void AttentionBench::dense(Backend& backend, int length, int queries) {
  indices_.assign(static_cast<std::size_t>(queries) * static_cast<std::size_t>(length), -1);
  for (int t = 0; t < queries; ++t) {
    std::int32_t* list = indices_.data() + std::ptrdiff_t{t} * length;
    for (int s = 0; s <= length - queries + t; ++s) {
      list[s] = page_table_[static_cast<std::size_t>(s / kPageSize)] * kPageSize + s % kPageSize;
    }
  }
  attend(backend, ints(indices_, queries));
}

void AttentionBench::attend_listed(Backend& backend, int listed) {
  if (static_cast<int>(random_.size()) != listed) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(kv_.latent.rows * kPageSize));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    std::mt19937 engine(17);
    random_.clear();
    std::sample(all.begin(), all.end(), std::back_inserter(random_), listed, engine);
  }
  attend(backend, ints(random_, 1));
}

void AttentionBench::scores(const kernels::CpuKernels& table, int length) {
  table.index_scores({.q = query_.data(),
                      .weights = query_weights_.data(),
                      .pages = index_.get(),
                      .page_table = page_table_.data(),
                      .scores = scores_.data(),
                      .scratch = scratch_.data(),
                      .layout = kLayout,
                      .num_heads = kIndexer.heads,
                      .first = 0,
                      .last = length});
}

}  // namespace dsv32::bench
