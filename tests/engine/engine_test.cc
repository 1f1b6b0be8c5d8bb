// Engine: answers are what Sessions give, whatever runs beside them.
#include "dsv32/engine.h"

#include <filesystem>
#include <limits>
#include <regex>
#include <string>
#include <vector>

#include "tests/conformance/conformance.h"
#include "tests/engine/engines.h"
#include "tests/model/scripted.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using conformance::Random;

Model small(const std::string& name = "fp8", std::size_t cache_tokens = 4096, int batch = 96,
            bool mtp = false, int sequences = 16) {
  LoadOptions options;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = batch;
  options.max_sequences = sequences;
  options.mtp = mtp;
  options.backend.num_threads = 1;
  return Model::load(golden(name), options);
}

Request request(Tokens prompt, std::size_t max_tokens, std::uint64_t seed = 1) {
  Request request;
  request.prompt = std::move(prompt);
  request.options.sampling = SamplingParams{.temperature = 1.0f, .top_logprobs = 3, .seed = seed};
  request.options.max_tokens = max_tokens;
  return request;
}

ErrorCode code_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& found) {
    return found.code();
  } catch (...) {
    return ErrorCode::internal;
  }
}

void check_all(const Model& model, const std::map<RequestId, Request>& asked, const All& all) {
  std::size_t answers = 0;
  for (const auto& [id, request] : asked) {
    for (int i = 0; i < request.n; ++i, ++answers) {
      INFO("request " << id << ", answer " << i);
      REQUIRE(all.count({id, i}) == 1);
      const Heard& told = all.at({id, i});
      check_same(told, alone(model, request, told.last->seed));
      CHECK(told.last->tag == request.tag);
      CHECK(told.prompt_done == request.prompt.size());
    }
  }
  CHECK(all.size() == answers);
}

TEST_CASE("engine_E1 answers that run together are those of a Session alone") {
  for (const bool mtp : {false, true}) {
    for (const bool reuse : {false, true}) {
      if (kSanitized && mtp != reuse) continue;  // each once
      INFO((mtp ? "MTP, " : "") << (reuse ? "cached" : "not cached"));
      const Model model = small("fp8", 4096, 96, mtp);
      Engine engine(model, {.reuse_prefixes = reuse});
      std::map<RequestId, Request> asked;
      for (std::uint64_t i = 0; i < 12; ++i) {
        Request one = request(some_tokens(1 + 23 * i, i), 40, i);
        one.tag = 100 + i;
        asked.emplace(engine.submit(one), one);
      }
      const All all = run(engine);
      check_all(model, asked, all);
      const EngineStats stats = engine.stats();
      CHECK(stats.finished == 12);
      CHECK(stats.running + stats.waiting == 0);
      CHECK(stats.cache_tokens_used == 0);
      CHECK(stats.prompt_tokens == stats.reused_tokens + stats.computed_tokens);
      CHECK(stats.recomputed_tokens == 0);
      CHECK(model.free_cache_tokens() == 4096);
      // Once more: now all of it is cached but what must run.
      for (auto& [id, one] : std::map(asked)) {
        asked.erase(id);
        asked.emplace(engine.submit(one), one);
      }
      check_all(model, asked, run(engine));
      CHECK((engine.stats().reused_tokens > 12 * 64) == reuse);
    }
  }
}

