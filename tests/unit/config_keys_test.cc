// Every key of config.json is read, refused, named, or in the documented list of those that mean
// nothing.
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "dsv32/config.h"

#include "lib/base/json.h"
#include "lib/config/logit_values.h"
#include "lib/config/unread_keys.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using Names = std::vector<std::string>;

// DeepSeek-V3.2's, all keys of it.
constexpr const char* kV32 = R"({
  "architectures": ["DeepseekV32ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
  "hidden_act": "silu", "hidden_size": 7168, "index_head_dim": 128, "index_n_heads": 64,
  "index_topk": 2048, "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v32", "moe_intermediate_size": 2048,
  "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
  "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8,
  "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                          "scale_fmt": "ue8m0", "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
                   "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
                   "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "transformers_version": "4.44.2", "use_cache": true,
  "v_head_dim": 128, "vocab_size": 129280})";

Json v32() { return parse_json(kV32, "config"); }

Json value_of(const std::string& text) {
  return parse_json("{\"x\": " + text + "}", "value").members.front().value;
}

// The object that the last part of a dotted key is in.
Json& parent_of(Json& root, std::string& key) {
  Json* object = &root;
  for (std::size_t dot; (dot = key.find('.')) != std::string::npos; key = key.substr(dot + 1)) {
    const std::string first = key.substr(0, dot);
    const auto it = std::find_if(object->members.begin(), object->members.end(),
                                 [&](const JsonMember& m) { return m.key == first; });
    REQUIRE(it != object->members.end());
    object = &it->value;
  }
  return *object;
}

void remove(Json& root, std::string key) {
  Json& object = parent_of(root, key);
  std::erase_if(object.members, [&](const JsonMember& m) { return m.key == key; });
}

void set(Json& root, std::string key, const Json& value) {
  remove(root, key);
  Json& object = parent_of(root, key);
  object.members.push_back({key, value});
}

Json with(Json root, const std::string& key, const std::string& value) {
  set(root, key, value_of(value));
  return root;
}

// V3's, or with `scale_fmt` V3.1's: dense attention.
Json v3(bool scale_fmt) {
  Json root = v32();
  for (const char* key : {"index_head_dim", "index_n_heads", "index_topk"}) remove(root, key);
  set(root, "model_type", value_of("\"deepseek_v3\""));
  set(root, "architectures", value_of("[\"DeepseekV3ForCausalLM\"]"));
  set(root, "auto_map", value_of(R"({"AutoConfig": "configuration_deepseek.DeepseekV3Config"})"));
  set(root, "aux_loss_alpha", value_of("0.001"));
  set(root, "seq_aux", value_of("true"));
  set(root, "pretraining_tp", value_of("1"));
  if (!scale_fmt) remove(root, "quantization_config.scale_fmt");
  return root;
}

// As transformers 5 writes it.
Json v5() {
  Json root = v32();
  Json rope = *root.find("rope_scaling");
  for (const char* key : {"rope_scaling", "rope_theta", "torch_dtype", "ep_size"})
    remove(root, key);
  remove(rope, "type");
  set(rope, "rope_type", value_of("\"yarn\""));
  set(rope, "rope_theta", value_of("10000.0"));
  set(root, "rope_parameters", rope);
  set(root, "dtype", value_of("\"bfloat16\""));
  set(root, "head_dim", value_of("64"));
  set(root, "qk_head_dim", value_of("192"));
  set(root, "pad_token_id", value_of("null"));
  set(root, "mlp_bias", value_of("false"));
  std::string dense = "[", sparse = "[";
  for (int i = 0; i < 61; ++i) {
    dense += std::string(i > 0 ? "," : "") + (i < 3 ? "\"dense\"" : "\"sparse\"");
    sparse += std::string(i > 0 ? "," : "") + "\"deepseek_sparse_attention\"";
  }
  set(root, "mlp_layer_types", value_of(dense + "]"));
  set(root, "layer_types", value_of(sparse + "]"));
  return root;
}

