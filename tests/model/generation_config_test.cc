// generation_config.json: what a checkpoint generates with by default, and what is only said.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

// A golden checkpoint with its own generation_config.json.
struct Defaults {
  TempFolder folder;
  std::vector<std::string> log;
  explicit Defaults(const std::string& json) {
    for (const char* file : {"config.json", "model.safetensors"})
      fs::create_symlink(golden_model("fp8") / file, folder.path() / file);
    write_text(folder.path() / "generation_config.json", json);
  }
  Model load() {
    return Model::load(folder.path(), {.backend = {.num_threads = 1},
                                       .kv_cache_tokens = 256,
                                       .log = [this](LogLevel level, std::string_view message) {
                                         if (level == LogLevel::warning) log.emplace_back(message);
                                       }});
  }
};

TEST_CASE("reports_W3 a checkpoint's own defaults are applied, or named in the log") {
  Defaults one(R"({"eos_token_id": [7, 1, 9], "temperature": 0.6, "top_p": 0.9, "top_k": 20,
    "min_p": 0.05, "repetition_penalty": 1.1, "do_sample": true, "stop_strings": ["\n\n", "User:"],
    "max_new_tokens": 512, "typical_p": 0.9, "no_repeat_ngram_size": null,
    "bos_token_id": 0, "transformers_version": "4.5", "_from_model_config": true})");
  const Model model = one.load();
  const SamplingParams sampling = model.default_sampling();
  CHECK(sampling.temperature == 0.6f);
  CHECK(sampling.top_p == 0.9f);
  CHECK(sampling.top_k == 20);
  CHECK(sampling.min_p == 0.05f);
  CHECK(sampling.repetition_penalty == 1.1f);
  const auto ends = model.end_tokens();
  Tokens want = model.config().eos_token_ids;
  for (const TokenId id : {7, 1, 9})
    if (std::find(want.begin(), want.end(), id) == want.end()) want.push_back(id);
  CHECK(Tokens(ends.begin(), ends.end()) == want);
  REQUIRE(one.log.size() == 1);
  for (const char* word : {"stop_strings (2)", "max_new_tokens 512", "typical_p"})
    CHECK(one.log[0].find(word) != std::string::npos);
  for (const char* word : {"no_repeat", "transformers", "min_p"})
    CHECK(one.log[0].find(word) == std::string::npos);
  const GenerationConfig read = Checkpoint::open(one.folder.path()).generation_config();
  CHECK(read.eos_token_ids == Tokens{7, 1, 9});
  CHECK(read.stop_strings == std::vector<std::string>{"\n\n", "User:"});
  CHECK(read.max_new_tokens == 512);
  CHECK(read.other_keys == std::vector<std::string>{"typical_p"});
  CHECK(read.sampling.min_p == 0.05f);
}

TEST_CASE("reports_W3 an end token of generation_config.json ends an answer") {
  Defaults plain("{}"), more(R"({"eos_token_id": 7})");
  const Model before = plain.load();
  CHECK(plain.log.empty());
  Session session(before);
  GenerateOptions options{.sampling = SamplingParams{.temperature = 0.0f}, .max_tokens = 6};
  options.sampling->logit_bias = {{7, 1000.0f}};
  CHECK(session.generate(Tokens{2, 3, 4}, options).tokens == Tokens(6, 7));
  const Model after = more.load();
  CHECK(more.log.empty());
  Session other(after);
  const Generation got = other.generate(Tokens{2, 3, 4}, options);
  CHECK(got.tokens.empty());
  CHECK(got.stop_token == 7);
  CHECK(got.finish_reason == FinishReason::stop);
}

