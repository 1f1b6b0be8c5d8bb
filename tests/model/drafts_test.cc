// Drafts change no token and no bit: a Session that decodes with them is, after each answer, the
// one that decoded without.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "dsv32/engine.h"

#include "tests/engine/engines.h"
#include "tests/model/forced_drafts.h"
#include "tests/model/scripted.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/new_seed.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

using conformance::Random;

GenerateOptions some_options(Random& random) {
  GenerateOptions options;
  SamplingParams sampling;
  sampling.temperature = random.below(3) == 0 ? 0.0f : 1.0f;
  sampling.top_k = random.below(3) == 0 ? 4 : 0;
  sampling.repetition_penalty = random.below(3) == 0 ? 1.3f : 1.0f;
  sampling.presence_penalty = random.below(3) == 0 ? 0.5f : 0.0f;
  sampling.frequency_penalty = random.below(3) == 0 ? 0.5f : 0.0f;
  sampling.top_logprobs = static_cast<int>(random.below(3));
  sampling.seed = random.next();
  options.sampling = sampling;
  options.max_tokens = random.below(40);
  if (random.below(4) == 0) options.stop_token_ids = {3, 7, 11, 19, 40, 77};
  if (random.below(4) > 0) options.allowed = FewTokens(random.next(), 1 + random.below(4));
  if (random.below(4) == 0) options.repetition = {.window = 12, .ngram = 2, .times = 2};
  return options;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string file_of(const Session& session) {
  const TempFolder folder;
  session.save(folder.path() / "s.kv");
  return text_of(folder.path() / "s.kv");
}

// What `session` computes next: all logits, MTP's, too.
Bits next_rows(Session& session, const Tokens& more) {
  Bits rows;
  session.observe({.logits = true, .mtp_logits = true}, [&](const Trace& trace) {
    rows.insert(rows.end(), trace.logits.begin(), trace.logits.end());
    rows.insert(rows.end(), trace.mtp_logits.begin(), trace.mtp_logits.end());
  });
  session.append(more);
  session.observe({}, {});
  return rows;
}

void check_same(const Generation& got, const Generation& want) {
  REQUIRE(got.tokens == want.tokens);
  for (std::size_t i = 0; i < want.samples.size(); ++i)
    REQUIRE(same(got.samples[i], want.samples[i]));
  CHECK(got.text == want.text);
  CHECK(got.finish_reason == want.finish_reason);
  CHECK(got.stop_string == want.stop_string);
  CHECK(got.stop_token == want.stop_token);
  CHECK(got.seed == want.seed);
  CHECK(got.usage.generated_tokens == want.usage.generated_tokens);
  CHECK(got.usage.thinking_tokens == want.usage.thinking_tokens);
  CHECK(got.usage.cached_tokens == want.usage.cached_tokens);
}

// Tokens, logits, and every byte that a file would have.
void check_same(const Session& got, const Session& want) {
  REQUIRE(Tokens(got.tokens().begin(), got.tokens().end()) ==
          Tokens(want.tokens().begin(), want.tokens().end()));
  CHECK(equal(copy(got.logits()), want.logits()));
  CHECK(file_of(got) == file_of(want));
}

struct Totals {
  DraftCounts drafted{}, accepted{};
  void add(const Usage& usage) {
    for (std::size_t i = 0; i < drafted.size(); ++i) {
      CHECK(usage.accepted[i] <= usage.drafted[i]);
      drafted[i] += usage.drafted[i];
      accepted[i] += usage.accepted[i];
    }
  }
  // At each position guesses that were right and such that were wrong.
  bool met() const {
    bool all = true;
    for (std::size_t i = 0; i < drafted.size(); ++i)
      all = all && accepted[i] > 0 && drafted[i] > accepted[i];
    return all;
  }
};

// Two sessions that get the same to do, one of them with drafts.
void run_pair(const Model& model, Random& random, Totals& totals) {
  Session plain(model), drafting(model);
  Tokens prompt = random_tokens(random, model, 1 + random.below(150));
  for (int turn = 0; turn < 3; ++turn) {
    GenerateOptions options = some_options(random);
    const std::size_t leave = random.below(3) == 0 ? random.below(20) : 1000;
    std::size_t left = leave;
    const auto some = [&](const GeneratedToken&) { return left-- > 0; };
    const Generation want = plain.generate(prompt, options, some);
    CHECK(want.usage.drafted == DraftCounts{});
    options.draft_tokens = 1 + static_cast<int>(random.below(4));
    left = leave;
    const Generation got = drafting.generate(prompt, options, some);
    check_same(got, want);
    check_same(drafting, plain);
    totals.add(got.usage);
    const Tokens more = random_tokens(random, model, 1 + random.below(4));
    switch (random.below(4)) {
      case 0: {
        Session one = plain.fork(), other = drafting.fork();
        CHECK(equal(next_rows(other, more), next_rows(one, more)));
        check_same(drafting, plain);
        break;
      }
      case 1: {
        const std::size_t length = random.below(plain.tokens().size() + 1);
        plain.truncate(length);
        drafting.truncate(length);
        break;
      }
      case 2:
        CHECK(equal(next_rows(drafting, more), next_rows(plain, more)));
        break;
      default:
        break;
    }
    prompt.assign(plain.tokens().begin(), plain.tokens().end());
    const Tokens question = random_tokens(random, model, 1 + random.below(30));
    prompt.insert(prompt.end(), question.begin(), question.end());
  }
}

void check_law(const Format& format, int rounds) {
  const std::uint64_t seed = new_seed();
  std::printf("DSV32_TEST_SEED=%llu repeats it\n", static_cast<unsigned long long>(seed));
  Random random{seed};
  const ForcedDrafts forced([&] { return static_cast<int>(random.below(5)); });
  const Model models[] = {load(format, 2048, 96), load(format, 2048, 5), load(format, 2048, 3)};
  Totals totals;
  CHECK(run_until_met(
      rounds, [&](int i) { run_pair(models[i % 3], random, totals); },
      [&] { return totals.met(); }));
  for (const Model& model : models) CHECK(model.free_cache_tokens() == 2048);
}

int some(int rounds) { return is_slow() ? std::max(6, rounds / 5) : rounds; }

TEST_CASE("engine_E15 a Session with drafts is one without: FP8") {
  check_law({.mtp = true}, some(40));
}
TEST_CASE("engine_E15 a Session with drafts is one without: exact") {
  check_law({.name = "f32", .numerics = Numerics::exact, .mtp = true}, some(30));
}
TEST_CASE("engine_E15 a Session with drafts is one without: BF16 pages") {
  check_law({.kv = KvFormat::bf16, .mtp = true}, some(20));
}

// Options under which each guess is right: one token is allowed each time.
GenerateOptions one_way(std::size_t max_tokens) {
  GenerateOptions options = greedy(max_tokens);
  options.sampling->seed = 1;
  options.allowed = FewTokens(1, 1);
  return options;
}

TEST_CASE("engine_E15 right guesses save their passes, up to the last token") {
  const Model model = load({.mtp = true}, 1024, 96);
  for (const int drafts : {1, 2, 3, 4}) {
    const ForcedDrafts forced([&] { return drafts; });
    for (const std::size_t length : {1u, 2u, 3u, 5u, 6u, 7u, 31u}) {
      INFO(drafts << " drafts, " << length << " tokens");
      GenerateOptions options = one_way(length);
      const Generation want = Session(model).generate(some_tokens(20, 1), options);
      options.draft_tokens = drafts;
      Session session(model);
      const Generation got = session.generate(some_tokens(20, 1), options);
      check_same(got, want);
      std::uint64_t drafted = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        CHECK(got.usage.accepted[i] ==
              got.usage.drafted[i]);  // none is made that nobody could take
        drafted += got.usage.drafted[i];
      }
      // The last token is not run; of the others one in so many has a pass.
      const std::size_t run = length - 1, each = static_cast<std::size_t>(drafts) + 1;
      CHECK(drafted == run - (run + each - 1) / each);
    }
  }
}

