#include "benchmarks/layer.h"

#include <algorithm>
#include <stop_token>
#include <utility>

#include "benchmarks/attention.h"
#include "lib/backend/backend_kind.h"

namespace dsv32::bench {
namespace {

constexpr int kVocab = 4096;  // rows of the embedding: so many different tokens

std::int64_t blocks(std::int64_t n) { return (n + kernels::kBlock - 1) / kernels::kBlock; }

double elements(std::int64_t rows, std::int64_t cols) { return static_cast<double>(rows * cols); }

ModelConfig config_of(const Bench& bench, const LayerOptions& options) {
  ModelConfig c;
  c.num_hidden_layers = options.dense_layers + options.moe_layers;
  c.num_nextn_predict_layers = 0;
  c.first_k_dense_replace = options.dense_layers;
  c.n_routed_experts = options.experts;
  c.vocab_size = kVocab;
  if (options.mini) {  // as benchmarks/peers/make_gguf.py writes it
    c.hidden_size = 1024;
    c.intermediate_size = 4096;
    c.moe_intermediate_size = 512;
    c.num_attention_heads = 16;
    c.q_lora_rank = 512;
  }
  if (bench.smoke()) {
    c.hidden_size = 256;
    c.intermediate_size = 256;
    c.moe_intermediate_size = 128;
    c.num_attention_heads = 8;
    c.q_lora_rank = 128;
    c.index_n_heads = 8;
    c.index_topk = 64;
    c.n_routed_experts = 32;
  }
  return c;
}

}  // namespace

LayerBench::LayerBench(Bench& bench, const LayerOptions& options)
    : bench_(bench), options_(options), config_(config_of(bench, options)) {
  const std::int64_t widest =
      std::max({config_.intermediate_size, config_.hidden_size,
                config_.num_attention_heads * config_.qk_nope_head_dim * 2});
  scales_.assign(static_cast<std::size_t>(blocks(widest) * blocks(widest)), 0x1p-13f);
  ones_.assign(static_cast<std::size_t>(widest), 1.0f);
  traced_ = std::make_unique<TracedBackend>(
      cpu_backend_kind.open(bench.backend_options(options.threads)));
  const int pages = (options.context + kernels::kPageSize - 1) / kernels::kPageSize;
  const ForwardOptions forward{.buffers = {.max_batch_tokens = options.batch_tokens,
                                           .max_sequences = options.sequences,
                                           .max_context = pages * kernels::kPageSize,
                                           .attention_rows = traced_->shapes().attention_rows},
                               .num_pages = pages};
  forward_ = std::make_unique<Forward>(config_, forward, *traced_, weights(), [](std::size_t) {});
}

Weight LayerBench::fp8(std::int64_t out, std::int64_t in) {
  const std::span<const std::byte> codes = bench_.codes();
  const auto bytes = static_cast<std::size_t>(out * in);
  if (next_code_ + bytes > codes.size()) next_code_ = 0;
  auto* data = const_cast<std::byte*>(codes.data()) + std::exchange(next_code_, next_code_ + bytes);
  return {
      .file = {
          .weight = {.data = data, .dtype = DType::f8_e4m3, .rows = out, .cols = in, .stride = in},
          .scale = {.data = reinterpret_cast<std::byte*>(scales_.data()),
                    .dtype = DType::f32,
                    .rows = blocks(out),
                    .cols = blocks(in),
                    .stride = blocks(in)},
          .format = WeightFormat::fp8_pow2}};
}

Weight LayerBench::bf16(std::int64_t out, std::int64_t in, float scale) {
  std::vector<std::byte>& data = dense_.emplace_back(static_cast<std::size_t>(2 * out * in));
  fill_bf16(data.data(), out * in, static_cast<unsigned>(dense_.size()), scale);
  return {.file = {.weight = {.data = data.data(),
                              .dtype = DType::bf16,
                              .rows = out,
                              .cols = in,
                              .stride = in},
                   .scale = {}}};
}

TensorView LayerBench::gain(std::int64_t n) {
  return {.data = reinterpret_cast<std::byte*>(ones_.data()),
          .dtype = DType::f32,
          .rows = 1,
          .cols = n,
          .stride = n};
}

LayerWeights LayerBench::layer(bool dense) {
  const ModelConfig& c = config_;
  const std::int64_t hidden = c.hidden_size, heads = c.num_attention_heads;
  LayerWeights w;
  w.input_layernorm = w.post_attention_layernorm = gain(hidden);
  w.attention = {.q_a = fp8(c.q_lora_rank, hidden),
                 .q_a_norm = gain(c.q_lora_rank),
                 .q_b = fp8(heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), c.q_lora_rank),
                 .kv_a = fp8(c.kv_lora_rank + c.qk_rope_head_dim, hidden),
                 .kv_a_norm = gain(c.kv_lora_rank),
                 .kv_b = fp8(heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank),
                 .o = fp8(hidden, heads * c.v_head_dim)};
  w.indexer =
      IndexerWeights{.wq_b = fp8(std::int64_t{c.index_n_heads} * c.index_head_dim, c.q_lora_rank),
                     .wk = fp8(c.index_head_dim, hidden),
                     .k_norm = gain(c.index_head_dim),
                     .k_bias = gain(c.index_head_dim),
                     .weights = bf16(c.index_n_heads, hidden, 0.02f)};
  const auto mlp = [&](std::int64_t width) {
    return MlpWeights{
        .gate = fp8(width, hidden), .up = fp8(width, hidden), .down = fp8(hidden, width)};
  };
  if (dense) {
    w.mlp = mlp(c.intermediate_size);
    return w;
  }
  w.moe.emplace();
  w.moe->gate = bf16(c.n_routed_experts, hidden, 0.02f);
  w.moe->e_score_correction_bias = gain(c.n_routed_experts);
  w.moe->shared_experts = mlp(std::int64_t{c.n_shared_experts} * c.moe_intermediate_size);
  for (int e = 0; e < c.n_routed_experts; ++e) {
    const MlpWeights expert = mlp(c.moe_intermediate_size);
    w.moe->expert_gate.file.push_back(expert.gate.file);
    w.moe->expert_up.file.push_back(expert.up.file);
    w.moe->expert_down.file.push_back(expert.down.file);
  }
  return w;
}