// What `dsv32 quantize` makes of V3.2's.
Json int4() {
  return with(v32(), "quantization_config",
              R"({"quant_method": "dsv32_int4", "bits": 4, "group_size": 64, "rest":
                  {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                   "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}})");
}

ModelConfig read(const Json& root, Names* unread = nullptr) {
  return ModelConfig::from_json(python_json(root), unread);
}

Names unread_of(const Json& root) {
  Names unread;
  read(root, &unread);
  return unread;
}

std::string all_values(const ModelConfig& c) {
  std::string text = logit_values(c) + std::to_string(c.max_position_embeddings) + "," +
                     std::to_string(c.bos_token_id);
  for (const TokenId id : c.eos_token_ids) text += "," + std::to_string(id);
  return text;
}

TEST_CASE("reports_W2 the official configs give not one line") {
  CHECK(unread_of(v32()).empty());
  CHECK(unread_of(v3(true)).empty());
  CHECK(unread_of(v3(false)).empty());
  CHECK(unread_of(v5()).empty());
  CHECK(unread_of(int4()).empty());
  CHECK(all_values(read(v5())) == all_values(read(v32())));
  CHECK(unread_of(parse_json(conformance::read_file(std::string(DSV32_SOURCE_DIR) +
                                                    "/examples/tiny_model/config.json"),
                             "config"))
            .empty());
}

TEST_CASE("reports_W2 a key that nobody reads is named, of whatever type, in every block") {
  for (const std::string block :
       {"", "rope_scaling.", "quantization_config.", "quantization_config.rest."}) {
    const Json root = block.ends_with("rest.") ? int4() : v32();
    const std::string key = block + "some_new_key";
    for (const char* value : {"7", "-1.5", "true", "\"word\"", "[1]", "{\"a\": 1}", "0"}) {
      INFO(key << " = " << value);
      CHECK(unread_of(with(root, key, value)) == Names{key});
    }
    for (const char* value : {"null", "false", "\"\"", "[]", "{}"}) {
      INFO(key << " = " << value);
      CHECK(unread_of(with(root, key, value)).empty());
    }
  }
  const Json default_rope = with(v3(true), "rope_scaling", R"({"type": "default", "factor": 4})");
  CHECK(unread_of(default_rope) == Names{"rope_scaling.factor"});
  Json two = v5();
  set(two, "rope_scaling", *v32().find("rope_scaling"));
  CHECK(unread_of(two) == Names{"rope_scaling"});
  CHECK(unread_of(with(v5(), "rope_theta", "10000")).empty());
  CHECK(unread_of(with(v5(), "rope_theta", "20000")) == Names{"rope_theta"});
  CHECK(unread_of(with(v3(true), "index_topk", "2048")) == Names{"index_topk"});
}

TEST_CASE("reports_W2 keys that repeat others are silent only if they agree") {
  for (const auto& [key, same] :
       {std::pair("num_key_value_heads", "128"), std::pair("head_dim", "64"),
        std::pair("qk_head_dim", "192"), std::pair("num_local_experts", "256")}) {
    INFO(key);
    CHECK(unread_of(with(v32(), key, same)).empty());
    CHECK(unread_of(with(v32(), key, "5")) == Names{key});
  }
}

// Another value of the same type.
Json changed(const Json& value) {
  switch (value.kind) {
    case Json::Kind::boolean:
      return value_of(value.boolean ? "false" : "true");
    case Json::Kind::integer:
      return value_of(value.text == "5" ? "6" : "5");
    case Json::Kind::real:
      return value_of("0.75");
    case Json::Kind::string:
      return value_of("\"another\"");
    default:
      return value_of("[5]");
  }
}

// Keys that a config may hold and the official one does not, with a value that means something.
const std::vector<std::pair<std::string, std::string>> kMore = {
    {"rope_interleave", "true"},
    {"indexer_rope_interleave", "true"},
    {"mlp_bias", "false"},
    {"use_index_cache", "false"},
    {"index_topk_freq", "1"},
    {"index_topk_pattern", "\"\""},
    {"head_dim", "64"},
    {"qk_head_dim", "192"},
    {"num_experts", "256"},
    {"num_local_experts", "256"},
    {"sliding_window", "null"},
    {"rope_scaling.attention_factor", "1.5"},
    {"rope_scaling.truncate", "true"},
    {"rope_scaling.rope_type", "\"yarn\""},
    {"rope_scaling.partial_rotary_factor", "1.0"},
};

void walk(const Json& root, const Json& object, const std::string& path) {
  const auto silent = path.starts_with("quantization_config") ? silent_quantization_keys()
                      : path.empty()                          ? silent_keys()
                                                              : silent_keys().first(0);
  const std::string before = all_values(read(root));
  for (const JsonMember& member : object.members) {
    const std::string key = path + member.key;
    const bool ignored = std::find(silent.begin(), silent.end(), member.key) != silent.end();
    if (member.value.is_object() && !ignored) {
      walk(root, member.value, key + ".");
      continue;
    }
    Json other = root;
    set(other, key, changed(member.value));
    INFO(key);
    try {
      Names unread;
      const std::string after = all_values(read(other, &unread));
      const bool named = std::find(unread.begin(), unread.end(), key) != unread.end();
      CHECK((after != before || named || ignored));
      CHECK_FALSE((after != before && ignored));
    } catch (const Error& error) {  // refused, by name
      CHECK(std::string(error.what()).find(member.key) != std::string::npos);
    }
  }
}

TEST_CASE("reports_C11 every key of config.json is read, refused, named or documented") {
  Json full = v32();
  for (const auto& [key, value] : kMore) {
    set(full, key, value_of(value));
    if (key == "rope_scaling.rope_type") remove(full, "rope_scaling.type");
  }
  walk(full, full, "");
  for (const Json& root : {v32(), v3(false), v5(), int4()}) walk(root, root, "");
}

TEST_CASE("reports_W2 the keys that mean nothing are those of docs/formats.md") {
  const std::string docs =
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/docs/formats.md");
  for (const auto keys : {silent_keys(), silent_quantization_keys()}) {
    for (const std::string_view key : keys) {
      INFO(key);
      CHECK(docs.find("`" + std::string(key) + "`") != std::string::npos);
    }
  }
}

void refused(ErrorCode code, const Json& root, const Names& parts) {
  const std::string message = check_error(code, parts.front(), [&] { read(root); });
  for (const std::string& part : parts) CHECK(message.find(part) != std::string::npos);
}

TEST_CASE("reports_W9 values out of their domain are refused by name") {
  const auto bad = [](const std::string& key, const std::string& value) {
    INFO(key << " = " << value);
    const std::string name = key.substr(key.rfind('.') + 1);
    refused(ErrorCode::bad_format, with(v32(), key, value), {name == "factor" ? "factor" : name});
  };
  bad("rope_scaling.original_max_position_embeddings", "163841");
  bad("rope_scaling.beta_fast", "0.5");  // below beta_slow
  bad("rope_scaling.beta_slow", "33");
  for (const char* key : {"rope_scaling.mscale", "rope_scaling.mscale_all_dim"})
    for (const char* value : {"1e30", "-1", "101"}) bad(key, value);
  for (const char* value : {"1e30", "0", "-1", "1e300"})
    bad("rope_scaling.attention_factor", value);
  for (const char* value : {"1e30", "0.5", "-4"}) bad("rope_scaling.factor", value);
  for (const char* value : {"1e30", "1", "-1"}) bad("rope_theta", value);
  for (const char* value : {"1e30", "0", "2"}) bad("rms_norm_eps", value);
  for (const char* value : {"1e30", "0", "-2.5"}) bad("routed_scaling_factor", value);
  ModelConfig by_hand;
  by_hand.mscale_all_dim = 1e30f;
  check_error(ErrorCode::invalid_argument, "mscale_all_dim", [&] { by_hand.validate(); });
  CHECK_NOTHROW(ModelConfig().validate());
}

TEST_CASE("reports_C3 what config.json says of another format is named, with what is supported") {
  const auto quantization = [](const std::string& block) {
    return with(v32(), "quantization_config", block);
  };
  refused(ErrorCode::unsupported,
          quantization(R"({"quant_method": "compressed-tensors", "format": "float-quantized"})"),
          {"quant_method", "compressed-tensors", "supported are BF16"});
  const std::string awq = check_error(ErrorCode::unsupported, "awq", [&] {
    read(quantization(R"({"quant_method": "awq", "bits": 4, "group_size": 64})"));
  });
  CHECK(awq.find("e4m3\"") == std::string::npos);  // which the file does not hold
  CHECK(awq.find("dynamic\"") == std::string::npos);
  refused(ErrorCode::unsupported,
          quantization(R"({"quant_method": "fp8", "activation_scheme": "dynamic",
                           "weight_block_size": null})"),
          {"weight_block_size", "null", "128 x 128"});
  refused(ErrorCode::unsupported, quantization(R"({"quant_method": "fp8"})"),
          {"weight_block_size", "missing"});
  refused(ErrorCode::unsupported, with(v32(), "q_lora_rank", "null"), {"q_lora_rank is null"});
  refused(ErrorCode::unsupported, with(v32(), "n_shared_experts", "null"),
          {"n_shared_experts is null"});
  refused(ErrorCode::unsupported, with(v32(), "n_shared_experts", "0"), {"n_shared_experts is 0"});
  refused(ErrorCode::unsupported, with(v32(), "use_index_cache", "true"),
          {"use_index_cache is true", "indexers shared between layers"});
  refused(ErrorCode::unsupported, with(v32(), "index_topk_freq", "2"),
          {"index_topk_freq is 2", "only 1 is supported"});
  refused(ErrorCode::unsupported, with(v32(), "rope_interleave", "false"), {"rope_interleave"});
  CHECK_FALSE(read(with(v3(true), "rope_interleave", "false")).rope_interleave);
  for (const auto& [key, value] :
       {std::pair("use_index_cache", "false"), std::pair("index_topk_freq", "1"),
        std::pair("index_topk_freq", "1.0"), std::pair("attention_bias", "false"),
        std::pair("sliding_window", "null"), std::pair("rope_interleave", "true"),
        std::pair("index_topk_pattern", "null")}) {
    INFO(key);
    CHECK(unread_of(with(v32(), key, value)).empty());
  }
}

}  // namespace
}  // namespace dsv32::test