TEST_CASE("engine_E15 the last tokens before the context's end and the cache's") {
  const ForcedDrafts forced([] { return 4; });
  const TempFolder folder;
  const auto copy_to = [&](const std::string& name) { return folder.path() / name; };
  for (const auto& entry : std::filesystem::directory_iterator(golden("fp8")))
    std::filesystem::copy(entry.path(), copy_to(entry.path().filename().string()));
  std::string config = text_of(copy_to("config.json"));
  const std::string key = "\"max_position_embeddings\": ";
  config.replace(config.find(key), key.size() + 4, key + "100");
  write_text(copy_to("config.json"), config);
  const Model model = Model::load(folder.path(), {.kv_cache_tokens = 1024, .mtp = true});
  REQUIRE(model.config().max_position_embeddings == 100);
  for (const std::size_t left : {1u, 2u, 3u, 4u, 5u, 9u}) {
    INFO(left);
    GenerateOptions options = one_way(100);
    const Tokens prompt = some_tokens(100 - left, 3);
    Session plain(model);
    const Generation want = plain.generate(prompt, options);
    REQUIRE(want.finish_reason == FinishReason::length);
    options.draft_tokens = 4;
    const Bits logits = copy(plain.logits());
    const std::size_t tokens = plain.tokens().size();
    plain.truncate(0);
    Session session(model);
    check_same(session.generate(prompt, options), want);
    CHECK(session.tokens().size() == tokens);
    CHECK(equal(logits, session.logits()));
  }
  const Model small = load({.mtp = true}, 128, 64);
  GenerateOptions options = one_way(100);
  for (const int drafts : {0, 4}) {
    options.draft_tokens = drafts;
    Session session(small);
    std::size_t told = 0;
    const auto count = [&](const GeneratedToken&) { return ++told > 0; };
    check_error(ErrorCode::capacity, "pages",
                [&] { session.generate(some_tokens(100, 3), options, count); });
    CHECK(told == 29);
    CHECK(session.tokens().size() == 128);
    CHECK(session.logits().size() == 256);
  }
}