ModelWeights LayerBench::weights() {
  ModelWeights out;
  // Large, so that the residual outweighs attention, which is alike for all: experts are then
  // chosen as independently as tokens.
  out.embed_tokens = bf16(kVocab, config_.hidden_size, 1000.0f);
  for (int i = 0; i < config_.num_hidden_layers; ++i)
    out.layers.push_back(layer(i < options_.dense_layers));
  out.norm = gain(config_.hidden_size);
  out.lm_head = out.embed_tokens;
  return out;
}

Batch LayerBench::batch(std::span<const int> positions, bool one_sequence) {
  std::vector<std::int32_t> pages;  // page p is the p-th, of every sequence
  for (int p = 0; p < (options_.context + kernels::kPageSize - 1) / kernels::kPageSize; ++p)
    pages.push_back(p);
  Batch out;
  std::int32_t seq = 0;
  for (const int position : positions) {
    if (!one_sequence || out.num_seqs() == 0) seq = out.add_sequence(pages);
    out.main.add(next_token_, position, position, seq);
    next_token_ = (next_token_ + 1) % kVocab;
  }
  return out;
}

void LayerBench::run(const Batch& batch) {
  traced_->reset();
  forward_->run(batch, result_, std::stop_token());
}

void LayerBench::fill() {
  traced_->skip_attention = traced_->skip_mlp = true;
  for (int done = 0; done < options_.context; done += options_.batch_tokens) {
    prefill(done, std::min(options_.batch_tokens, options_.context - done));
  }
  traced_->skip_attention = traced_->skip_mlp = false;
  traced_->steps.clear();
}

void LayerBench::prefill(int position, int tokens) {
  std::vector<int> positions;
  for (int i = 0; i < tokens; ++i) positions.push_back(position + i);
  Batch out = batch(positions, true);
  if (options_.logits && !traced_->skip_mlp) out.logits_rows.push_back(tokens - 1);
  run(out);
}

void LayerBench::decode(int count) {
  const std::vector<int> positions(static_cast<std::size_t>(count), options_.context - 1);
  Batch out = batch(positions, false);
  if (options_.logits && !traced_->skip_mlp) out.logits_rows.push_back(count - 1);
  run(out);
}

double LayerBench::attention_bytes() const {
  const ModelConfig& c = config_;
  const std::int64_t heads = c.num_attention_heads, hidden = c.hidden_size;
  return elements(c.q_lora_rank, hidden) +
         elements(heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), c.q_lora_rank) +
         elements(c.kv_lora_rank + c.qk_rope_head_dim, hidden) +
         elements(heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank) +
         elements(hidden, heads * c.v_head_dim) +
         elements(std::int64_t{c.index_n_heads} * c.index_head_dim, c.q_lora_rank) +
         elements(c.index_head_dim, hidden) + 2 * elements(c.index_n_heads, hidden);
}

double LayerBench::expert_bytes() const {
  return 3 * elements(config_.moe_intermediate_size, config_.hidden_size);
}

double LayerBench::shared_bytes() const {
  return config_.n_shared_experts * expert_bytes() +
         2 * elements(config_.n_routed_experts, config_.hidden_size);
}

double LayerBench::linear_operations() const {
  const double bf16 = elements(config_.n_routed_experts + config_.index_n_heads,
                               config_.hidden_size);  // two bytes an element
  return 2 *
         (attention_bytes() + shared_bytes() - bf16 + config_.num_experts_per_tok * expert_bytes());
}

Work LayerBench::pass_work(int position, int tokens) const {
  const ModelConfig& c = config_;
  const int layers = options_.dense_layers + options_.moe_layers;
  const double mlp = 3 * elements(c.intermediate_size, c.hidden_size);
  const double head = options_.logits ? elements(kVocab, c.hidden_size) : 0;
  Work work;
  work.bytes = layers * attention_bytes() + options_.dense_layers * mlp +
               options_.moe_layers * shared_bytes() +
               static_cast<double>(traced_->distinct_experts) * expert_bytes() + 2 * head;
  work.operations = 2 * head + tokens * (options_.moe_layers * linear_operations() +
                                         options_.dense_layers * 2 * (attention_bytes() + mlp));
  for (int t = 0; t < tokens; ++t)
    work.added_operations += layers * attention_operations(position + t);
  return work;
}

double LayerBench::attention_operations(int position) const {
  const ModelConfig& c = config_;
  const int keys = std::min(position + 1, c.index_topk);
  const double absorbed = 2.0 * c.num_attention_heads * (2 * c.kv_lora_rank + c.qk_rope_head_dim);
  const double indexer = 2.0 * c.index_n_heads * c.index_head_dim;
  return absorbed * keys + (position + 1 > c.index_topk ? indexer * (position + 1) : 0);
}

}  // namespace dsv32::bench
