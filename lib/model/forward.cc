// Embed, the layer loop, logits, and MTP's draft.
#include "lib/model/forward.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/model/pass.h"

namespace dsv32 {
namespace {

kernels::CacheLayout cache_layout(const ModelConfig& c, Numerics numerics, KvFormat format) {
  using Format = kernels::CacheLayout::Format;
  return {.format = numerics == Numerics::exact ? Format::f32
                    : format == KvFormat::bf16  ? Format::bf16
                                                : Format::fp8,
          .latent = c.kv_lora_rank,
          .rope = c.qk_rope_head_dim,
          .index_dim = c.index_head_dim};
}

std::int64_t latent_page_bytes(const kernels::CacheLayout& layout) {
  return std::int64_t{kernels::kPageSize} * layout.latent_record();
}

TensorView bytes_view(std::byte* data, std::int64_t rows, std::int64_t cols) {
  return {.data = data, .dtype = DType::u8, .rows = rows, .cols = cols, .stride = cols};
}

}  // namespace

std::size_t cache_bytes(const ModelConfig& config, Numerics numerics, KvFormat format, bool mtp,
                        std::int64_t num_pages) {
  const kernels::CacheLayout layout = cache_layout(config, numerics, format);
  const std::int64_t layers =
      config.num_hidden_layers + (mtp ? config.num_nextn_predict_layers : 0);
  return static_cast<std::size_t>(layers * num_pages *
                                  (latent_page_bytes(layout) + layout.index_page()));
}

Forward::Forward(const ModelConfig& config, const ForwardOptions& options, Backend& backend,
                 ModelWeights weights)
    : config_(config),
      backend_(backend),
      weights_(std::move(weights)),
      rope_(config),
      mla_(backend_limits(config, options.buffers).mla),
      indexer_(backend_limits(config, options.buffers).indexer),
      memory_(backend.allocate(Buffers(config, options.buffers, nullptr).bytes)),
      buffers_(config, options.buffers, static_cast<std::byte*>(memory_.get())) {
  backend_.reserve(backend_limits(config, options.buffers));
  allocate_caches(options);
}

void Forward::allocate_caches(const ForwardOptions& options) {
  const Numerics numerics = options.buffers.numerics;
  kernels::CacheLayout layout = cache_layout(config_, numerics, options.kv_format);
  layout.int8_index = options.indexer_keys == IndexerKeys::int8;  // of the same size
  cache_bytes_ = cache_bytes(config_, numerics, options.kv_format, has_mtp(), options.num_pages);
  cache_memory_ = backend_.allocate(cache_bytes_);
  auto* next = static_cast<std::byte*>(cache_memory_.get());
  const std::size_t layers = weights_.layers.size() + (has_mtp() ? 1 : 0);
  for (std::size_t i = 0; i < layers; ++i) {
    PagedKv kv{.latent = bytes_view(next, options.num_pages, latent_page_bytes(layout)),
               .index_key = {},
               .layout = layout,
               .pow2_scales = config_.ue8m0_scales};
    next += kv.latent.rows * kv.latent.cols;
    kv.index_key = bytes_view(next, options.num_pages, layout.index_page());
    next += kv.index_key.rows * kv.index_key.cols;
    caches_.push_back(kv);
  }
}

void Forward::copy_page(std::int32_t from, std::int32_t to) {
  for (const PagedKv& kv : caches_) {
    backend_.copy(kv.latent.slice(to, 1), kv.latent.slice(from, 1));
    if (kv.index_key.cols > 0)
      backend_.copy(kv.index_key.slice(to, 1), kv.index_key.slice(from, 1));
  }
}

BatchView Forward::upload(const Batch& batch) {
  const auto n = static_cast<std::int64_t>(batch.tokens.size());
  const auto put = [&](TensorView buffer, const std::vector<std::int32_t>& values) {
    const TensorView view = shaped(buffer, 1, static_cast<std::int64_t>(values.size()));
    backend_.upload(view, values.data());
    return view;
  };
  std::vector<float> angles(static_cast<std::size_t>(n) * static_cast<std::size_t>(rope_.dim()));
  rope_.fill(batch.positions, angles.data());
  const TensorView rope = shaped(buffers_.rope, n, rope_.dim());
  backend_.upload(rope, angles.data());
  BatchView view{.tokens = put(buffers_.tokens, batch.tokens),
                 .positions = put(buffers_.positions, batch.positions),
                 .slots = put(buffers_.slots, batch.slots),
                 .seq_of_token = put(buffers_.seq_of_token, batch.seq_of_token),
                 .page_table = put(buffers_.page_table, batch.page_table),
                 .rope = rope};
  view.page_table = shaped(view.page_table, batch.num_seqs, batch.max_pages);
  return view;
}

void Forward::run(const Batch& batch, const std::function<void(std::span<const float>)>& on_logits,
                  MtpState* mtp, Capture* capture, const std::stop_token& cancel) {
  Pass pass(batch, upload(batch), capture, cancel);
  backend_.embed(pass.view, weights_.embed_tokens, buffers_.embedded.slice(0, pass.n));
  backend_.embed(pass.view, weights_.embed_tokens, buffers_.residual.slice(0, pass.n));
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    layer(pass, weights_.layers[i], caches_[i], i == 0 ? buffers_.embedded : TensorView{});
  }
  if (has_mtp()) {
    DSV32_CHECK(mtp && batch.num_seqs == 1, internal, "MTP needs its state and one sequence");
    std::vector<std::int32_t> all(static_cast<std::size_t>(pass.n));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    final_rows(all, weights_.norm);
    for_tiles(batch.logits_rows, [&](std::span<const std::int32_t> rows) {
      const TensorView h = gather(buffers_.final_h.dense, rows, buffers_.row_x);
      emit_logits(weights_.lm_head, h, on_logits);
    });
    draft(pass, *mtp);
  } else {
    for_tiles(batch.logits_rows, [&](std::span<const std::int32_t> rows) {
      emit_logits(weights_.lm_head, final_rows(rows, weights_.norm), on_logits);
    });
  }
  backend_.synchronize();
}

