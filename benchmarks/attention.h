// One layer's cache with random records at the widths of DeepSeek-V3.2, and one step's inputs for
// it: what the attention rows run on.
#ifndef DSV32_BENCHMARKS_ATTENTION_H_
#define DSV32_BENCHMARKS_ATTENTION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "benchmarks/harness.h"

namespace dsv32::bench {

inline constexpr MlaShape kMla{.heads = 128, .nope = 128, .rope = 64, .v = 128, .latent = 512};
inline constexpr IndexerShape kIndexer{.heads = 64, .dim = 128, .top_k = 2048};
// Of one (query, key) pair: absorbed attention, the indexer, and attention over expanded heads.
inline constexpr double kAbsorbedOperations = 2.0 * kMla.heads * (2 * kMla.latent + kMla.rope);
inline constexpr double kIndexerOperations = 2.0 * kIndexer.heads * kIndexer.dim;
inline constexpr double kExpandedOperations = 2.0 * kMla.heads * (kMla.nope + kMla.rope + kMla.v);
inline constexpr float kSoftmaxScale = 0.1352f;

// Values of a normal distribution, times `scale`.
void fill_bf16(void* out, std::int64_t count, unsigned seed, float scale = 1.0f);
void fill_f32(float* out, std::int64_t count, unsigned seed);

class AttentionBench {
 public:
  // `tokens` positions in the cache, steps of at most `queries` queries.
  AttentionBench(Bench& bench, int tokens, int queries);

  // `queries` queries, the last at position `length` - 1, each one position behind the next.
  void sparse(Backend& backend, int length, int queries);  // indexer, top-k, attention
  void dense(Backend& backend, int length, int queries);   // attention over every key
  void attend_listed(Backend& backend, int listed);        // attention over `listed` random keys

  // Scores of one query for all keys of [0, length), by the table's kernel alone.
  void scores(const kernels::CpuKernels& table, int length);

 private:
  TensorView ints(std::vector<std::int32_t>& values, std::int64_t rows) const;
  BatchView batch(int length, int queries);
  void attend(Backend& backend, TensorView indices);

  std::shared_ptr<std::byte> latent_, index_;
  PagedKv kv_;
  std::vector<std::int32_t> tokens_, positions_, slots_, sequences_, page_table_, indices_, random_;
  std::vector<float> rope_, head_weights_, query_, query_weights_, scores_, scratch_;
  std::shared_ptr<void> q_latent_, out_latent_, index_q_;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_ATTENTION_H_