TEST_CASE("engine_E1 answers that had to wait for pages are those of a Session alone") {
  for (const bool mtp : {false, true}) {
    for (const bool reuse : {false, true}) {
      if (kSanitized && mtp != reuse) continue;  // each once
      INFO((mtp ? "MTP, " : "") << (reuse ? "cached" : "not cached"));
      const Model roomy = small("fp8", 4096, 96, mtp), model = small("fp8", 12 * 64, 96, mtp);
      Engine engine(model, {.reuse_prefixes = reuse});
      std::map<RequestId, Request> asked;
      for (std::uint64_t i = 0; i < 5; ++i) {
        Request one = request(some_tokens(50 + 10 * i, i), 250, i);
        for (const TokenId end : model.end_tokens())
          one.options.sampling->logit_bias.push_back(
              {.token = end, .bias = -std::numeric_limits<float>::infinity()});
        asked.emplace(engine.submit(one), one);
      }
      check_all(roomy, asked, run(engine));
      CHECK(engine.stats().preemptions > 0);
      CHECK(engine.stats().recomputed_tokens > 0);
      CHECK(engine.stats().prompt_tokens ==
            engine.stats().reused_tokens + engine.stats().computed_tokens);
      CHECK(model.free_cache_tokens() == 12 * 64);
    }
  }
}

TEST_CASE("engine_E1 steps of one row and of two are enough, with MTP, too") {
  for (const int rows : {1, 2, 3}) {
    for (const bool mtp : {false, true}) {
      INFO(rows << " rows" << (mtp ? ", MTP" : ""));
      const Model model = small("fp8", 1024, rows, mtp, 4);
      Engine engine(model);
      std::map<RequestId, Request> asked;
      for (std::uint64_t i = 0; i < 3; ++i) {
        const Request one = request(some_tokens(70 + i, 1), 5, i);
        asked.emplace(engine.submit(one), one);
      }
      check_all(model, asked, run(engine));
    }
  }
}

TEST_CASE("engine_E1 a prompt that fits the pool runs, whatever a hit would cost") {
  for (const bool mtp : {false, true}) {
    const Model roomy = small("fp8", 4096, 96, mtp), model = small("fp8", 128, 96, mtp);
    Engine engine(model);
    const Tokens text = some_tokens(127, 3);
    for (const std::size_t length : {70, 127, 100, 126}) {
      const Request one =
          request(Tokens(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length)), 2);
      const RequestId id = engine.submit(one);
      All all;
      for (int steps = 0; steps < 20 && !engine.idle(); ++steps) take(all, engine.step());
      INFO(length << " tokens" << (mtp ? ", MTP" : ""));
      REQUIRE(engine.idle());
      check_all(roomy, {{id, one}}, all);
    }
    const EngineStats stats = engine.stats();
    CHECK(stats.prompt_tokens == 70 + 127 + 100 + 126);
    CHECK(stats.prompt_tokens == stats.reused_tokens + stats.computed_tokens);
  }
}

// Runs to the end; the most tokens of cache that were in use between steps.
std::size_t run_and_watch(Engine& engine, All& all) {
  std::size_t most = 0;
  while (!engine.idle()) {
    take(all, engine.step());
    most = std::max(most, engine.stats().cache_tokens_used);
  }
  return most;
}

TEST_CASE("engine_E17 n answers share one prompt, and are those of requests with seed + i") {
  for (const bool mtp : {false, true}) {
    const Model model = small("fp8", 4096, 96, mtp);
    Engine engine(model, {.reuse_prefixes = false});
    Request one = request(some_tokens(200, 5), 30, 77);
    one.n = 8;
    const RequestId id = engine.submit(one);
    All all;
    const std::size_t most = run_and_watch(engine, all);
    check_all(model, {{id, one}}, all);
    for (int i = 0; i < 8; ++i) {
      CHECK(all.at({id, i}).last->seed == 77 + static_cast<std::uint64_t>(i));
      CHECK(all.at({id, i}).last->usage.cached_tokens == (i == 0 ? 0 : 200));
    }
    const EngineStats stats = engine.stats();
    CHECK(stats.prompt_tokens == 200);
    CHECK(stats.computed_tokens == 200);
    CHECK(stats.recomputed_tokens == 0);
    // Three whole pages of the prompt; the last one is everybody's own, and has been the prompt's.
    CHECK(most <= 64 * (3 + 1 + 8));
    CHECK(model.free_cache_tokens() == 4096);
  }
}