void Forward::layer(Pass& pass, const LayerWeights& w, const PagedKv& kv, TensorView input) {
  DSV32_CHECK(!pass.cancel.stop_requested(), cancelled, "the pass was cancelled");
  const std::int64_t hidden = config_.hidden_size;
  const TensorView x = shaped(buffers_.x, pass.n, hidden),
                   residual = shaped(buffers_.residual, pass.n, hidden);
  const Activation h = shaped(buffers_.h, pass.n, hidden);
  const float eps = config_.rms_norm_eps;
  if (input.data) {  // the first layer: there is nothing to add yet, the residual holds the same
                     // rows
    backend_.add_rms_norm(input.slice(0, pass.n), {}, w.input_layernorm, eps, h);
  } else {
    backend_.add_rms_norm(x, residual, w.input_layernorm, eps, h);
  }
  attention(pass, w, kv);
  backend_.add_rms_norm(x, residual, w.post_attention_layernorm, eps, h);
  if (w.mlp) {
    mlp(*w.mlp, h, x);
  } else {
    moe(pass, *w.moe);
  }
  ++pass.layer;
}

// Copies the listed rows of `from` behind each other into `to`.
TensorView Forward::gather(TensorView from, std::span<const std::int32_t> rows, TensorView to) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const TensorView list = shaped(buffers_.rows, 1, count), out = to.slice(0, count);
  backend_.upload(list, rows.data());
  backend_.gather_rows(from, list, out);
  return out;
}

// The final norm of the listed rows; the residual sum is formed as in a layer.
TensorView Forward::final_rows(std::span<const std::int32_t> rows, TensorView gain) {
  const TensorView x = gather(buffers_.x, rows, buffers_.row_x);
  const TensorView residual = gather(buffers_.residual, rows, buffers_.row_residual);
  const Activation out = buffers_.final_h.slice(0, x.rows);
  backend_.add_rms_norm(x, residual, gain, config_.rms_norm_eps, out);
  return out.dense;
}

