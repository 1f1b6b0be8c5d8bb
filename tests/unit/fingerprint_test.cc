// Checkpoint::fingerprint: what changes it, at which Verify, and what does not.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/checkpoint.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

constexpr Verify kLevels[] = {Verify::headers, Verify::scales, Verify::all};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// A golden checkpoint to spoil.
class Spoilt {
 public:
  explicit Spoilt(const std::string& golden)
      : tensors(tensors_of(golden_model(golden))),
        config(conformance::read_file(golden_model(golden) / "config.json")) {}

  std::string print(Verify verify) const {
    write_text(folder_.path() / "config.json", config);
    write_shard(folder_.path() / "model.safetensors", tensors);
    return Checkpoint::open(folder_.path()).fingerprint(verify);
  }

  Tensors tensors;
  std::string config;

 private:
  TempFolder folder_;
};

TEST_CASE("the fingerprint sees what of config.json reaches a logit") {
  for (const Verify verify : kLevels) {
    const std::string before = Checkpoint::open(golden_model("fp8")).fingerprint(verify);
    const std::pair<const char*, const char*> changes[] = {
        {"\"rope_theta\": 10000", "\"rope_theta\": 10001"},
        {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1.0000001e-06"},
        {"\"index_topk\": 16", "\"index_topk\": 17"},
        {"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 3"},
        {"\"routed_scaling_factor\": 2.5", "\"routed_scaling_factor\": 2.25"},
        {"\"norm_topk_prob\": true", "\"norm_topk_prob\": false"},
        {"\"mscale_all_dim\": 1.0", "\"mscale_all_dim\": 0.5"},
        {"\"original_max_position_embeddings\": 32", "\"original_max_position_embeddings\": 64"}};
    for (const auto& [from, to] : changes) {
      INFO(to);
      Spoilt spoilt("fp8");
      spoilt.config = replaced(spoilt.config, from, to);
      CHECK(spoilt.print(verify) != before);
    }
  }
}

TEST_CASE("the fingerprint does not see what of config.json reaches no logit") {
  for (const Verify verify : kLevels) {
    const std::string before = Checkpoint::open(golden_model("fp8")).fingerprint(verify);
    const std::pair<const char*, const char*> changes[] = {
        {"\"max_position_embeddings\": 4096", "\"max_position_embeddings\": 2048"},
        {"{\n", "{   \n\n\n\t"},
        {"\"vocab_size\": 256,\n \"hidden_size\": 128,",
         "\"hidden_size\": 128,\n \"vocab_size\": 256,"},
        {"\"eos_token_id\": 1", "\"eos_token_id\": [1, 2]"},
        {"\"rope_theta\": 10000", "\"rope_theta\": 1e4"}};
    for (const auto& [from, to] : changes) {
      INFO(to);
      Spoilt spoilt("fp8");
      spoilt.config = replaced(spoilt.config, from, to);
      CHECK(spoilt.print(verify) == before);
    }
  }
}

// Flips a bit of byte `at` of every tensor named; whether the fingerprint sees it.
bool sees(Verify verify, const std::string& golden, const std::string& part, std::size_t at) {
  Spoilt spoilt(golden);
  const std::string before = spoilt.print(verify);
  int changed = 0;
  for (auto& [name, tensor] : spoilt.tensors) {
    if (name.find(part) == std::string::npos) continue;
    REQUIRE(at < tensor.data.size());
    tensor.data[at] = static_cast<char>(tensor.data[at] ^ 1);
    ++changed;
  }
  REQUIRE(changed == 1);
  return spoilt.print(verify) != before;
}

TEST_CASE("the fingerprint sees blocks of every weight, with Verify::all every byte") {
  const std::string name = "model.embed_tokens.weight";  // 256 rows of 128
  const std::size_t bytes = tensors_of(golden_model("bf16")).at(name).data.size();
  REQUIRE(bytes == 65536);
  const std::size_t last = bytes - 1024;  // where the last block begins
  for (const std::size_t seen : {std::size_t{0}, std::size_t{1023}, last / 3, last / 3 + 1023,
                                 last * 2 / 3, last, bytes - 1}) {
    INFO(seen);
    CHECK(sees(Verify::scales, "bf16", name, seen));
    CHECK(sees(Verify::all, "bf16", name, seen));
    CHECK_FALSE(sees(Verify::headers, "bf16", name, seen));
  }
  for (const std::size_t between : {std::size_t{1024}, last / 3 - 1, last - 1}) {
    INFO(between);
    CHECK_FALSE(sees(Verify::scales, "bf16", name, between));
    CHECK(sees(Verify::all, "bf16", name, between));
  }
  CHECK(sees(Verify::scales, "bf16", "model.norm.weight", 255));  // small: all of it
  CHECK(sees(Verify::scales, "fp8", name, 0));
}

TEST_CASE("the fingerprint of headers takes milliseconds") {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("fp8"));
  double best = 1.0;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    checkpoint.fingerprint(Verify::headers);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  CHECK(best < 0.02);  // sanitizers included
}

}  // namespace
}  // namespace dsv32::test