TEST_CASE(
    "engine_E17 n answers on fewer slots, and in a pool that cannot keep the prompt for them") {
  for (const std::size_t pages : {64, 7}) {
    const Model roomy = small(), model = small("fp8", 64 * pages);
    Engine engine(model, {.max_sequences = 3});
    Request one = request(some_tokens(300, 5), 70);
    one.n = 8;
    one.options.sampling->seed = {};
    const RequestId id = engine.submit(one);
    const All all = run(engine);
    check_all(roomy, {{id, one}}, all);
    const std::uint64_t first = all.at({id, 0}).last->seed;
    for (int i = 0; i < 8; ++i)
      CHECK(all.at({id, i}).last->seed == first + static_cast<std::uint64_t>(i));
    CHECK(model.free_cache_tokens() == 64 * pages);
  }
}

TEST_CASE("an Engine's text, stop strings and ends are a Session's") {
  Engine engine(tiny());
  const Tokenizer tokenizer = tiny().tokenizer();
  std::map<RequestId, Request> asked;
  for (int i = 0; i < 6; ++i) {
    Request one = request(tokenizer.encode("The quick brown fox, number " + std::to_string(i)), 60,
                          static_cast<std::uint64_t>(i));
    if (i == 1) one.options.stop_strings = {"e", "zz"};
    if (i == 2) one.options.stop_strings = {"not to be found"};
    if (i == 3) one.options.max_tokens = 1;
    if (i == 4) one.options.max_tokens = 0;
    if (i == 5) one.options = scripted(ids_of({{"some words, "}, {"and \xC3\xA4 few more"}}));
    if (i == 0) {
      for (TokenId id = 0; id < 1000; ++id) one.options.stop_token_ids.push_back(2 * id);
    }
    asked.emplace(engine.submit(one), one);
  }
  check_all(tiny(), asked, run(engine));
}

// The golden FP8 model once more, with so many positions.
void link_fp8_model(const std::filesystem::path& folder, std::size_t positions) {
  for (const auto& file : std::filesystem::directory_iterator(golden_model("fp8")))
    std::filesystem::create_symlink(file.path(), folder / file.path().filename());
  std::string config = conformance::read_file(golden_model("fp8") / "config.json");
  config = std::regex_replace(config, std::regex("(\"max_position_embeddings\": *)[0-9]+"),
                              "$01" + std::to_string(positions));
  std::filesystem::remove(folder / "config.json");
  write_text(folder / "config.json", config);
}

TEST_CASE("an Engine's answer ends with length where the model's positions do") {
  constexpr std::size_t most = 100;
  const TempFolder folder;
  link_fp8_model(folder.path(), most);
  const Model model = Model::load(folder.path(), {.backend = {.num_threads = 1}});
  REQUIRE(model.config().max_position_embeddings == most);
  Engine engine(model);
  std::map<RequestId, Request> asked;
  for (const std::size_t less : {0, 3}) {
    const Request one = request(some_tokens(most - less, 3), 50);
    asked.emplace(engine.submit(one), one);
  }
  check_all(model, asked, run(engine));
}

TEST_CASE("engine_E17 eight answers to eight thousand tokens hold the prompt once", "[.long]") {
  constexpr std::size_t prompt = 8192;
  const TempFolder folder;
  link_fp8_model(folder.path(), 2 * prompt);
  const Model model = Model::load(folder.path(), {.kv_cache_tokens = prompt + 1024});
  Engine engine(model, {.reuse_prefixes = false});
  Request one = request(some_tokens(prompt + 5, 5), 30, 77);
  one.n = 8;
  const RequestId id = engine.submit(one);
  All all;
  const std::size_t most = run_and_watch(engine, all);
  check_all(model, {{id, one}}, all);
  CHECK(engine.stats().prompt_tokens == one.prompt.size());
  CHECK(engine.stats().computed_tokens == one.prompt.size());
  CHECK(most <= prompt + 64 * (1 + 8));
}

