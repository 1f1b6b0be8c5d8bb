// The forward pass of one rank: weights, activations, caches. The only thing that computes.
#ifndef DSV32_LIB_MODEL_FORWARD_H_
#define DSV32_LIB_MODEL_FORWARD_H_

#include <cstdint>
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

// How many tokens of a page have their records. MTP's come a token later: position i's needs token
// i + 1.
struct PageTokens {
  int main = kernels::kPageSize, mtp = kernels::kPageSize;
};
enum class PageRecords { main, mtp, one };  // one a token of the model, or of MTP, or one in all

class Forward {
 public:
  // Asks `backend` whether it can do all this, binds the weights, takes buffers and caches.
  // `progress` gets the bytes of weights as they are bound.
  Forward(const ModelConfig& config, const ForwardOptions& options, Backend& backend,
          ModelWeights weights, BindProgress progress);

  // One step. Throws internal for a batch larger than the options allow, cancelled between layers.
  // What it wrote into the caches counts only if the caller says so. `result` is overwritten; its
  // memory is used again.
  void run(const Batch& batch, StepResult& result, const std::stop_token& cancel);

  // A page's bytes with all its caches, each layer's latent and index keys and then MTP's hidden
  // row: for files, and for memory of another kind. Not during run().
  std::size_t page_bytes() const { return page_bytes_; }
  // Of each record as many as are written; behind them `out` has zeros.
  void read_page(std::int32_t page, PageTokens tokens, std::span<std::byte> out);
  void write_page(std::int32_t page, std::span<const std::byte> in);
  std::size_t hidden_bytes() const { return hidden_bytes_; }  // of a hidden state: a page's end

  bool has_mtp() const { return weights_.mtp.has_value(); }
  std::size_t activation_bytes() const { return buffers_.bytes; }
  std::size_t kv_cache_bytes() const { return cache_bytes_; }

 private:
  struct Pass;  // what the layers of one step share

  void allocate_caches(const ForwardOptions& options);
  void define_mtp_rows();
  void for_each_part(FunctionRef<void(TensorView part, PageRecords records)> visit) const;
  void copy_page(PageCopy copy);  // in every cache
  void layers(Pass& pass);
  void layer(Pass& pass, const LayerWeights& w, const PagedKv& kv, TensorView input);
  void attention(Pass& pass, const LayerWeights& w, const PagedKv& kv);
  void attention_tile(Pass& pass, const LayerWeights& w, const PagedKv& kv, std::int64_t first,
                      std::int64_t count);
  std::int64_t list_width(const Pass& pass, const LayerWeights& w, std::int64_t first,
                          std::int64_t count) const;
  void record_selection(Pass& pass, TensorView indices, std::int64_t first);
  void record_experts(Pass& pass, TensorView ids);
  void mlp(const MlpWeights& w, const Activation& x, TensorView out);
  void moe(Pass& pass, const MoeWeights& w);

  // Logits of the listed rows of `from`, whose final norm is still to do if `gain` has data.
  struct Head {
    const BoundWeight& weight;
    TensorView from, gain;
  };
  void logits(const Head& head, TensorView rows, TensorView out);
  // Where what comes back goes; `hidden` null: not wanted.
  struct Out {
    float* logits = nullptr;
    std::byte* hidden = nullptr;
  };
  void logits_tile_by_tile(const Head& head, TensorView rows, Out out);
  Head main_head() const;
  Head mtp_head() const;

  void give_hidden(const Batch& batch);
  void fetch_hidden(const Batch& batch, StepResult& result, std::vector<Download>& parts) const;
  void keep_hidden(const StepInputs& in, std::int64_t rows);
  void draft(Pass& pass, const StepInputs& in);

  ModelConfig config_;
  Backend& backend_;
  ModelWeights weights_;
  Rope rope_;
  MlaShape mla_;
  IndexerShape indexer_;
  StepShapes shapes_;
  StepCapacity capacity_;
  std::shared_ptr<void> memory_;
  Buffers buffers_;
  InputBlock inputs_;
  std::shared_ptr<void> cache_memory_;
  std::size_t cache_bytes_ = 0, page_bytes_ = 0, hidden_bytes_ = 0;
  std::vector<PagedKv> caches_;  // [layers], then MTP's
  TensorView hidden_;            // [num_pages, hidden]: HiddenRow's places; MTP only
};

// Bytes of the caches for `num_pages` pages.
std::size_t cache_bytes(const ModelConfig& config, const ForwardOptions& options);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_FORWARD_H_
