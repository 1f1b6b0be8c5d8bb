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
  backend_.linear(*a.q_a.bound, h, q_a);
  backend_.add_rms_norm(q_a, {}, a.q_a_norm, kernels::kNormEps, q_a_normed);
  backend_.linear(*a.q_b.bound, q_a_normed, buffers_.q.slice(0, n));
  backend_.linear(*a.kv_a.bound, h, kv_a);
  backend_.mla_store(pass.view, kv_a, a.kv_a_norm, kv);
  if (w.indexer) {
    const TensorView k = buffers_.index_k.slice(0, n);
    backend_.linear(*w.indexer->wk.bound, h, k);
    backend_.index_store(pass.view, indexer_, k, w.indexer->k_norm, w.indexer->k_bias, kv);
    backend_.linear(*w.indexer->wq_b.bound, q_a_normed, buffers_.index_q.slice(0, n));
    backend_.linear(*w.indexer->weights.bound, h, buffers_.index_weights.slice(0, n));
  }
  const std::int64_t tile = buffers_.indices.rows;
  for (std::int64_t first = 0; first < n; first += tile) {
    attention_tile(pass, w, kv, first, std::min(tile, n - first));
  }
  const Activation heads = buffers_.attention.slice(0, n);
  backend_.linear(*a.o.bound, heads, shaped(buffers_.x, n, config_.hidden_size));
}

// How many keys the lists of these rows have room for: as few as will do, or always as many.
std::int64_t Forward::list_width(const Pass& pass, const LayerWeights& w, std::int64_t first,
                                 std::int64_t count) const {
  if (shapes_.fixed_width) return buffers_.indices.cols;
  const auto rows = static_cast<std::int64_t>(pass.rows.size());  // padding has no keys
  const auto begin = pass.rows.positions.begin() + std::min(first, rows - 1);
  const auto end = pass.rows.positions.begin() + std::min(first + count, rows);
  const std::int64_t longest = *std::max_element(begin, end) + 1;
  return w.indexer ? std::min<std::int64_t>(config_.index_topk, longest) : longest;
}

void Forward::attention_tile(Pass& pass, const LayerWeights& w, const PagedKv& kv,
                             std::int64_t first, std::int64_t count) {
  const BatchView tile = tile_of(pass.view, first, count);
  const TensorView indices = shaped(buffers_.indices, count, list_width(pass, w, first, count));
  const auto part = [&](TensorView buffer) {
    return buffer.data ? buffer.slice(first, count) : buffer;
  };
  backend_.index_select(
      tile, indexer_, part(buffers_.index_q), part(buffers_.index_weights), kv, indices,
      pass.nan_queries.data ? pass.nan_queries.columns(first, count) : pass.nan_queries);
  if (pass.observed && pass.batch.selection) record_selection(pass, indices, first);
  const TensorView q_latent = buffers_.q_latent.slice(0, count);
  const TensorView out_latent = buffers_.out_latent.slice(0, count);
  backend_.mla_absorb(tile, *w.attention.kv_b.bound, mla_, part(buffers_.q), q_latent);
  backend_.sparse_mla(q_latent, mla_, kv, indices, rope_.softmax_scale(), out_latent);
  backend_.mla_expand(*w.attention.kv_b.bound, mla_, out_latent,
                      buffers_.attention.slice(first, count));
}

// Slots back to positions: for observers.
void Forward::record_selection(Pass& pass, TensorView indices, std::int64_t first) {
  const std::size_t rows = pass.rows.size(), top = static_cast<std::size_t>(config_.index_topk);
  std::vector<std::int32_t> slots(static_cast<std::size_t>(indices.rows * indices.cols));
  backend_.download(slots.data(), indices);
  const Batch& batch = pass.batch;
  std::vector<std::int32_t>& out = pass.observed->selection;
  out.resize(weights_.layers.size() * rows * top, -1);
  for (std::int64_t row = 0; row < indices.rows; ++row) {
    const auto token = static_cast<std::size_t>(first + row);
    if (token >= rows) break;  // padding
    const std::span<const std::int32_t> pages = batch.pages_of(pass.rows.seq_of_token[token]);
    std::int32_t* line = out.data() + (static_cast<std::size_t>(pass.layer) * rows + token) * top;
    std::size_t page = 0;  // slots ascend in position, so the page index only grows
    for (std::int64_t i = 0; i < indices.cols; ++i) {
      const std::int32_t slot = slots[static_cast<std::size_t>(row * indices.cols + i)];
      if (slot < 0) break;
      while (pages[page] != slot / kernels::kPageSize) ++page;
      line[i] = static_cast<std::int32_t>(page) * kernels::kPageSize + slot % kernels::kPageSize;
    }
  }
}

}  // namespace dsv32
