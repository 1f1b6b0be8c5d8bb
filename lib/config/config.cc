// ModelConfig from config.json: the official form and that of transformers 5.
#include "dsv32/config.h"

#include <string>
#include <utility>
#include <vector>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/json.h"
#include "lib/config/domain.h"
#include "lib/config/fields.h"
#include "lib/config/supported.h"
#include "lib/config/unread_keys.h"

namespace dsv32 {
namespace {

constexpr const char* kFile = kConfigFile;
using Names = std::vector<std::string>;

void append(Names& names, Names more) {
  for (std::string& name : more) names.push_back(std::move(name));
}

// "yarn" or "default"; both spellings of the key may be there if they agree.
std::string read_rope_type(const Fields& rope) {
  std::string type = rope.text("rope_type", rope.text("type", "default"));
  const std::string other = rope.text("type", type);
  DSV32_CHECK(type == other, bad_format, "{}: {} is {} and {} is {}", kFile, rope.name("rope_type"),
              quote(type), rope.name("type"), quote(other));
  DSV32_CHECK(type == "yarn" || type == "default", unsupported,
              "{}: rope_type {} is not supported, only yarn and default", kFile, quote(type));
  return type;
}

void read_yarn(const Fields& rope, ModelConfig& c) {
  c.rope_factor = rope.number("factor");
  c.original_max_position_embeddings = rope.integer("original_max_position_embeddings");
  c.beta_fast = rope.number("beta_fast", 32.0f);
  c.beta_slow = rope.number("beta_slow", 1.0f);
  c.mscale = rope.number("mscale", 0.0f);
  c.mscale_all_dim = rope.number("mscale_all_dim", 0.0f);
  c.truncate = rope.boolean("truncate", true);
  if (!rope.find("attention_factor")) return;
  c.attention_factor = rope.number("attention_factor");
  DSV32_CHECK(c.attention_factor > 0, bad_format, "{}: {} is {}, not above 0", kFile,
              rope.name("attention_factor"), c.attention_factor);
}

void read_rope(const Fields& f, ModelConfig& c, Names& unread) {
  c.rope_factor = 1.0f;
  c.mscale = c.mscale_all_dim = 0.0f;
  const char* key = f.peek("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!f.peek(key)) {
    c.rope_theta = f.number("rope_theta");
    return;
  }
  const Fields rope = f.block(key);
  const bool inside = rope.peek("rope_theta") && rope.path() == "rope_parameters.";
  c.rope_theta = inside ? rope.number("rope_theta") : f.number("rope_theta");
  // Of two that agree neither goes unread.
  if (inside && f.peek("rope_theta") && config_number(*f.peek("rope_theta"), key) == c.rope_theta)
    static_cast<void>(f.find("rope_theta"));
  if (const Json* part = rope.peek("partial_rotary_factor"); part && config_number(*part, key) == 1)
    static_cast<void>(rope.find("partial_rotary_factor"));
  if (read_rope_type(rope) == "yarn") read_yarn(rope, c);
  append(unread, unread_keys(rope, {}));
}

// The indexer's own is read with it. Of a sparse model no reference has another one for MLA.
void read_rope_interleave(const Fields& f, ModelConfig& c) {
  c.rope_interleave = f.boolean("rope_interleave", true);
  DSV32_CHECK(c.rope_interleave || c.model_type == "deepseek_v3", unsupported,
              "{}: rope_interleave false in a {} model is not supported", kFile, c.model_type);
}

// Throws unsupported, naming what the file holds, and what could be read instead.
void require_quantization(bool ok, const Fields& q, std::string_view key) {
  if (ok) return;
  const Json* value = q.peek(key);
  const std::string found = value ? quote(value->is_string() ? value->text : python_json(*value))
                            : q.is_null(key) ? "null"
                                             : "missing";
  throw Error(ErrorCode::unsupported,
              formatted("{}: {} is {}: {}", kFile, q.name(key), found, kSupportedWeights));
}

bool is_block_size(const Json* size) {
  if (!size || !size->is_array() || size->items.size() != 2) return false;
  return config_integer(size->items[0], "weight_block_size") == 128 &&
         config_integer(size->items[1], "weight_block_size") == 128;
}

void read_fp8(const Fields& q, ModelConfig& c, Names& unread) {
  require_quantization(q.text("quant_method", "fp8") == "fp8", q, "quant_method");
  require_quantization(q.text("fmt", "e4m3") == "e4m3", q, "fmt");
  require_quantization(q.text("activation_scheme", "dynamic") == "dynamic", q, "activation_scheme");
  require_quantization(is_block_size(q.find("weight_block_size")), q, "weight_block_size");
  c.weight_block_size = 128;
  const std::string scale = q.text("scale_fmt", "");
  require_quantization(scale.empty() || scale == "ue8m0", q, "scale_fmt");
  c.ue8m0_scales = !scale.empty();
  append(unread, unread_keys(q, silent_quantization_keys()));
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

void read_quantization(const Fields& f, ModelConfig& c, Names& unread) {
  c.weight_block_size = 0;
  c.ue8m0_scales = true;
  if (!f.peek("quantization_config")) return;
  const Fields q = f.block("quantization_config");
  const std::string method = q.text("quant_method", "fp8");
  if (method != "dsv32_int8" && method != "dsv32_int4") return read_fp8(q, c, unread);
  read_compact(q, method, c);
  if (q.peek("rest")) read_fp8(q.block("rest"), c, unread);
  append(unread, unread_keys(q, {}));
}

std::vector<TokenId> read_token_ids(const Fields& f, std::string_view key,
                                    std::vector<TokenId> none) {
  const Json* value = f.find(key);
  if (!value) return none;
  if (!value->is_array()) return {config_integer(*value, key)};
  std::vector<TokenId> ids;
  for (const Json& item : value->items) ids.push_back(config_integer(item, key));
  return ids;
}

// transformers 5 may list each layer's kind, which then wins over first_k_dense_replace.
void read_layer_types(const Fields& f, ModelConfig& c) {
  const Json* types = f.find("mlp_layer_types");
  if (!types) {
    c.first_k_dense_replace = f.integer("first_k_dense_replace", 0);
    return;
  }
  DSV32_CHECK(types->is_array(), bad_format, "{}: mlp_layer_types is no list", kFile);
  DSV32_CHECK(types->items.size() == static_cast<std::size_t>(c.num_hidden_layers), bad_format,
              "{}: mlp_layer_types lists {} layers, num_hidden_layers is {}", kFile,
              types->items.size(), c.num_hidden_layers);
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

// transformers 5 writes them for its caches; every layer of a model has the same kind here.
void read_attention_types(const Fields& f) {
  const Json* types = f.find("layer_types");
  if (!types) return;
  DSV32_CHECK(types->is_array(), bad_format, "{}: layer_types is no list", kFile);
  for (const Json& type : types->items) {
    DSV32_CHECK(type.text == "deepseek_sparse_attention" || type.text == "full_attention",
                unsupported, "{}: layer_types holds {}, which is not supported", kFile,
                quote(type.text));
  }
}

// A projection or an expert that is not there is another architecture, not a slip.
void refuse_left_out(const Fields& f) {
  DSV32_CHECK(!f.is_null("q_lora_rank"), unsupported,
              "{}: q_lora_rank is null: queries of one matrix (q_proj) are not supported, only "
              "those of q_a_proj and q_b_proj",
              kFile);
  const Json* shared = f.peek("n_shared_experts");
  DSV32_CHECK(!f.is_null("n_shared_experts") && !(shared && shared->text == "0"), unsupported,
              "{}: n_shared_experts is {}: a model without shared experts is not supported", kFile,
              shared ? "0" : "null");
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

}  // namespace

ModelConfig ModelConfig::from_json(std::string_view json, std::vector<std::string>* unread) {
  const FloatState ours;
  const Json root = parse_json(json, kFile);
  DSV32_CHECK(root.is_object(), bad_format, "{}: no JSON object", kFile);
  const Fields f(root, "");
  Names names;
  ModelConfig c;
  c.model_type = f.get("model_type").text;
  DSV32_CHECK(c.model_type == "deepseek_v32" || c.model_type == "deepseek_v3", unsupported,
              "{}: model_type {} is not deepseek_v32 or deepseek_v3", kFile, quote(c.model_type));
  refuse_other_architectures(f);
  refuse_left_out(f);
  c.vocab_size = f.integer("vocab_size");
  c.hidden_size = f.integer("hidden_size");
  c.intermediate_size = f.integer("intermediate_size");
  c.num_hidden_layers = f.integer("num_hidden_layers");
  c.num_nextn_predict_layers = f.integer("num_nextn_predict_layers", 0);
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
  read_rope(f, c, names);
  read_rope_interleave(f, c);
  read_quantization(f, c, names);
  read_layer_types(f, c);
  read_attention_types(f);
  read_derived_keys(f, c);
  c.bos_token_id = f.integer("bos_token_id", 0);
  c.eos_token_ids = read_token_ids(f, "eos_token_id", {1});
  const std::string faults = range_faults(c);
  DSV32_CHECK(faults.empty(), bad_format, "{}: {}", kFile, faults);
  append(names, unread_keys(f, silent_keys()));
  if (unread) *unread = std::move(names);
  return c;
}

void ModelConfig::validate() const {
  const FloatState ours;
  const std::string faults = range_faults(*this);
  DSV32_CHECK(faults.empty(), invalid_argument, "{}", faults);
}

}  // namespace dsv32