TEST_CASE("logprobs of the prompt are those of its rows, cached or not, cut or not") {
  const Model model = small();
  const Tokens prompt = some_tokens(200, 4);
  const std::vector<Bits> rows = one_by_one(model, prompt);
  Engine engine(model);
  for (int round = 0; round < 2; ++round) {
    Request one = request(prompt, 4);
    one.prompt_logprobs = true;
    one.n = 2;
    const RequestId id = engine.submit(one);
    const All all = run(engine);
    check_all(model, {{id, one}}, all);
    const std::vector<TokenLogprob>& got = all.at({id, 0}).prompt_logprobs;
    CHECK(all.at({id, 1}).prompt_logprobs.empty());
    REQUIRE(got.size() == prompt.size() - 1);
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i].token == prompt[i + 1]);
      // What a Sampler reports that is made to take this token.
      Sampler sampler(SamplingParams{.temperature = 0.0f});
      std::vector<std::uint32_t> mask((rows[i].size() + 31) / 32);
      const auto token = static_cast<std::size_t>(got[i].token);
      mask[token / 32] = 1u << (token % 32);
      REQUIRE(sampler.sample(rows[i], mask).logprob == got[i].logprob);
    }
    CHECK(engine.stats().reused_tokens == 0);
  }
}

TEST_CASE("a request that cannot be is refused before any work, and the engine is as before") {
  const Model model = small("fp8", 256);
  Engine engine(model, {.max_waiting = 4});
  const auto refused = [&](Request one) {
    const EngineStats before = engine.stats();
    try {
      engine.submit(std::move(one));
    } catch (const Error& error) {
      CHECK(engine.idle());
      CHECK(engine.stats().waiting == before.waiting);
      return error.code();
    }
    return ErrorCode::internal;
  };
  CHECK(refused({}) == ErrorCode::invalid_argument);
  CHECK(refused(request({-1}, 4)) == ErrorCode::invalid_argument);
  CHECK(refused(request({1 << 20}, 4)) == ErrorCode::invalid_argument);
  Request none = request({1}, 4);
  none.n = 0;
  CHECK(refused(none) == ErrorCode::invalid_argument);
  none.n = 5;
  CHECK(refused(none) == ErrorCode::capacity);
  const auto most = static_cast<std::size_t>(model.config().max_position_embeddings);
  CHECK(refused(request(some_tokens(most + 1, 1), 4)) == ErrorCode::context_length);
  CHECK(refused(request(some_tokens(257, 1), 4)) == ErrorCode::capacity);
  Request bad = request({1}, 4);
  bad.options.sampling->top_p = 2.0f;
  CHECK(refused(bad) == ErrorCode::invalid_argument);
  bad = request({1}, 4);
  bad.options.stop_strings = {""};
  CHECK(refused(bad) == ErrorCode::invalid_argument);
  for (int i = 0; i < 4; ++i) engine.submit(request({1}, 1));
  CHECK(engine.stats().waiting == 4);
  CHECK_THROWS_AS(engine.submit(request({1}, 1)), Error);
  CHECK(run(engine).size() == 4);
  CHECK_THROWS_AS(Engine(model, {.max_sequences = 17}), Error);
  CHECK_THROWS_AS(Engine(model, {.max_sequences = -1}), Error);
  CHECK_THROWS_AS(Engine(model, {.max_waiting = 0}), Error);
  CHECK_THROWS_AS(Engine(model, {.step_target = std::chrono::milliseconds(-1)}), Error);
}

