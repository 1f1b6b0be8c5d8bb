// config.json: the attacks CF. Each row changes one key of a config that loads.
#include "dsv32/config.h"

#include <string>

#include "lib/base/json.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

std::string good() {
  return conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/config.json");
}

// The config with `key` (a dot goes one level down) set to a JSON text; "" removes it.
std::string with(const std::string& key, const std::string& value) {
  Json root = parse_json(good(), "config");
  Json* object = &root;
  std::string name = key;
  if (const std::size_t dot = key.find('.'); dot != std::string::npos) {
    for (JsonMember& member : object->members) {
      if (member.key == key.substr(0, dot)) object = &member.value;
    }
    name = key.substr(dot + 1);
  }
  std::erase_if(object->members, [&](const JsonMember& m) { return m.key == name; });
  std::string text = python_json(root);
  if (value.empty()) return text;
  // Raw text: the value may be what no Json can hold.
  std::string marker = "\"@value@\"";
  Json placeholder;
  placeholder.kind = Json::Kind::string;
  placeholder.text = "@value@";
  object->members.push_back({name, placeholder});
  text = python_json(root);
  return text.replace(text.find(marker), marker.size(), value);
}

void refused(const std::string& key, const std::string& value) {
  INFO(key << " = " << value);
  try {
    ModelConfig::from_json(with(key, value)).validate();
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.code() != ErrorCode::internal);
    CHECK(message.size() <= 512);
    const std::size_t dot = key.find('.');
    const std::string name = dot == std::string::npos ? key : key.substr(dot + 1);
    INFO(message);
    CHECK((message.find(name) != std::string::npos || name == "factor" || value == "[2]" ||
           message.find("JSON") != std::string::npos));
    return;
  }
  FAIL("it loaded");
}

TEST_CASE("the bundled model's config loads") {
  const ModelConfig c = ModelConfig::from_json(good());
  c.validate();
  CHECK(c.index_topk == 64);
  CHECK(c.rope_factor == 4.0f);
  CHECK(c.original_max_position_embeddings == 1024);
  CHECK(c.ue8m0_scales);
}

TEST_CASE("CF-02 CF-05 groups that do not fit the experts") {
  for (const char* value : {"0", "3", "-1", "8", "16"}) refused("n_group", value);
  for (const char* value : {"0", "5"}) refused("topk_group", value);
  for (const char* value : {"0", "9", "-2"}) refused("num_experts_per_tok", value);
}

TEST_CASE("CF-06 CF-07 DT-18 sizes that are none") {
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "q_lora_rank",
        "kv_lora_rank", "v_head_dim", "intermediate_size", "moe_intermediate_size"}) {
    for (const char* value : {"-1", "0", "2147483648", "4294967296", "9223372036854775808",
                              "1000000000000000000", "\"61\"", "61.5", "true", "null", "[2]"}) {
      refused(key, value);
    }
  }
}

TEST_CASE("CF-08 factors that are no numbers") {
  for (const char* key : {"rms_norm_eps", "routed_scaling_factor", "rope_theta"}) {
    for (const char* value : {"NaN", "Infinity", "1e999", "-1.0", "\"1\""}) {
      refused(key, value);
    }
  }
  refused("rope_theta", "0");
  refused("rope_scaling.factor", "-4");
}

TEST_CASE("CF-11 CF-12 widths that the kernels cannot take") {
  for (const char* value : {"31", "0", "-2"}) refused("qk_rope_head_dim", value);
  for (const char* value : {"96", "0", "100"}) refused("index_head_dim", value);
  for (const char* value : {"-1", "0"}) refused("index_n_heads", value);
  for (const char* value : {"-1", "0", "4097"}) refused("index_topk", value);
}

TEST_CASE("CF-13 CF-14 what this library does not do") {
  for (const char* value : {"[0, 128]", "[128]", "[127, 127]", "[2147483648, 1]"}) {
    refused("quantization_config.weight_block_size", value);
  }
  refused("quantization_config.fmt", "\"e5m2\"");
  refused("quantization_config.scale_fmt", "\"e4m3\"");
  refused("quantization_config.activation_scheme", "\"static\"");
  for (const char* value : {"\"llama\"", "\"deepseek_v2\"", "\"deepseek_v4\"", "\"\"", "7"}) {
    refused("model_type", value);
  }
  CHECK_NOTHROW(ModelConfig::from_json(with("auto_map", R"({"AutoModel": "x.py--Model"})")));
}

TEST_CASE("INT8 and INT4 with what the source had") {
  const auto block = [](const std::string& text) {
    return ModelConfig::from_json(with("quantization_config", "{" + text + "}"));
  };
  const std::string rest = R"(, "rest": {"quant_method": "fp8", "weight_block_size": [128, 128]})";
  const ModelConfig int8 =
      block(R"("quant_method": "dsv32_int8", "bits": 8, "group_size": 128)" + rest);
  CHECK((int8.bits == 8 && int8.group_size == 128 && int8.weight_block_size == 128));
  CHECK_FALSE(int8.ue8m0_scales);
  const ModelConfig int4 = block(R"("quant_method": "dsv32_int4", "bits": 4, "group_size": 64)");
  CHECK((int4.bits == 4 && int4.group_size == 64 && int4.weight_block_size == 0));
  CHECK(ModelConfig::from_json(good()).group_size == 0);
  for (const char* bad :
       {R"("quant_method": "dsv32_int4", "bits": 8, "group_size": 64)",
        R"("quant_method": "dsv32_int8", "bits": 8, "group_size": 64)",
        R"("quant_method": "dsv32_int4", "bits": 4, "group_size": 32)",
        R"("quant_method": "dsv32_int4", "bits": 4)",
        R"("quant_method": "dsv32_int2", "bits": 2, "group_size": 64)",
        R"("quant_method": "dsv32_int4", "bits": 4, "group_size": 64, "rest": 1)"})
    CHECK_THROWS_AS(block(bad), Error);
}

TEST_CASE("CF-15 CF-17 ids and lengths out of range") {
  for (const char* value : {"-1", "100000000", "[1, -5]"}) refused("eos_token_id", value);
  for (const char* value : {"0", "-1", "2147483648"}) refused("max_position_embeddings", value);
}

TEST_CASE("a config that is cut, nested or no object is refused") {
  const std::string text = good();
  for (std::size_t size = 0; size + 2 < text.size(); size += 7) {
    CHECK_THROWS_AS(ModelConfig::from_json(text.substr(0, size)), Error);
  }
  CHECK_THROWS_AS(ModelConfig::from_json("[]"), Error);
  CHECK_THROWS_AS(ModelConfig::from_json(std::string(100000, '[')), Error);
}

}  // namespace
}  // namespace dsv32::test
