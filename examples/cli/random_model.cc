// The tensors of a random checkpoint: names and shapes as docs/formats.md has them.
#include "cli/random_model.h"

#include <cmath>
#include <string>
#include <utility>

#include "cli/random_values.h"

namespace cli {
namespace {

constexpr std::int64_t kBlock = 128;
constexpr float kSmall = 0.05f;  // deviation of gains and biases

std::int64_t blocks(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

class Builder {
 public:
  explicit Builder(const RandomModel& model) : model_(model), c_(model.config) {}

  std::vector<StreamedTensor> build() {
    table("model.embed_tokens.weight", c_.vocab_size);
    for (int i = 0; i < c_.num_hidden_layers; ++i) layer(i);
    gain("model.norm.weight", c_.hidden_size);
    plain("lm_head.weight", c_.vocab_size, c_.hidden_size);
    if (c_.num_nextn_predict_layers > 0) mtp();
    return std::move(tensors_);
  }

 private:
  std::uint64_t stream(const std::string& name) const { return stream_of(model_.seed, name); }

  void add(const std::string& name, const char* dtype, std::size_t size,
           std::vector<std::int64_t> shape, Fill fill) {
    std::size_t bytes = size;
    for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
    tensors_.push_back({.name = name,
                        .dtype = dtype,
                        .shape = std::move(shape),
                        .bytes = bytes,
                        .fill = std::move(fill)});
  }

  void gain(const std::string& name, std::int64_t width) {
    add(name, "F32", 4, {width}, NormalValues::f32(stream(name), 1.0f, kSmall));
  }
  void bias(const std::string& name, std::int64_t width) {
    add(name, "F32", 4, {width}, NormalValues::f32(stream(name), 0.0f, kSmall));
  }

  // A row a token. The layers normalise what they read, so 1 is the size to begin with.
  void table(const std::string& name, std::int64_t rows) {
    add(name, "BF16", 2, {rows, c_.hidden_size}, values_.bf16(stream(name), 1.0f));
  }

  void plain(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const float deviation = 1.0f / std::sqrt(static_cast<float>(cols));
    add(name, "BF16", 2, {rows, cols}, values_.bf16(stream(name), deviation));
  }

  // The base scale is the power of two that leaves the codes a deviation in (64, 128].
  void matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const std::string weight = name + ".weight", scale = weight + "_scale_inv";
    if (c_.weight_block_size == 0) return plain(weight, rows, cols);
    const float deviation = 1.0f / std::sqrt(kScaleMeanSquare * static_cast<float>(cols));
    const float base = std::ldexp(1.0f, std::ilogb(deviation) - 6);
    add(weight, "F8_E4M3", 1, {rows, cols}, values_.e4m3(stream(weight), deviation / base));
    const bool e8m0 = model_.scales == Scales::e8m0;
    add(scale, e8m0 ? "F8_E8M0" : "F32", e8m0 ? 1 : 4, {blocks(rows), blocks(cols)},
        e8m0 ? scales_e8m0(stream(scale), base)
             : scales_f32(stream(scale), base, model_.scales == Scales::odd));
  }

  void attention(const std::string& p) {
    const std::int64_t heads = c_.num_attention_heads, hidden = c_.hidden_size;
    matrix(p + "q_a_proj", c_.q_lora_rank, hidden);
    gain(p + "q_a_layernorm.weight", c_.q_lora_rank);
    matrix(p + "q_b_proj", heads * (c_.qk_nope_head_dim + c_.qk_rope_head_dim), c_.q_lora_rank);
    matrix(p + "kv_a_proj_with_mqa", c_.kv_lora_rank + c_.qk_rope_head_dim, hidden);
    gain(p + "kv_a_layernorm.weight", c_.kv_lora_rank);
    matrix(p + "kv_b_proj", heads * (c_.qk_nope_head_dim + c_.v_head_dim), c_.kv_lora_rank);
    matrix(p + "o_proj", hidden, heads * c_.v_head_dim);
    if (c_.index_topk == 0) return;
    matrix(p + "indexer.wq_b", std::int64_t{c_.index_n_heads} * c_.index_head_dim, c_.q_lora_rank);
    matrix(p + "indexer.wk", c_.index_head_dim, hidden);
    gain(p + "indexer.k_norm.weight", c_.index_head_dim);
    bias(p + "indexer.k_norm.bias", c_.index_head_dim);
    plain(p + "indexer.weights_proj.weight", c_.index_n_heads, hidden);
  }

  void mlp(const std::string& p, std::int64_t width) {
    matrix(p + "gate_proj", width, c_.hidden_size);
    matrix(p + "up_proj", width, c_.hidden_size);
    matrix(p + "down_proj", c_.hidden_size, width);
  }

  void layer(int index) {
    const std::string p = "model.layers." + std::to_string(index) + ".";
    gain(p + "input_layernorm.weight", c_.hidden_size);
    gain(p + "post_attention_layernorm.weight", c_.hidden_size);
    attention(p + "self_attn.");
    if (index < c_.first_k_dense_replace) return mlp(p + "mlp.", c_.intermediate_size);
    plain(p + "mlp.gate.weight", c_.n_routed_experts, c_.hidden_size);
    bias(p + "mlp.gate.e_score_correction_bias", c_.n_routed_experts);
    for (int e = 0; e < c_.n_routed_experts; ++e)
      mlp(p + "mlp.experts." + std::to_string(e) + ".", c_.moe_intermediate_size);
    mlp(p + "mlp.shared_experts.", std::int64_t{c_.moe_intermediate_size} * c_.n_shared_experts);
  }

  void mtp() {
    layer(c_.num_hidden_layers);
    const std::string p = "model.layers." + std::to_string(c_.num_hidden_layers) + ".";
    table(p + "embed_tokens.weight", c_.vocab_size);
    for (const char* name : {"enorm.weight", "hnorm.weight", "shared_head.norm.weight"})
      gain(p + name, c_.hidden_size);
    plain(p + "eh_proj.weight", c_.hidden_size, std::int64_t{2} * c_.hidden_size);
    plain(p + "shared_head.head.weight", c_.vocab_size, c_.hidden_size);
  }

  const RandomModel& model_;
  const dsv32::ModelConfig& c_;
  NormalValues values_;
  std::vector<StreamedTensor> tensors_;
};

}  // namespace

std::vector<StreamedTensor> random_tensors(const RandomModel& model) {
  return Builder(model).build();
}

}  // namespace cli
