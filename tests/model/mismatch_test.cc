// Parts of a model's folder that do not belong together.
#include <filesystem>
#include <string>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

// The golden FP8 model's config with another number for `key`.
std::string config_with(const std::string& key, int value) {
  std::string text = conformance::read_file(golden_model("fp8") / "config.json");
  const std::string start = "\"" + key + "\": ";
  const std::size_t at = text.find(start) + start.size();
  REQUIRE(at > start.size());
  return text.replace(at, text.find_first_of(",}\n", at) - at, std::to_string(value));
}

int config_value(const std::string& key) {
  const std::string text = conformance::read_file(golden_model("fp8") / "config.json");
  return std::stoi(text.substr(text.find("\"" + key + "\": ") + key.size() + 4));
}

TEST_CASE("CF-01 widths of the config that the tensors do not have") {
  const TempFolder folder;
  fs::create_symlink(golden_model("fp8") / "model.safetensors",
                     folder.path() / "model.safetensors");
  const auto refused = [&](const std::string& key, int value, const std::string& tensor) {
    INFO(key << " = " << value);
    write_text(folder.path() / "config.json", config_with(key, value));
    check_error(ErrorCode::mismatch, tensor,
                [&] { Model::load(folder.path(), {.kv_cache_tokens = 256}); });
  };
  for (const char* key : {"num_attention_heads", "qk_nope_head_dim"}) {
    refused(key, config_value(key) * 2, "q_b_proj");
  }
  refused("qk_rope_head_dim", config_value("qk_rope_head_dim") / 2, "q_b_proj");
  refused("kv_lora_rank", config_value("kv_lora_rank") * 2, "kv_a_proj_with_mqa");
  refused("q_lora_rank", config_value("q_lora_rank") * 2, "q_a_proj");
  refused("v_head_dim", config_value("v_head_dim") * 2, "kv_b_proj");
  refused("vocab_size", config_value("vocab_size") + 1, "embed_tokens");
  refused("num_hidden_layers", config_value("num_hidden_layers") + 9, "are missing");
  refused("n_routed_experts", config_value("n_routed_experts") * 2, "experts.8.");
  refused("index_head_dim", config_value("index_head_dim") * 2, "indexer");
}

TEST_CASE("CF-19 more ranks than the version runs are refused, and so are none") {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("fp8"));
  for (const int ranks : {-1, 0, 2, 3, 8}) {
    check_error(ErrorCode::unsupported, "ranks", [&] { checkpoint.plan({.ranks = ranks}); });
  }
  CHECK(Communicator().size() == 1);
}

TEST_CASE("TK-16 CF-15 another model's tokenizer beside the weights") {
  const TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::create_symlink(golden_model("fp8") / name, folder.path() / name);
  }
  const fs::path tokenizer = fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model/tokenizer.json";
  const std::string without = Checkpoint::open(folder.path()).fingerprint();
  fs::copy(tokenizer, folder.path() / "tokenizer.json");
  const std::string message = check_error(ErrorCode::mismatch, "tokenizer.json", [&] {
    Model::load(folder.path(), {.kv_cache_tokens = 256});
  });
  CHECK(message.find("2048") != std::string::npos);
  CHECK(message.find(std::to_string(config_value("vocab_size"))) != std::string::npos);
  // One that is not too large is legal, as rows may be padding; the fingerprint tells them apart.
  const std::string with = Checkpoint::open(folder.path()).fingerprint();
  CHECK(with != without);
  std::string text = conformance::read_file(tokenizer);
  text[text.find("\"a\"") + 1] = '~';
  write_text(folder.path() / "tokenizer.json", text);
  CHECK(Checkpoint::open(folder.path()).fingerprint() != with);
}

TEST_CASE("IX-12 shards of two revisions have a fingerprint of their own") {
  const TempFolder folder;
  const Tensors old = tensors_of(golden_model("fp8"));
  Tensors renewed = old;
  for (auto& [name, tensor] : renewed) {
    if (name.find("weight") != std::string::npos && tensor.dtype == "F8_E4M3") {
      tensor.data[0] = static_cast<char>(tensor.data[0] ^ 1);
    }
  }
  fs::copy(golden_model("fp8") / "config.json", folder.path() / "config.json");
  const auto print = [&](const Tensors& first, const Tensors& second) {
    Tensors parts[2];
    int i = 0;
    for (const auto& [name, tensor] : first) {
      parts[i % 2][name] = i % 2 == 0 ? tensor : second.at(name);
      ++i;
    }
    write_shard(folder.path() / "a.safetensors", parts[0]);
    write_shard(folder.path() / "b.safetensors", parts[1]);
    return Checkpoint::open(folder.path()).fingerprint(Verify::all);
  };
  const std::string before = print(old, old), after = print(renewed, renewed);
  CHECK(before == Checkpoint::open(golden_model("fp8")).fingerprint(Verify::all));
  CHECK(before != after);
  for (const std::string& mixed : {print(old, renewed), print(renewed, old)}) {
    CHECK(mixed != before);
    CHECK(mixed != after);
  }
}

TEST_CASE("IX-08 an index beyond the cap is refused unread") {
  const TempFolder folder;
  fs::copy(golden_model("fp8") / "config.json", folder.path() / "config.json");
  const fs::path index = folder.path() / "model.safetensors.index.json";
  write_text(index, "{}");
  fs::resize_file(index, std::uintmax_t{500} << 20);  // sparse
  check_error(ErrorCode::limit, "index.json", [&] { Checkpoint::open(folder.path()); });
}

TEST_CASE("a generation_config.json with values of the wrong kind is refused by name") {
  const TempFolder folder;
  for (const char* file : {"config.json", "model.safetensors"})
    fs::create_symlink(golden_model("fp8") / file, folder.path() / file);
  const auto load = [&](const std::string& json) {
    write_text(folder.path() / "generation_config.json", json);
    return Model::load(folder.path(), {.backend = {.num_threads = 1}, .kv_cache_tokens = 64});
  };
  CHECK(load(R"({"temperature": null, "top_p": 1, "top_k": 40.0})").default_sampling().top_k == 40);
  CHECK(load(R"({"do_sample": false, "temperature": 0.5})").default_sampling().temperature == 0.0f);
  for (const char* json : {"[]", R"({"temperature": "hot"})", R"({"temperature": -1})",
                           R"({"top_p": 1.5})", R"({"top_k": 1e30})", R"({"top_k": -1})", "{"}) {
    INFO(json);
    check_error(ErrorCode::bad_format, "generation_config.json", [&] { load(json); });
  }
}

}  // namespace
}  // namespace dsv32::test
