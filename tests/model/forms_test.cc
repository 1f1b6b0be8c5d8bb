// The same model in transformers' forms: fused experts, and the keys of its version 5. Same bits.
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "dsv32/session.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

std::vector<float> logits_of(const fs::path& folder) {
  Session session(Model::load(folder, {.backend = {.num_threads = 1}, .kv_cache_tokens = 256}));
  std::vector<TokenId> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % 90);
  const auto row = session.append(tokens);
  return {row.begin(), row.end()};
}

std::string config_of(const std::string& name) {
  return conformance::read_file(golden_model(name) / "config.json");
}

TEST_CASE("fused expert names: gate rows, then up rows") {
  const TempFolder folder;
  Tensors tensors = tensors_of(golden_model("bf16"));
  for (int layer = 1; layer < 3; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".mlp.experts.";
    Tensor both{"BF16", {8, 96, 128}, ""}, down{"BF16", {8, 128, 48}, ""};
    for (int e = 0; e < 8; ++e) {
      for (const char* part : {"gate", "up", "down"}) {
        const std::string name = p + std::to_string(e) + "." + part + "_proj.weight";
        (std::strcmp(part, "down") == 0 ? down : both).data += tensors.at(name).data;
        tensors.erase(name);
      }
    }
    tensors[p + "gate_up_proj"] = both;
    tensors[p + "down_proj"] = down;
  }
  write_text(folder.path() / "config.json", config_of("bf16"));
  write_shard(folder.path() / "model.safetensors", tensors);
  CHECK(logits_of(folder.path()) == logits_of(golden_model("bf16")));
  tensors["model.layers.2.mlp.experts.gate_up_proj"].shape = {8, 128, 96};  // the other way round
  write_shard(folder.path() / "model.safetensors", tensors);
  check_error(ErrorCode::mismatch, "gate_up_proj", [&] { logits_of(folder.path()); });
}

// config.json of the golden model with `before` replaced.
std::string replaced(std::string text, const std::string& before, const std::string& after) {
  const std::size_t at = text.find(before);
  REQUIRE(at != std::string::npos);
  return text.replace(at, before.size(), after);
}

TEST_CASE("the config keys of transformers 5") {
  const TempFolder folder;
  fs::create_symlink(golden_model("fp8") / "model.safetensors",
                     folder.path() / "model.safetensors");
  std::string text = config_of("fp8");
  text = replaced(text, "\"rope_theta\": 10000,", "");
  text = replaced(text, "\"torch_dtype\"", "\"dtype\"");
  text = replaced(text, "\"rope_scaling\": {", "\"rope_parameters\": {\"rope_theta\": 10000.0,");
  text = replaced(text, "\"type\": \"yarn\"", "\"rope_type\": \"yarn\"");
  text = replaced(text, "\"first_k_dense_replace\": 1,",
                  "\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"], \"head_dim\": 16, "
                  "\"qk_head_dim\": 48, \"indexer_rope_interleave\": false,");
  write_text(folder.path() / "config.json", text);
  CHECK(logits_of(folder.path()) == logits_of(golden_model("fp8")));
  const auto refused = [&](const std::string& before, const std::string& after, ErrorCode code) {
    write_text(folder.path() / "config.json", replaced(text, before, after));
    check_error(code, "", [&] { logits_of(folder.path()); });
  };
  refused("\"yarn\"", "\"longrope\"", ErrorCode::unsupported);
  refused("\"sparse\", \"sparse\"", "\"sparse\"", ErrorCode::bad_format);
  refused("\"dense\", \"sparse\"", "\"sparse\", \"dense\"", ErrorCode::unsupported);
  refused("\"rope_theta\": 10000.0,", "", ErrorCode::bad_format);
}

}  // namespace
}  // namespace dsv32::test
