// A bump allocator over one block; with no memory it only counts.
#include "lib/model/buffers.h"

#include <algorithm>

namespace dsv32 {
namespace {

class Arena {
 public:
  Arena(std::byte* memory, DType type, bool fp8, bool pow2)
      : memory_(memory), type_(type), fp8_(fp8), pow2_(pow2) {}

  TensorView take(DType dtype, std::int64_t rows, std::int64_t cols) {
    TensorView view{.data = nullptr, .dtype = dtype, .rows = rows, .cols = cols, .stride = cols};
    if (memory_) view.data = memory_ + used_;
    used_ += static_cast<std::size_t>((rows * cols * dtype_size(dtype) + 63) / 64 * 64);
    return view;
  }
  TensorView values(std::int64_t rows, std::int64_t cols) { return take(type_, rows, cols); }
  TensorView integers(std::int64_t rows, std::int64_t cols) { return take(DType::i32, rows, cols); }
  TensorView floats(std::int64_t rows, std::int64_t cols) { return take(DType::f32, rows, cols); }
  // With an FP8 form if the model's weights ask for it.
  Activation activation(std::int64_t rows, std::int64_t cols) {
    Activation a{.dense = values(rows, cols), .fp8 = {}, .scale = {}, .pow2_scales = pow2_};
    if (!fp8_) return a;
    a.fp8 = take(DType::f8_e4m3, rows, cols);
    a.scale = floats(rows, (cols + kernels::kBlock - 1) / kernels::kBlock);
    return a;
  }
  Activation dense_activation(std::int64_t rows, std::int64_t cols) {
    return {.dense = values(rows, cols), .fp8 = {}, .scale = {}, .pow2_scales = pow2_};
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  DType type_;
  bool fp8_, pow2_;
  std::size_t used_ = 0;
};

std::int64_t mlp_width(const ModelConfig& c) {
  return std::max(c.intermediate_size, c.moe_intermediate_size * c.n_shared_experts);
}

}  // namespace

Buffers::Buffers(const ModelConfig& c, const BufferOptions& options, std::byte* memory) {
  const bool native = options.numerics == Numerics::native;
  Arena arena(memory, native ? DType::bf16 : DType::f32, native && c.weight_block_size > 0,
              c.ue8m0_scales);
  const std::int64_t n = options.max_batch_tokens, hidden = c.hidden_size;
  const std::int64_t tile = std::min<std::int64_t>(n, options.attention_rows);
  const std::int64_t heads = c.num_attention_heads, latent = c.kv_lora_rank;
  const std::int64_t rope_dim = c.qk_rope_head_dim, copies = n * c.num_experts_per_tok;
  inputs = arena.take(DType::u8, 1,
                      static_cast<std::int64_t>(InputBlock::bytes(step_capacity(c, options))));
  embedded = arena.floats(n, hidden);
  x = arena.values(n, hidden);
  residual = arena.values(n, hidden);
  h = arena.activation(n, hidden);
  q_a = arena.values(n, c.q_lora_rank);
  q_a_normed = arena.activation(n, c.q_lora_rank);
  q = arena.values(n, heads * (c.qk_nope_head_dim + rope_dim));
  kv_a = arena.values(n, latent + rope_dim);
  attention = arena.activation(n, heads * c.v_head_dim);
  if (c.index_topk > 0) {
    index_k = arena.values(n, c.index_head_dim);
    index_q = arena.values(n, std::int64_t{c.index_n_heads} * c.index_head_dim);
    index_weights = arena.floats(n, c.index_n_heads);
  }
  indices = arena.integers(tile, c.index_topk > 0 ? c.index_topk : options.max_context);
  q_latent = arena.values(tile, heads * (latent + rope_dim));
  out_latent = arena.values(tile, heads * latent);
  mlp_gate = arena.values(n, mlp_width(c));
  mlp_up = arena.values(n, mlp_width(c));
  mlp_hidden = arena.activation(n, mlp_width(c));
  gate_scores = arena.floats(n, c.n_routed_experts);
  expert_ids = arena.integers(n, c.num_experts_per_tok);
  expert_rows = arena.integers(n, c.num_experts_per_tok);
  expert_weights = arena.floats(n, c.num_experts_per_tok);
  expert_offsets = arena.integers(1, c.n_routed_experts + 1);
  dispatched = arena.activation(copies, hidden);
  expert_gate = arena.values(copies, c.moe_intermediate_size);
  expert_up = arena.values(copies, c.moe_intermediate_size);
  expert_hidden = arena.activation(copies, c.moe_intermediate_size);
  expert_out = arena.values(copies, hidden);
  shared_out = arena.values(n, hidden);
  row_x = arena.values(kLogitsTile, hidden);
  row_residual = arena.values(kLogitsTile, hidden);
  row_h = arena.dense_activation(kLogitsTile, hidden);
  logits = arena.floats(kLogitsTile, c.vocab_size);
  if (options.mtp) {
    final_h = arena.dense_activation(n, hidden);
    mtp_hidden = arena.values(n, hidden);
    mtp_input = arena.dense_activation(n, 2 * hidden);
  }
  bytes = arena.used();
}

StepCapacity step_capacity(const ModelConfig& c, const BufferOptions& options) {
  return {.rows = options.max_batch_tokens,
          .sequences = options.max_sequences,
          .pages = options.max_context / kernels::kPageSize + 1,
          .rope = c.qk_rope_head_dim,
          .mtp = options.mtp};
}

BackendLimits backend_limits(const ModelConfig& c, const BufferOptions& options) {
  const int attention_width = c.num_attention_heads * c.v_head_dim;
  return {.mla = {.heads = c.num_attention_heads,
                  .nope = c.qk_nope_head_dim,
                  .rope = c.qk_rope_head_dim,
                  .v = c.v_head_dim,
                  .latent = c.kv_lora_rank,
                  .rope_interleave = c.rope_interleave},
          .indexer = {.heads = c.index_n_heads,
                      .dim = c.index_head_dim,
                      .top_k = c.index_topk,
                      .rope_interleave = c.indexer_rope_interleave},
          .max_context = options.max_context,
          .max_width = std::max(
              {2 * c.hidden_size, attention_width, c.q_lora_rank, static_cast<int>(mlp_width(c))}),
          .max_rows = options.max_batch_tokens,
          .max_sequences = options.max_sequences,
          .num_experts = c.n_routed_experts,
          .n_group = c.n_group,
          .numerics = options.numerics};
}

}  // namespace dsv32