TEST_CASE("an answer that alone outgrows the pool ends with capacity, the others go on") {
  const Model roomy = small(), model = small("fp8", 256);
  Engine engine(model);
  const Request large = request(some_tokens(100, 1), 400), other = request(some_tokens(20, 2), 30);
  const RequestId id = engine.submit(large), other_id = engine.submit(other);
  const All all = run(engine);
  const Heard& told = all.at({id, 0});
  CHECK(told.last->finish_reason == FinishReason::error);
  CHECK(code_of(told.last->error) == ErrorCode::capacity);
  CHECK(told.tokens.size() == 256 - 100 + 1);
  check_same(all.at({other_id, 0}), alone(roomy, other, 1));
  CHECK(engine.stats().failed == 1);
  CHECK(model.free_cache_tokens() == 256);
}

TEST_CASE("what a mask throws is its request's update") {
  const Model model = small();
  Engine engine(model);
  std::map<RequestId, std::size_t> fails_after;
  for (const std::size_t after : {0, 1, 5}) {
    Request one = request(some_tokens(20, after), 10);
    one.options.allowed = [after](std::span<const TokenId> output) {
      if (output.size() == after) throw std::runtime_error("no mask");
      return std::span<const std::uint32_t>();
    };
    fails_after.emplace(engine.submit(one), after);
  }
  Request impossible = request(some_tokens(20, 9), 10);
  const std::vector<std::uint32_t> nothing(
      (static_cast<std::size_t>(model.config().vocab_size) + 31) / 32);
  impossible.options.allowed = [&](std::span<const TokenId>) {
    return std::span<const std::uint32_t>(nothing);
  };
  fails_after.emplace(engine.submit(impossible), 0);
  const Request fine = request(some_tokens(20, 4), 10);
  const RequestId id = engine.submit(fine);
  const All all = run(engine);
  for (const auto& [failed, after] : fails_after) {
    const Heard& told = all.at({failed, 0});
    CHECK(told.last->finish_reason == FinishReason::error);
    CHECK(told.tokens.size() == after);
    CHECK(told.last->error);
  }
  CHECK(engine.stats().computed_tokens == 20 * 3);  // the others' prompts were not run
  check_same(all.at({id, 0}), alone(model, fine, 1));
}

TEST_CASE("moved from, an Engine throws state or says nothing") {
  const Model model = small();
  Engine engine(model);
  engine.submit(request({1, 2, 3}, 4));
  Engine other = std::move(engine);
  CHECK_THROWS_AS(engine.submit(request({1}, 1)), Error);
  CHECK_THROWS_AS(engine.step(), Error);
  CHECK_THROWS_AS(engine.cached({}), Error);
  engine.cancel(1);
  engine.forget();
  CHECK(engine.idle());
  CHECK(engine.stats().waiting == 0);
  CHECK(run(other).size() == 1);
  other.submit(request({1, 2, 3}, 4));
  other.step();
  engine = std::move(other);
  CHECK(run(engine).size() == 1);
  Engine ended(model);  // with work in flight
  ended.submit(request(some_tokens(100, 1), 50));
  ended.submit(request(some_tokens(100, 2), 50));
  ended.step();
  CHECK(ended.stats().running == 2);
}

TEST_CASE(
    "engines and Sessions of one Model take turns, and pages that Sessions hold are waited for") {
  const Model model = small("fp8", 640);
  Engine one(model), two(model);
  Session session(model);
  session.append(some_tokens(500, 1));
  const Request large = request(some_tokens(300, 2), 4), little = request(some_tokens(30, 3), 4);
  const RequestId waits = one.submit(large), runs = one.submit(little), other = two.submit(little);
  All all, others = run(two);
  check_same(others.at({other, 0}), alone(small(), little, 1));
  for (int i = 0; i < 20; ++i) take(all, one.step());
  CHECK(all.at({runs, 0}).lasts == 1);
  CHECK(all.count({waits, 0}) == 0);
  CHECK(one.stats().waiting == 1);
  CHECK(!one.idle());
  session.truncate(0);
  all = run(one, std::move(all));
  check_same(all.at({waits, 0}), alone(small(), large, 1));
}

}  // namespace
}  // namespace dsv32::test