TEST_CASE("reports_W3 a checkpoint's defaults that cannot be are refused by name") {
  for (const auto& [json, word] :
       {std::pair(R"({"eos_token_id": 100000})", "eos_token_id"),
        std::pair(R"({"eos_token_id": -1})", "eos_token_id"),
        std::pair(R"({"eos_token_id": "x"})", "eos_token_id"),
        std::pair(R"({"eos_token_id": [1, null]})", "eos_token_id"),
        std::pair(R"({"repetition_penalty": 0})", "repetition_penalty"),
        std::pair(R"({"repetition_penalty": "x"})", "repetition_penalty"),
        std::pair(R"({"min_p": 2})", "min_p"), std::pair(R"({"min_p": []})", "min_p"),
        std::pair(R"({"stop_strings": [1]})", "stop_strings"),
        std::pair(R"({"stop_strings": 1})", "stop_strings"),
        std::pair(R"({"max_new_tokens": -1})", "max_new_tokens")}) {
    INFO(json);
    Defaults bad(json);
    const std::string message = check_error(ErrorCode::bad_format, word, [&] { bad.load(); });
    CHECK(message.find("generation_config.json") != std::string::npos);
    check_error(ErrorCode::bad_format, word, [&] {
      static_cast<void>(Checkpoint::open(bad.folder.path()).generation_config());
    });
  }
  Defaults none(R"({"eos_token_id": null, "stop_strings": null, "min_p": null})");
  const Model model = none.load();
  CHECK(std::ranges::equal(model.end_tokens(), model.config().eos_token_ids));
  CHECK(none.log.empty());
}

// The keys that transformers writes (4.57), each with a value that is not its default.
const std::pair<const char*, const char*> kKeys[] = {
    {"max_length", "77"},
    {"max_new_tokens", "77"},
    {"min_length", "3"},
    {"min_new_tokens", "3"},
    {"early_stopping", "true"},
    {"max_time", "1.5"},
    {"stop_strings", "[\"x\"]"},
    {"do_sample", "false"},
    {"num_beams", "4"},
    {"use_cache", "false"},
    {"cache_implementation", "\"static\""},
    {"cache_config", "{\"a\": 1}"},
    {"temperature", "0.3"},
    {"top_k", "7"},
    {"top_p", "0.4"},
    {"min_p", "0.2"},
    {"top_h", "0.4"},
    {"typical_p", "0.9"},
    {"epsilon_cutoff", "0.1"},
    {"eta_cutoff", "0.1"},
    {"repetition_penalty", "1.4"},
    {"encoder_repetition_penalty", "1.4"},
    {"length_penalty", "2.0"},
    {"no_repeat_ngram_size", "3"},
    {"bad_words_ids", "[[5]]"},
    {"renormalize_logits", "true"},
    {"forced_bos_token_id", "5"},
    {"forced_eos_token_id", "5"},
    {"remove_invalid_values", "true"},
    {"exponential_decay_length_penalty", "[1, 1.1]"},
    {"suppress_tokens", "[5]"},
    {"begin_suppress_tokens", "[5]"},
    {"sequence_bias", "[[[5], 1.0]]"},
    {"token_healing", "true"},
    {"guidance_scale", "2.0"},
    {"watermarking_config", "{\"a\": 1}"},
    {"num_return_sequences", "2"},
    {"output_attentions", "true"},
    {"output_scores", "true"},
    {"return_dict_in_generate", "true"},
    {"pad_token_id", "5"},
    {"bos_token_id", "5"},
    {"eos_token_id", "5"},
    {"decoder_start_token_id", "5"},
    {"assistant_early_exit", "2"},
    {"num_assistant_tokens", "2"},
    {"compile_config", "{\"a\": 1}"},
    {"transformers_version", "\"4.57\""},
    {"_from_model_config", "true"}};

TEST_CASE("every key of generation_config.json is applied, named in the log, or documented") {
  const std::string docs =
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/docs/formats.md");
  const std::size_t end = docs.find("| nothing, silently |");
  REQUIRE(end != std::string::npos);
  const std::string silent = docs.substr(docs.rfind('\n', end), end - docs.rfind('\n', end));
  const GenerationConfig plain;
  for (const auto& [key, value] : kKeys) {
    INFO(key);
    Defaults one("{\"" + std::string(key) + "\": " + value + "}");
    const Model model = one.load();
    const GenerationConfig got = Checkpoint::open(one.folder.path()).generation_config();
    const SamplingParams &a = got.sampling, &b = plain.sampling;
    const bool applied = a.temperature != b.temperature || a.top_k != b.top_k ||
                         a.top_p != b.top_p || a.min_p != b.min_p ||
                         a.repetition_penalty != b.repetition_penalty ||
                         std::ranges::count(model.end_tokens(), 5) >
                             std::ranges::count(model.config().eos_token_ids, 5);
    const bool named = one.log.size() == 1 && one.log[0].find(key) != std::string::npos;
    const bool documented = silent.find("`" + std::string(key) + "`") != std::string::npos;
    CHECK(applied + named + documented == 1);
    CHECK(one.log.size() == (named ? 1u : 0u));
  }
}

}  // namespace
}  // namespace dsv32::test
