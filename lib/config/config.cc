// ModelConfig from config.json: the official form and that of transformers 5.
#include "dsv32/config.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lib/base/check.h"
#include "lib/base/json.h"

namespace dsv32 {
namespace {

constexpr const char* kFile = "config.json";

// Reads typed members of one JSON object; messages name the key.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  const Json* find(std::string_view key) const {
    const Json* value = object_.find(key);
    return value && value->kind != Json::Kind::null ? value : nullptr;
  }
  const Json& get(std::string_view key) const {
    const Json* value = find(key);
    DSV32_CHECK(value, bad_format, "{}: key {} is missing", kFile, quote(key));
    return *value;
  }
  int integer(std::string_view key) const { return to_int(get(key), key); }
  int integer(std::string_view key, int otherwise) const {
    const Json* value = find(key);
    return value ? to_int(*value, key) : otherwise;
  }
  float number(std::string_view key) const { return to_float(get(key), key); }
  float number(std::string_view key, float otherwise) const {
    const Json* value = find(key);
    return value ? to_float(*value, key) : otherwise;
  }
  bool boolean(std::string_view key, bool otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    DSV32_CHECK(value->kind == Json::Kind::boolean, bad_format, "{}: key {} is no boolean", kFile,
                quote(key));
    return value->boolean;
  }
  std::string text(std::string_view key, std::string otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    DSV32_CHECK(value->is_string(), bad_format, "{}: key {} is no string", kFile, quote(key));
    return value->text;
  }

  // The rule for integers: an integer literal, or a number without a fraction (61.0).
  static int to_int(const Json& value, std::string_view key) {
    std::int64_t result = 0;
    if (value.kind == Json::Kind::integer) {
      result = parse_i64(value.text, key);
    } else {
      DSV32_CHECK(value.kind == Json::Kind::real && value.real == std::floor(value.real) &&
                      std::fabs(value.real) < 1e15,
                  bad_format, "{}: key {} is no integer", kFile, quote(key));
      result = static_cast<std::int64_t>(value.real);
    }
    DSV32_CHECK(result <= std::numeric_limits<int>::max() || key != "max_position_embeddings",
                limit, "{}: {} is {}, over 2^31 - 1", kFile, key, result);
    DSV32_CHECK(
        result >= std::numeric_limits<int>::min() && result <= std::numeric_limits<int>::max(),
        bad_format, "{}: {} is out of range: {}", kFile, quote(key), result);
    return static_cast<int>(result);
  }
  static float to_float(const Json& value, std::string_view key) {
    if (value.kind == Json::Kind::integer) {
      return static_cast<float>(parse_i64(value.text, key));
    }
    DSV32_CHECK(value.kind == Json::Kind::real, bad_format, "{}: key {} is no number", kFile,
                quote(key));
    return static_cast<float>(value.real);
  }

 private:
  const Json& object_;
};

// Keys whose other values mean another architecture.
void refuse_variants(const Fields& f) {
  struct Fixed {
    const char* key;
    const char* value;
  };
  for (const Fixed& fixed : {Fixed{"topk_method", "noaux_tc"}, Fixed{"scoring_func", "sigmoid"},
                             Fixed{"hidden_act", "silu"}}) {
    const std::string found = f.text(fixed.key, fixed.value);
    DSV32_CHECK(found == fixed.value, unsupported, "{}: {} is {}, only {} is supported", kFile,
                fixed.key, quote(found), fixed.value);
  }
  DSV32_CHECK(!f.boolean("attention_bias", false), unsupported,
              "{}: attention_bias true is not supported", kFile);
  DSV32_CHECK(f.integer("moe_layer_freq", 1) == 1, unsupported,
              "{}: moe_layer_freq other than 1 is not supported", kFile);
  DSV32_CHECK(!f.boolean("tie_word_embeddings", false), unsupported,
              "{}: tie_word_embeddings true is not supported", kFile);
}

void read_rope(const Fields& f, ModelConfig& c) {
  const Json* block = f.find("rope_parameters");
  const bool v5 = block != nullptr;
  if (!v5) block = f.find("rope_scaling");
  c.rope_factor = 1.0f;
  c.mscale = c.mscale_all_dim = 0.0f;
  if (!v5) c.rope_theta = f.number("rope_theta");
  if (!block) return;
  DSV32_CHECK(block->is_object(), bad_format, "{}: the rope block is no object", kFile);
  const Fields rope(*block);
  if (v5)
    c.rope_theta = rope.find("rope_theta") ? rope.number("rope_theta") : f.number("rope_theta");
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return;
  DSV32_CHECK(type == "yarn", unsupported, "{}: rope type {} is not supported", kFile, quote(type));
  c.rope_factor = rope.number("factor");
  c.original_max_position_embeddings = rope.integer("original_max_position_embeddings");
  c.beta_fast = rope.number("beta_fast", 32.0f);
  c.beta_slow = rope.number("beta_slow", 1.0f);
  c.mscale = rope.number("mscale", 0.0f);
  c.mscale_all_dim = rope.number("mscale_all_dim", 0.0f);
}

