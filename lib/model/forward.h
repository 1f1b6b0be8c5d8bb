// The forward pass of one rank: weights, activations, caches. The only thing that computes.
#ifndef DSV32_LIB_MODEL_FORWARD_H_
#define DSV32_LIB_MODEL_FORWARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "dsv32/config.h"
#include "dsv32/types.h"

#include "lib/backend/backend.h"
#include "lib/model/batch.h"
#include "lib/model/buffers.h"
#include "lib/model/rope.h"
#include "lib/weights/weights.h"

namespace dsv32 {

struct ForwardOptions {
  BufferOptions buffers;
  KvFormat kv_format = KvFormat::fp8;
  IndexerKeys indexer_keys = IndexerKeys::fp8;
  std::int64_t num_pages = 0;
};

// What to keep of a pass beside its logits; the vectors are filled if wanted.
struct Capture {
  bool selection = false, experts = false, mtp_logits = false;
  std::vector<std::int32_t> chosen;          // [layers, num_tokens, index_topk] positions
  std::vector<std::int32_t> chosen_experts;  // [MoE layers, num_tokens, k]
  std::vector<float> draft_logits;           // [MTP rows, vocab]
};

// MTP's state between the chunks of one sequence: the row after the final norm of the last
// position.
struct MtpState {
  std::vector<std::byte> hidden;  // empty: none
  std::int64_t position = -1;     // of `hidden`
  bool refresh_only = false;      // this pass computes `hidden` only, no draft
};

class Forward {
 public:
  // Takes the buffers and caches. `weights` belong to it from here on.
  Forward(const ModelConfig& config, const ForwardOptions& options, Backend& backend,
          ModelWeights weights);

  // One pass over `batch` (at most max_batch_tokens). logits [logits_rows, vocab] f32 go to
  // `on_logits` in tiles of at most kLogitsTile rows. With MTP, one sequence a batch, whose state
  // is `mtp`. Throws cancelled between layers. What it wrote into the caches counts only if the
  // caller says so.
  void run(const Batch& batch, const std::function<void(std::span<const float>)>& on_logits,
           MtpState* mtp, Capture* capture, const std::stop_token& cancel);

  void copy_page(std::int32_t from, std::int32_t to);  // in every layer

  bool has_mtp() const { return weights_.mtp.has_value(); }
  std::size_t activation_bytes() const { return buffers_.bytes; }
  std::size_t kv_cache_bytes() const { return cache_bytes_; }

 private:
  struct Pass;  // what one run's steps share

  void allocate_caches(const ForwardOptions& options);
  BatchView upload(const Batch& batch);
  void layer(Pass& pass, const LayerWeights& w, const PagedKv& kv, TensorView input);
  void attention(Pass& pass, const LayerWeights& w, const PagedKv& kv);
  void attention_tile(Pass& pass, const LayerWeights& w, const PagedKv& kv, std::int64_t first,
                      std::int64_t count);
  void record_selection(Pass& pass, TensorView indices, std::int64_t first);
  void mlp(const MlpWeights& w, const Activation& x, TensorView out);
  void moe(Pass& pass, const MoeWeights& w);
  TensorView gather(TensorView from, std::span<const std::int32_t> rows, TensorView to);
  TensorView final_rows(std::span<const std::int32_t> rows, TensorView gain);
  void emit_logits(const Linear& head, TensorView h,
                   const std::function<void(std::span<const float>)>& on_logits);
  Batch draft_batch(const Batch& batch, bool has_previous) const;
  void draft(Pass& pass, MtpState& state);

  ModelConfig config_;
  Backend& backend_;
  ModelWeights weights_;
  Rope rope_;
  MlaShape mla_;
  IndexerShape indexer_;
  std::shared_ptr<void> memory_;
  Buffers buffers_;
  std::shared_ptr<void> cache_memory_;
  std::size_t cache_bytes_ = 0;
  std::vector<PagedKv> caches_;  // [layers], then MTP's
};

// Bytes of the caches for `num_pages` pages.
std::size_t cache_bytes(const ModelConfig& config, Numerics numerics, KvFormat format, bool mtp,
                        std::int64_t num_pages);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_FORWARD_H_
