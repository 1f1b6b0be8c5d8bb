// Caches, the layer loop, logits. (MTP's draft is in mtp.cc.)
#include "lib/model/forward.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lib/base/check.h"
#include "lib/model/pass.h"

namespace dsv32 {
namespace {

kernels::CacheLayout cache_layout(const ModelConfig& c, const ForwardOptions& options) {
  using Format = kernels::CacheLayout::Format;
  return {.format = options.buffers.numerics == Numerics::exact ? Format::f32
                    : options.kv_format == KvFormat::bf16       ? Format::bf16
                                                                : Format::fp8,
          .latent = c.kv_lora_rank,
          .rope = c.qk_rope_head_dim,
          .index_dim = c.index_head_dim,
          .int8_index = options.indexer_keys == IndexerKeys::int8};  // of the same size
}

std::int64_t latent_page_bytes(const kernels::CacheLayout& layout) {
  return std::int64_t{kernels::kPageSize} * layout.latent_record();
}

std::int64_t hidden_row_bytes(const ModelConfig& c, const ForwardOptions& options) {
  if (!options.buffers.mtp) return 0;
  return c.hidden_size *
         dtype_size(options.buffers.numerics == Numerics::native ? DType::bf16 : DType::f32);
}

// Of one page in all layers.
std::int64_t all_page_bytes(const ModelConfig& c, const ForwardOptions& options) {
  const kernels::CacheLayout layout = cache_layout(c, options);
  const std::int64_t layers =
      c.num_hidden_layers + (options.buffers.mtp ? c.num_nextn_predict_layers : 0);
  return layers * (latent_page_bytes(layout) + layout.index_page()) + hidden_row_bytes(c, options);
}

TensorView bytes_view(std::byte* data, std::int64_t rows, std::int64_t cols) {
  return {.data = data, .dtype = DType::u8, .rows = rows, .cols = cols, .stride = cols};
}

BackendLimits limits_of(const ModelConfig& c, const ForwardOptions& options,
                        const ModelWeights& weights) {
  BackendLimits limits = backend_limits(c, options.buffers);
  limits.cache = cache_layout(c, options);
  limits.weight_formats = weight_formats(weights);
  return limits;
}

}  // namespace

std::size_t cache_bytes(const ModelConfig& config, const ForwardOptions& options) {
  return static_cast<std::size_t>(options.num_pages * all_page_bytes(config, options));
}

Forward::Forward(const ModelConfig& config, const ForwardOptions& options, Backend& backend,
                 ModelWeights weights, BindProgress progress)
    : config_(config),
      backend_(backend),
      weights_(std::move(weights)),
      rope_(config),
      mla_(backend_limits(config, options.buffers).mla),
      indexer_(backend_limits(config, options.buffers).indexer),
      shapes_(backend.shapes()),
      capacity_(step_capacity(config, options.buffers)),
      memory_((backend.reserve(limits_of(config, options, weights_)),
               backend.allocate(Buffers(config, options.buffers, nullptr).bytes))),
      buffers_(config, options.buffers, static_cast<std::byte*>(memory_.get())),
      inputs_(capacity_, buffers_.inputs) {
  allocate_caches(options);
  if (has_mtp() && !shapes_.row_buckets.empty()) define_mtp_rows();
  bind_weights(weights_, backend_, progress);
}

void Forward::allocate_caches(const ForwardOptions& options) {
  const kernels::CacheLayout layout = cache_layout(config_, options);
  cache_bytes_ = cache_bytes(config_, options);
  page_bytes_ = static_cast<std::size_t>(all_page_bytes(config_, options));
  cache_memory_ = backend_.allocate(cache_bytes_);
  auto* next = static_cast<std::byte*>(cache_memory_.get());
  const auto take = [&](std::int64_t cols) {
    return bytes_view(std::exchange(next, next + options.num_pages * cols), options.num_pages,
                      cols);
  };
  const std::size_t layers = weights_.layers.size() + (has_mtp() ? 1 : 0);
  for (std::size_t i = 0; i < layers; ++i) {
    const TensorView latent = take(latent_page_bytes(layout));
    caches_.push_back({.latent = latent,
                       .index_key = take(layout.index_page()),
                       .layout = layout,
                       .pow2_scales = config_.ue8m0_scales,
                       .rope_interleave = config_.rope_interleave});
  }
  if (!has_mtp()) return;
  hidden_bytes_ = static_cast<std::size_t>(hidden_row_bytes(config_, options));
  hidden_ = take(hidden_row_bytes(config_, options));
  hidden_.dtype = buffers_.final_h.dense.dtype;
  hidden_.cols = hidden_.stride = config_.hidden_size;
}

// Rows that only fill a pass up to its width take no hidden state, and yet theirs is read.
void Forward::define_mtp_rows() {
  const TensorView all = buffers_.mtp_hidden;
  const std::vector<std::byte> zeros(static_cast<std::size_t>(all.cols * dtype_size(all.dtype)));
  for (std::int64_t row = 0; row < all.rows; ++row)
    backend_.upload(all.slice(row, 1), zeros.data());
}

// Whatever belongs to a page, and nothing else: what copies, saves or moves one goes through here.
// A page's row of a part has a record for each of its tokens, one behind the other, or one in all.
void Forward::for_each_part(FunctionRef<void(TensorView part, PageRecords records)> visit) const {
  for (const PagedKv& kv : caches_) {
    const auto records = has_mtp() && &kv == &caches_.back() ? PageRecords::mtp : PageRecords::main;
    visit(kv.latent, records);
    const std::int64_t all = kv.index_key.cols, scales = kv.layout.index_page_scales();
    if (all > 0) visit(kv.index_key.columns(0, all - scales), records);
    if (scales > 0) visit(kv.index_key.columns(all - scales, scales), records);
  }
  if (hidden_.data) visit(hidden_, PageRecords::one);
}

void Forward::copy_page(PageCopy copy) {
  for_each_part([&](TensorView part, PageRecords) {
    backend_.copy(part.slice(copy.to, 1), part.slice(copy.from, 1));
  });
}

void Forward::read_page(std::int32_t page, PageTokens tokens, std::span<std::byte> out) {
  DSV32_CHECK(out.size() == page_bytes_, internal, "a page has {} bytes, not {}", page_bytes_,
              out.size());
  std::vector<Download> parts;
  std::byte* next = out.data();
  for_each_part([&](TensorView part, PageRecords records) {
    const std::int64_t record = part.cols / kernels::kPageSize;
    const std::int64_t written = records == PageRecords::main  ? record * tokens.main
                                 : records == PageRecords::mtp ? record * tokens.mtp
                                                               : part.cols;
    parts.push_back({next, part.slice(page, 1).columns(0, written)});
    const std::int64_t size = dtype_size(part.dtype);
    std::fill(next + written * size, next + part.cols * size, std::byte{0});
    next += part.cols * size;
  });
  backend_.download(parts);
}

void Forward::write_page(std::int32_t page, std::span<const std::byte> in) {
  DSV32_CHECK(in.size() == page_bytes_, internal, "a page has {} bytes, not {}", page_bytes_,
              in.size());
  const std::byte* next = in.data();
  for_each_part([&](TensorView part, PageRecords) {
    backend_.upload(part.slice(page, 1), next);
    next += part.cols * dtype_size(part.dtype);
  });
  backend_.synchronize();
}

void Forward::run(const Batch& batch, StepResult& result, const std::stop_token& cancel) {
  const StepDims dims(batch, shapes_, capacity_);
  const StepInputs in = inputs_.upload(batch, dims, rope_, backend_);
  for (const PageCopy& copy : batch.page_copies) copy_page(copy);
  give_hidden(batch);
  const auto wanted = static_cast<std::int64_t>(batch.logits_rows.size());
  const auto mtp_wanted = static_cast<std::int64_t>(batch.mtp_logits_rows.size());
  result.logits.resize(static_cast<std::size_t>(wanted * config_.vocab_size));
  result.mtp_logits.resize(static_cast<std::size_t>(mtp_wanted * config_.vocab_size));
  result.hidden.resize(batch.hidden ? batch.logits_rows.size() * hidden_bytes_ : 0);
  result.mtp_hidden.resize(batch.mtp_hidden ? batch.mtp_logits_rows.size() * hidden_bytes_ : 0);
  result.selection.clear();
  result.experts.clear();
  // What the host does between two calls, or where rows decide how many calls there are, is no pass
  // to record.
  const bool observed = batch.selection || batch.experts;
  const bool one_tile = dims.logits + dims.mtp_logits <= kLogitsTile;
  const TensorView main_logits = buffers_.logits.slice(0, one_tile ? dims.logits : 0),
                   mtp_logits =
                       buffers_.logits.slice(main_logits.rows, one_tile ? dims.mtp_logits : 0);
  backend_.run(observed || !one_tile ? 0 : dims.key(), [&] {
    Pass pass{.batch = batch,
              .rows = batch.main,
              .view = in.main,
              .observed = observed ? &result : nullptr,
              .cancel = cancel,
              .nan_queries = in.nan_queries,
              .n = dims.rows};
    if (dims.rows > 0) layers(pass);
    if (has_mtp()) keep_hidden(in, dims.rows);
    if (one_tile) {
      logits(main_head(), in.logits_rows, main_logits);
    } else {
      logits_tile_by_tile(main_head(), in.logits_rows.columns(0, wanted),
                          {.logits = result.logits.data()});
    }
    if (dims.mtp == 0) return;
    draft(pass, in);
    if (one_tile) {
      logits(mtp_head(), in.mtp_logits_rows, mtp_logits);
    } else {
      logits_tile_by_tile(mtp_head(), in.mtp_logits_rows.columns(0, mtp_wanted),
                          {.logits = result.mtp_logits.data(),
                           .hidden = batch.mtp_hidden ? result.mtp_hidden.data() : nullptr});
    }
  });
  result.nan_queries.resize(config_.index_topk > 0 ? batch.main.size() : 0);
  std::vector<Download> parts;
  parts.reserve(4);
  const auto fetch = [&](void* to, TensorView from) {
    if (from.rows > 0 && from.cols > 0) parts.push_back({to, from});
  };
  if (one_tile) {  // the rows that are wanted, without padding behind them
    fetch(result.logits.data(), main_logits.slice(0, wanted));
    fetch(result.mtp_logits.data(), mtp_logits.slice(0, mtp_wanted));
    if (batch.mtp_hidden)
      fetch(result.mtp_hidden.data(), buffers_.row_h.dense.slice(0, mtp_wanted));
  }
  if (batch.hidden) fetch_hidden(batch, result, parts);
  if (!result.nan_queries.empty()) {
    fetch(result.nan_queries.data(),
          in.nan_queries.columns(0, static_cast<std::int64_t>(result.nan_queries.size())));
  }
  backend_.download(parts);
  backend_.synchronize();
}

void Forward::layers(Pass& pass) {
  backend_.embed(pass.view, *weights_.embed_tokens.bound, buffers_.embedded.slice(0, pass.n));
  backend_.embed(pass.view, *weights_.embed_tokens.bound, buffers_.residual.slice(0, pass.n));
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    layer(pass, weights_.layers[i], caches_[i], i == 0 ? buffers_.embedded : TensorView{});
  }
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

// With MTP all rows have had their final norm; without, those with logits are still to have it.
Forward::Head Forward::main_head() const {
  if (has_mtp())
    return {.weight = *weights_.lm_head.bound, .from = buffers_.final_h.dense, .gain = {}};
  return {.weight = *weights_.lm_head.bound, .from = buffers_.x, .gain = weights_.norm};
}

// rows: at most kLogitsTile.
void Forward::logits(const Head& head, TensorView rows, TensorView out) {
  if (out.rows == 0) return;
  const TensorView x = buffers_.row_x.slice(0, out.rows);
  backend_.copy_rows(head.from, rows, x, {});
  if (!head.gain.data) {
    backend_.linear(head.weight, {.dense = x, .fp8 = {}, .scale = {}}, out);
    return;
  }
  // The residual sum is formed as in a layer.
  const TensorView residual = buffers_.row_residual.slice(0, out.rows);
  const Activation h = buffers_.row_h.slice(0, out.rows);
  backend_.copy_rows(buffers_.residual, rows, residual, {});
  backend_.add_rms_norm(x, residual, head.gain, config_.rms_norm_eps, h);
  backend_.linear(head.weight, {.dense = h.dense, .fp8 = {}, .scale = {}}, out);
}

void Forward::logits_tile_by_tile(const Head& head, TensorView rows, Out out) {
  for (std::int64_t first = 0; first < rows.cols; first += kLogitsTile) {
    const std::int64_t count = std::min<std::int64_t>(kLogitsTile, rows.cols - first);
    const TensorView tile = buffers_.logits.slice(0, count);
    logits(head, rows.columns(first, count), tile);
    backend_.download(out.logits + first * tile.cols, tile);
    if (!out.hidden) continue;
    backend_.download(out.hidden + static_cast<std::size_t>(first) * hidden_bytes_,
                      buffers_.row_h.dense.slice(0, count));
  }
}

}  // namespace dsv32
