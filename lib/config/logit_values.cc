#include "lib/config/logit_values.h"

#include <utility>

#include "lib/base/format.h"

namespace dsv32 {
namespace {

class Lines {
 public:
  template <class Value>
  Lines& operator()(const char* key, const Value& value) {  // a float as short as it is exact
    text_ += formatted("{}={}\n", key, value);
    return *this;
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

std::string logit_values(const ModelConfig& config) {
  // Bound one by one, so that a new field does not compile until somebody has thought of it here.
  const auto& [model_type, vocab_size, hidden_size, intermediate_size, num_hidden_layers,
               num_nextn_predict_layers, first_k_dense_replace, rms_norm_eps,
               max_position_embeddings, num_attention_heads, q_lora_rank, kv_lora_rank,
               qk_nope_head_dim, qk_rope_head_dim, v_head_dim, index_n_heads, index_head_dim,
               index_topk, indexer_rope_interleave, n_routed_experts, n_shared_experts,
               num_experts_per_tok, n_group, topk_group, moe_intermediate_size,
               routed_scaling_factor, norm_topk_prob, rope_interleave, rope_theta, rope_factor,
               original_max_position_embeddings, beta_fast, beta_slow, mscale, mscale_all_dim,
               attention_factor, truncate, weight_block_size, ue8m0_scales, bits, group_size,
               bos_token_id, eos_token_ids] = config;
  Lines lines;
  lines("model_type", model_type)("vocab_size", vocab_size)("hidden_size", hidden_size);
  lines("intermediate_size", intermediate_size)("num_hidden_layers", num_hidden_layers);
  lines("num_nextn_predict_layers", num_nextn_predict_layers);
  lines("first_k_dense_replace", first_k_dense_replace)("rms_norm_eps", rms_norm_eps);
  lines("num_attention_heads", num_attention_heads)("q_lora_rank", q_lora_rank);
  lines("kv_lora_rank", kv_lora_rank)("qk_nope_head_dim", qk_nope_head_dim);
  lines("qk_rope_head_dim", qk_rope_head_dim)("v_head_dim", v_head_dim);
  lines("index_n_heads", index_n_heads)("index_head_dim", index_head_dim);
  lines("index_topk", index_topk)("indexer_rope_interleave", indexer_rope_interleave);
  lines("n_routed_experts", n_routed_experts)("n_shared_experts", n_shared_experts);
  lines("num_experts_per_tok", num_experts_per_tok)("n_group", n_group)("topk_group", topk_group);
  lines("moe_intermediate_size", moe_intermediate_size);
  lines("routed_scaling_factor", routed_scaling_factor)("norm_topk_prob", norm_topk_prob);
  lines("rope_theta", rope_theta)("rope_factor", rope_factor);
  if (!rope_interleave) lines("rope_interleave", rope_interleave);
  if (attention_factor > 0.0f) lines("attention_factor", attention_factor);
  if (rope_factor > 1.0f) {
    if (!truncate) lines("truncate", truncate);
    lines("original_max_position_embeddings", original_max_position_embeddings);
    lines("beta_fast", beta_fast)("beta_slow", beta_slow);
    lines("mscale", mscale)("mscale_all_dim", mscale_all_dim);
  }
  lines("weight_block_size", weight_block_size)("ue8m0_scales", ue8m0_scales);
  lines("bits", bits)("group_size", group_size);
  return std::move(lines).text();
}

}  // namespace dsv32