void read_fp8(const Fields& q, ModelConfig& c) {
  const std::string method = q.text("quant_method", "fp8"), format = q.text("fmt", "e4m3");
  const std::string scheme = q.text("activation_scheme", "dynamic");
  DSV32_CHECK(method == "fp8" && format == "e4m3" && scheme == "dynamic", unsupported,
              "{}: quant_method {}, fmt {}, activation_scheme {}: only fp8, e4m3, dynamic", kFile,
              quote(method), quote(format), quote(scheme));
  const Json& size = q.get("weight_block_size");
  const bool square = size.is_array() && size.items.size() == 2 &&
                      Fields::to_int(size.items[0], "weight_block_size") == 128 &&
                      Fields::to_int(size.items[1], "weight_block_size") == 128;
  DSV32_CHECK(square, unsupported, "{}: weight_block_size must be [128, 128]", kFile);
  c.weight_block_size = 128;
  const std::string scale = q.text("scale_fmt", "");
  DSV32_CHECK(scale.empty() || scale == "ue8m0", unsupported, "{}: scale_fmt {} is not supported",
              kFile, quote(scale));
  c.ue8m0_scales = !scale.empty();
}

// What `dsv32 quantize` writes; `rest` is the source's block, for the matrices that it left alone.
void read_compact(const Fields& q, const std::string& method, ModelConfig& c) {
  c.bits = q.integer("bits");
  c.group_size = q.integer("group_size");
  const bool wide = method == "dsv32_int8";
  DSV32_CHECK(c.bits == (wide ? 8 : 4), bad_format, "{}: quant_method {} with bits {}", kFile,
              quote(method), c.bits);
  DSV32_CHECK(c.group_size == 128 || (c.group_size == 64 && !wide), unsupported,
              "{}: quant_method {} with group_size {}", kFile, quote(method), c.group_size);
}

void read_quantization(const Fields& f, ModelConfig& c) {
  c.weight_block_size = 0;
  c.ue8m0_scales = true;
  const Json* block = f.find("quantization_config");
  if (!block) return;
  DSV32_CHECK(block->is_object(), bad_format, "{}: quantization_config is no object", kFile);
  const Fields q(*block);
  const std::string method = q.text("quant_method", "fp8");
  if (method != "dsv32_int8" && method != "dsv32_int4") return read_fp8(q, c);
  read_compact(q, method, c);
  const Json* rest = q.find("rest");
  if (!rest) return;
  DSV32_CHECK(rest->is_object(), bad_format, "{}: quantization_config's rest is no object", kFile);
  read_fp8(Fields(*rest), c);
}

std::vector<TokenId> read_token_ids(const Fields& f, std::string_view key,
                                    std::vector<TokenId> none) {
  const Json* value = f.find(key);
  if (!value) return none;
  if (!value->is_array()) return {Fields::to_int(*value, key)};
  std::vector<TokenId> ids;
  for (const Json& item : value->items) ids.push_back(Fields::to_int(item, key));
  return ids;
}

// transformers 5 may list each layer's kind, which then wins over first_k_dense_replace.
void read_layer_types(const Fields& f, ModelConfig& c) {
  const Json* types = f.find("mlp_layer_types");
  if (!types) return;
  DSV32_CHECK(
      types->is_array() && types->items.size() == static_cast<std::size_t>(c.num_hidden_layers),
      bad_format, "{}: mlp_layer_types does not list every layer", kFile);
  c.first_k_dense_replace = 0;
  for (std::size_t i = 0; i < types->items.size(); ++i) {
    const std::string& kind = types->items[i].text;
    DSV32_CHECK(kind == "dense" || kind == "sparse", bad_format, "{}: mlp_layer_types holds {}",
                kFile, quote(kind));
    if (kind == "sparse") continue;
    DSV32_CHECK(static_cast<std::size_t>(c.first_k_dense_replace) == i, unsupported,
                "{}: a dense layer behind a sparse one is not supported", kFile);
    ++c.first_k_dense_replace;
  }
}