void Forward::emit_logits(const Linear& head, TensorView h,
                          const std::function<void(std::span<const float>)>& on_logits) {
  const TensorView logits = buffers_.logits.slice(0, h.rows);
  backend_.linear(head, {.dense = h, .fp8 = {}, .scale = {}}, logits);
  backend_.synchronize();
  on_logits({reinterpret_cast<const float*>(logits.data),
             static_cast<std::size_t>(h.rows * logits.cols)});
}

// MTP rows lag by one: row i is (hidden i, token i + 1), with RoPE position and cache slot i.
Batch Forward::draft_batch(const Batch& batch, bool has_previous) const {
  Batch out = batch;
  const std::size_t skip = has_previous ? 0 : 1;
  out.tokens.erase(out.tokens.begin(), out.tokens.begin() + static_cast<std::ptrdiff_t>(skip));
  out.positions.clear();
  out.slots.clear();
  for (std::size_t i = skip; i < batch.tokens.size(); ++i) {
    const std::int32_t position = batch.positions[i] - 1;
    const auto page = static_cast<std::size_t>(position / kernels::kPageSize);
    out.positions.push_back(position);
    out.slots.push_back(batch.page_table[page] * kernels::kPageSize +
                        position % kernels::kPageSize);
  }
  out.seq_of_token.assign(out.tokens.size(), 0);
  return out;
}

void Forward::draft(Pass& pass, MtpState& state) {
  const MtpWeights& w = *weights_.mtp;
  const Batch& batch = pass.batch;
  const std::int64_t n = pass.n, hidden = config_.hidden_size, first = batch.positions.front();
  const bool has_previous = first > 0;
  DSV32_CHECK(!has_previous || state.refresh_only || state.position == first - 1, internal,
              "MTP lacks the row before");
  // The hidden rows: the one from before this chunk, then all of this chunk's but the last.
  const TensorView rows = buffers_.mtp_hidden, main = buffers_.final_h.dense;
  if (has_previous && !state.refresh_only) backend_.upload(rows.slice(0, 1), state.hidden.data());
  backend_.copy(rows.slice(1, n), main.slice(0, n));
  state.hidden.resize(static_cast<std::size_t>(hidden * dtype_size(main.dtype)));
  backend_.download(state.hidden.data(), main.slice(n - 1, 1));
  state.position = batch.positions.back();
  if (state.refresh_only) return;
  const Batch lagging = draft_batch(batch, has_previous);
  const auto count = static_cast<std::int64_t>(lagging.tokens.size());
  if (count == 0) return;
  Pass drafting(lagging, upload(lagging), nullptr, pass.cancel);
  const TensorView embedded = buffers_.embedded.slice(0, count);
  const Activation input = buffers_.mtp_input.slice(0, count);
  const auto half = [&](std::int64_t part) {
    return Activation{.dense = input.dense.columns(part * hidden, hidden), .fp8 = {}, .scale = {}};
  };
  const float eps = config_.rms_norm_eps;
  backend_.embed(drafting.view, w.embed_tokens, embedded);
  backend_.add_rms_norm(embedded, {}, w.enorm, eps, half(0));
  backend_.add_rms_norm(rows.slice(has_previous ? 0 : 1, count), {}, w.hnorm, eps, half(1));
  backend_.linear(w.eh_proj, input, shaped(buffers_.residual, count, hidden));
  layer(drafting, w.layer, caches_.back(), buffers_.residual);
  if (!pass.capture || !pass.capture->mtp_logits) return;
  std::vector<std::int32_t> all(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
  for_tiles(all, [&](std::span<const std::int32_t> tile) {
    emit_logits(w.shared_head, final_rows(tile, w.shared_head_norm),
                [&](std::span<const float> logits) {
                  pass.capture->draft_logits.insert(pass.capture->draft_logits.end(),
                                                    logits.begin(), logits.end());
                });
  });
}

}  // namespace dsv32