TEST_CASE("engine_E15 a budget of thinking, stop strings and an end are where they were") {
  const Model model =
      Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
                  {.backend = {.num_threads = 1}, .kv_cache_tokens = 2048, .mtp = true});
  const Message messages[] = {{.content = "What is 47 + 38?"}};
  const Tokens prompt =
      model.tokenizer().encode(model.chat_template().render(messages, ThinkingMode::thinking));
  Totals totals;
  for (const std::size_t budget : {0u, 1u, 2u, 5u}) {
    for (const char* stop : {"", "8", "85", "think"}) {
      for (const float temperature : {0.0f, 1.0f}) {
        GenerateOptions options;
        options.sampling = SamplingParams{.temperature = temperature, .seed = 5};
        options.max_tokens = 60;
        options.thinking_budget = budget;
        if (*stop) options.stop_strings = {stop};
        const Generation want = Session(model).generate(prompt, options);
        for (options.draft_tokens = 1; options.draft_tokens <= 4; ++options.draft_tokens) {
          const ForcedDrafts forced([&] { return options.draft_tokens; });
          const Generation got = Session(model).generate(prompt, options);
          check_same(got, want);
          totals.add(got.usage);
        }
      }
    }
  }
  CHECK(totals.accepted[0] > 0);
}

TEST_CASE("engine_E15 a cancelled pass leaves what was told") {
  const Model model = load({.mtp = true}, 1024, 96);
  const ForcedDrafts forced([] { return 3; });
  for (std::size_t after = 1; after < 12; ++after) {
    std::stop_source stop;
    GenerateOptions options = one_way(30);
    options.draft_tokens = 3;
    options.cancel = stop.get_token();
    Session session(model), plain(model);
    std::size_t told = 0;
    const Generation got =
        session.generate(some_tokens(20, 1), options, [&](const GeneratedToken&) {
          if (++told == after) stop.request_stop();
          return true;
        });
    CHECK(got.finish_reason == FinishReason::cancelled);
    CHECK(got.tokens.size() == after);
    options = one_way(after);
    plain.generate(some_tokens(20, 1), options);
    check_same(session, plain);
  }
}

TEST_CASE("engine_E15 a mask that fails fails where it did, whatever it said of guesses") {
  const Model model = load({.mtp = true}, 1024, 96);
  const ForcedDrafts forced([] { return 4; });
  for (std::size_t at = 1; at < 10; ++at) {
    for (const int drafts : {0, 4}) {
      FewTokens few(1, 1);
      GenerateOptions options = greedy(30);
      options.draft_tokens = drafts;
      options.allowed = [&](std::span<const TokenId> output) {
        if (output.size() >= at) throw std::runtime_error("no more");
        return few(output);
      };
      Session session(model);
      std::size_t told = 0;
      const auto count = [&](const GeneratedToken&) { return ++told > 0; };
      CHECK_THROWS_AS(session.generate(some_tokens(20, 1), options, count), std::runtime_error);
      CHECK(told == at);
      CHECK(session.tokens().size() == 20 + at);
    }
  }
}

TEST_CASE("engine_E15 drafts are refused without MTP, out of range, and in a request") {
  const Model without = test::load("fp8", Numerics::native, 1024);
  GenerateOptions options = greedy(4);
  options.draft_tokens = 1;
  Session session(without);
  constexpr auto kCode = ErrorCode::invalid_argument;
  check_error(kCode, "LoadOptions::mtp", [&] { session.generate(some_tokens(20, 1), options); });
  CHECK(session.tokens().empty());
  check_error(kCode, "LoadOptions::mtp", [&] { Engine(without, {.draft_tokens = 1}); });
  const Model model = load({.mtp = true}, 1024, 96);
  for (const int drafts : {-1, 5}) {
    options.draft_tokens = drafts;
    check_error(kCode, "0 to 4", [&] { options.validate(); });
    check_error(kCode, "0 to 4", [&] { Session(model).generate(some_tokens(20, 1), options); });
    check_error(kCode, "0 to 4", [&] { Engine(model, {.draft_tokens = drafts}); });
  }
  options.draft_tokens = 1;
  Engine engine(model);
  check_error(kCode, "Engine's",
              [&] { engine.submit({.prompt = some_tokens(5, 1), .options = options}); });
}

TEST_CASE("engine_E15 an observed session drafts nothing") {
  const Model model = load({.mtp = true}, 1024, 96);
  const ForcedDrafts forced([] { return 4; });
  GenerateOptions options = one_way(10);
  options.draft_tokens = 4;
  Session session(model);
  int rows = 0;
  session.observe({.logits = true}, [&](const Trace& trace) { rows += trace.num_tokens; });
  const Generation got = session.generate(some_tokens(20, 1), options);
  CHECK(rows == 29);
  CHECK(got.usage.drafted == DraftCounts{});
}

}  // namespace
}  // namespace dsv32::test