void read_indexer(const Fields& f, ModelConfig& c) {
  if (c.model_type == "deepseek_v3") {
    c.index_n_heads = c.index_head_dim = c.index_topk = 0;
    return;
  }
  c.index_n_heads = f.integer("index_n_heads");
  c.index_head_dim = f.integer("index_head_dim");
  c.index_topk = f.integer("index_topk");
  c.indexer_rope_interleave = f.boolean("indexer_rope_interleave", false);
}

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
  void positive(const char* name, float value) {
    require(std::isfinite(value) && value > 0, formatted("{} is {}, not above 0", name, value));
  }
  const std::string& faults() const { return faults_; }

 private:
  std::string faults_;
};

constexpr std::int64_t kMaxWidth = 1 << 20;

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
  r.positive("rms_norm_eps", c.rms_norm_eps);
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
  r.positive("routed_scaling_factor", c.routed_scaling_factor);
}

void check_rope_and_tokens(const ModelConfig& c, Ranges& r) {
  r.positive("rope_theta", c.rope_theta);
  r.require(c.rope_theta > 1.0f, "rope_theta is not above 1");
  r.require(std::isfinite(c.rope_factor) && c.rope_factor >= 1.0f, "the rope factor is below 1");
  if (c.rope_factor > 1.0f) {
    r.within("original_max_position_embeddings", c.original_max_position_embeddings, 1, 1 << 24);
    r.positive("beta_fast", c.beta_fast);
    r.positive("beta_slow", c.beta_slow);
    r.require(std::isfinite(c.mscale) && c.mscale >= 0, "mscale is negative or no number");
    r.require(std::isfinite(c.mscale_all_dim) && c.mscale_all_dim >= 0,
              "mscale_all_dim is negative or no number");
  }
  r.within("bos_token_id", c.bos_token_id, 0, c.vocab_size - 1);
  r.require(!c.eos_token_ids.empty() && c.eos_token_ids.size() <= 64,
            "eos_token_id holds no id or too many");
  for (const TokenId id : c.eos_token_ids) r.within("eos_token_id", id, 0, c.vocab_size - 1);
}

std::string range_faults(const ModelConfig& c) {
  Ranges r;
  check_sizes(c, r);
  check_indexer(c, r);
  check_experts(c, r);
  check_rope_and_tokens(c, r);
  return r.faults();
}

}  // namespace

ModelConfig ModelConfig::from_json(std::string_view json) {
  const Json root = parse_json(json, kFile);
  DSV32_CHECK(root.is_object(), bad_format, "{}: no JSON object", kFile);
  const Fields f(root);
  ModelConfig c;
  c.model_type = f.text("model_type", "");
  DSV32_CHECK(c.model_type == "deepseek_v32" || c.model_type == "deepseek_v3", unsupported,
              "{}: model_type {} is not deepseek_v32 or deepseek_v3", kFile, quote(c.model_type));
  refuse_variants(f);
  c.vocab_size = f.integer("vocab_size");
  c.hidden_size = f.integer("hidden_size");
  c.intermediate_size = f.integer("intermediate_size");
  c.num_hidden_layers = f.integer("num_hidden_layers");
  c.num_nextn_predict_layers = f.integer("num_nextn_predict_layers", 0);
  c.first_k_dense_replace = f.integer("first_k_dense_replace", 0);
  c.rms_norm_eps = f.number("rms_norm_eps", 1e-6f);
  c.max_position_embeddings = f.integer("max_position_embeddings");
  c.num_attention_heads = f.integer("num_attention_heads");
  c.q_lora_rank = f.integer("q_lora_rank");
  c.kv_lora_rank = f.integer("kv_lora_rank");
  c.qk_nope_head_dim = f.integer("qk_nope_head_dim");
  c.qk_rope_head_dim = f.integer("qk_rope_head_dim");
  c.v_head_dim = f.integer("v_head_dim");
  c.n_routed_experts = f.integer("n_routed_experts");
  c.n_shared_experts = f.integer("n_shared_experts");
  c.num_experts_per_tok = f.integer("num_experts_per_tok");
  c.n_group = f.integer("n_group");
  c.topk_group = f.integer("topk_group");
  c.moe_intermediate_size = f.integer("moe_intermediate_size");
  c.routed_scaling_factor = f.number("routed_scaling_factor");
  c.norm_topk_prob = f.boolean("norm_topk_prob", true);
  read_indexer(f, c);
  read_rope(f, c);
  read_quantization(f, c);
  read_layer_types(f, c);
  c.bos_token_id = f.integer("bos_token_id", 0);
  c.eos_token_ids = read_token_ids(f, "eos_token_id", {1});
  const std::string faults = range_faults(c);
  DSV32_CHECK(faults.empty(), bad_format, "{}: {}", kFile, faults);
  return c;
}

void ModelConfig::validate() const {
  const std::string faults = range_faults(*this);
  DSV32_CHECK(faults.empty(), invalid_argument, "{}", faults);
}

}  // namespace dsv32
