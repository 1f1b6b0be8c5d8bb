// One layer's indexer and MLA. All keys of a chunk are stored before its queries read.
#include <algorithm>

#include "lib/model/forward.h"
#include "lib/model/pass.h"

namespace dsv32 {
namespace {

BatchView tile_of(const BatchView& b, std::int64_t first, std::int64_t count) {
  return {.tokens = b.tokens.columns(first, count),
          .positions = b.positions.columns(first, count),
          .slots = b.slots.columns(first, count),
          .seq_of_token = b.seq_of_token.columns(first, count),
          .page_table = b.page_table,
          .rope = b.rope.slice(first, count)};
}

}  // namespace

void Forward::attention(Pass& pass, const LayerWeights& w, const PagedKv& kv) {
  const std::int64_t n = pass.n;
  const AttentionWeights& a = w.attention;
  const Activation h = shaped(buffers_.h, n, config_.hidden_size);
  const TensorView q_a = buffers_.q_a.slice(0, n), kv_a = buffers_.kv_a.slice(0, n);
  const Activation q_a_normed = buffers_.q_a_normed.slice(0, n);
  backend_.linear(a.q_a, h, q_a);
  backend_.add_rms_norm(q_a, {}, a.q_a_norm, kernels::kNormEps, q_a_normed);
  backend_.linear(a.q_b, q_a_normed, buffers_.q.slice(0, n));
  backend_.linear(a.kv_a, h, kv_a);
  backend_.mla_store(pass.view, kv_a, a.kv_a_norm, kv);
  if (w.indexer) {
    const TensorView k = buffers_.index_k.slice(0, n);
    backend_.linear(w.indexer->wk, h, k);
    backend_.index_store(pass.view, indexer_, k, w.indexer->k_norm, w.indexer->k_bias, kv);
    backend_.linear(w.indexer->wq_b, q_a_normed, buffers_.index_q.slice(0, n));
    backend_.linear(w.indexer->weights, h, buffers_.index_weights.slice(0, n));
  }
  for (std::int64_t first = 0; first < n; first += kAttentionTile) {
    attention_tile(pass, w, kv, first, std::min<std::int64_t>(kAttentionTile, n - first));
  }
  const Activation heads = buffers_.attention.slice(0, n);
  backend_.linear(a.o, heads, shaped(buffers_.x, n, config_.hidden_size));
}

void Forward::attention_tile(Pass& pass, const LayerWeights& w, const PagedKv& kv,
                             std::int64_t first, std::int64_t count) {
  const BatchView tile = tile_of(pass.view, first, count);
  const auto begin = pass.batch.positions.begin() + first;
  const std::int64_t longest = *std::max_element(begin, begin + count) + 1;
  const std::int64_t top =
      w.indexer ? std::min<std::int64_t>(config_.index_topk, longest) : longest;
  const TensorView indices = shaped(buffers_.indices, count, top);
  const auto part = [&](TensorView buffer) {
    return buffer.data ? buffer.slice(first, count) : buffer;
  };
  backend_.index_select(tile, indexer_, part(buffers_.index_q), part(buffers_.index_weights), kv,
                        indices);
  if (pass.capture && pass.capture->selection) record_selection(pass, indices, first);
  const TensorView q_latent = buffers_.q_latent.slice(0, count);
  const TensorView out_latent = buffers_.out_latent.slice(0, count);
  backend_.mla_absorb(tile, w.attention.kv_b, mla_, part(buffers_.q), q_latent);
  backend_.sparse_mla(q_latent, mla_, kv, indices, rope_.softmax_scale(), out_latent);
  backend_.mla_expand(w.attention.kv_b, mla_, out_latent, buffers_.attention.slice(first, count));
}

// Slots back to positions: for observers.
void Forward::record_selection(Pass& pass, TensorView indices, std::int64_t first) {
  const auto top = static_cast<std::size_t>(config_.index_topk);
  std::vector<std::int32_t> slots(static_cast<std::size_t>(indices.rows * indices.cols));
  backend_.download(slots.data(), indices);
  const Batch& batch = pass.batch;
  std::vector<std::int32_t>& out = pass.capture->chosen;
  out.resize(weights_.layers.size() * static_cast<std::size_t>(pass.n) * top, -1);
  for (std::int64_t row = 0; row < indices.rows; ++row) {
    const auto token = static_cast<std::size_t>(first + row);
    const std::int32_t* pages =
        batch.page_table.data() +
        static_cast<std::ptrdiff_t>(batch.seq_of_token[token]) * batch.max_pages;
    std::int32_t* line =
        out.data() +
        (static_cast<std::size_t>(pass.layer) * static_cast<std::size_t>(pass.n) + token) * top;
    std::int32_t page = 0;  // slots ascend in position, so the page index only grows
    for (std::int64_t i = 0; i < indices.cols; ++i) {
      const std::int32_t slot = slots[static_cast<std::size_t>(row * indices.cols + i)];
      if (slot < 0) break;
      while (pages[page] != slot / kernels::kPageSize) ++page;
      line[i] = page * kernels::kPageSize + slot % kernels::kPageSize;
    }
  }
}

}  // namespace dsv32
