// Which values of a config a pass can be run with.
#include "lib/config/domain.h"

#include <cstdint>
#include <utility>

#include "lib/base/format.h"

namespace dsv32 {
namespace {

// Collects every field that is out of range.
class Ranges {
 public:
  void require(bool ok, std::string text) {
    if (!ok) faults_ += (faults_.empty() ? "" : "; ") + std::move(text);
  }
  void within(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    require(value >= low && value <= high,
            formatted("{} is {}, not in {}..{}", name, value, low, high));
  }
  // Above 0 and at most `high`: larger is a slip of the pen, and overflows soon.
  void positive(const char* name, float value, float high) {
    require(value > 0 && value <= high,
            formatted("{} is {}, not above 0 and at most {}", name, value, high));
  }
  void not_negative(const char* name, float value, float high) {
    require(value >= 0 && value <= high, formatted("{} is {}, not in 0..{}", name, value, high));
  }
  const std::string& faults() const { return faults_; }

 private:
  std::string faults_;
};

constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr float kMaxGain = 100.0f;  // of attention; released models: 1

void check_sizes(const ModelConfig& c, Ranges& r) {
  r.within("vocab_size", c.vocab_size, 2, 1 << 24);
  r.within("hidden_size", c.hidden_size, 1, kMaxWidth);
  r.within("intermediate_size", c.intermediate_size, 1, kMaxWidth);
  r.within("num_hidden_layers", c.num_hidden_layers, 1, 1024);
  r.within("num_nextn_predict_layers", c.num_nextn_predict_layers, 0, 1);
  r.within("first_k_dense_replace", c.first_k_dense_replace, 0, c.num_hidden_layers);
  r.within("max_position_embeddings", c.max_position_embeddings, 1, 1 << 24);
  r.within("num_attention_heads", c.num_attention_heads, 1, 4096);
  r.within("q_lora_rank", c.q_lora_rank, 1, kMaxWidth);
  r.within("kv_lora_rank", c.kv_lora_rank, 1, kMaxWidth);
  r.within("qk_nope_head_dim", c.qk_nope_head_dim, 1, 4096);
  r.within("qk_rope_head_dim", c.qk_rope_head_dim, 2, 4096);
  r.require(c.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim is odd");
  r.within("v_head_dim", c.v_head_dim, 1, 4096);
  r.positive("rms_norm_eps", c.rms_norm_eps, 1.0f);
}

void check_indexer(const ModelConfig& c, Ranges& r) {
  if (c.index_topk == 0 && c.model_type == "deepseek_v3") return;
  r.within("index_n_heads", c.index_n_heads, 1, 4096);
  r.within("index_head_dim", c.index_head_dim, c.qk_rope_head_dim, 128);
  r.require((c.index_head_dim & (c.index_head_dim - 1)) == 0,
            formatted("index_head_dim is {}, no power of two", c.index_head_dim));
  r.within("index_topk", c.index_topk, 1, c.max_position_embeddings);
}

void check_experts(const ModelConfig& c, Ranges& r) {
  r.within("n_routed_experts", c.n_routed_experts, 2, 4096);
  r.within("n_group", c.n_group, 1, c.n_routed_experts);
  if (c.n_group < 1) return;
  const int size = c.n_routed_experts / c.n_group;
  r.require(
      c.n_routed_experts % c.n_group == 0,
      formatted("n_group {} does not divide n_routed_experts {}", c.n_group, c.n_routed_experts));
  r.require(size >= 2, "n_group leaves fewer than 2 experts in a group");
  r.within("topk_group", c.topk_group, 1, c.n_group);
  r.within("num_experts_per_tok", c.num_experts_per_tok, 1, std::int64_t{c.topk_group} * size);
  r.within("n_shared_experts", c.n_shared_experts, 1, 64);
  r.within("moe_intermediate_size", c.moe_intermediate_size, 1, kMaxWidth);
  r.positive("routed_scaling_factor", c.routed_scaling_factor, 1e6f);
}

void check_rope(const ModelConfig& c, Ranges& r) {
  r.positive("rope_theta", c.rope_theta, 1e15f);
  r.require(c.rope_theta > 1.0f, "rope_theta is not above 1");
  r.require(c.rope_factor >= 1.0f && c.rope_factor <= 1e6f,
            formatted("the rope factor is {}, not in 1..1e6", c.rope_factor));
  r.not_negative("attention_factor", c.attention_factor, kMaxGain);
  if (c.rope_factor <= 1.0f) return;
  r.within("original_max_position_embeddings", c.original_max_position_embeddings, 1,
           c.max_position_embeddings);
  r.positive("beta_fast", c.beta_fast, 1e6f);
  r.positive("beta_slow", c.beta_slow, 1e6f);
  r.require(c.beta_fast >= c.beta_slow,
            formatted("beta_fast {} is below beta_slow {}", c.beta_fast, c.beta_slow));
  r.not_negative("mscale", c.mscale, kMaxGain);
  r.not_negative("mscale_all_dim", c.mscale_all_dim, kMaxGain);
}

void check_tokens(const ModelConfig& c, Ranges& r) {
  r.within("bos_token_id", c.bos_token_id, 0, c.vocab_size - 1);
  r.require(!c.eos_token_ids.empty() && c.eos_token_ids.size() <= 64,
            "eos_token_id holds no id or too many");
  for (const TokenId id : c.eos_token_ids) r.within("eos_token_id", id, 0, c.vocab_size - 1);
}

}  // namespace

std::string range_faults(const ModelConfig& c) {
  Ranges r;
  check_sizes(c, r);
  check_indexer(c, r);
  check_experts(c, r);
  check_rope(c, r);
  check_tokens(c, r);
  return r.faults();
}

}  // namespace dsv32
