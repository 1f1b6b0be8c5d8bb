// What an Engine finds of a prompt, says about it, and keeps to itself.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/engine.h"

#include "tests/engine/engines.h"
#include "tests/model/scripted.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Random;

// The updates of one request that runs alone, put together.
struct Answer {
  Tokens tokens{};
  Reuse reuse{};
  FinishReason reason = FinishReason::none;
  Usage usage{};
  std::uint64_t computed = 0, reused = 0;  // tokens of its prompt
  double first_seconds = 0.0;              // until its first token
};

Answer run(Engine& engine, Request request) {
  using Clock = std::chrono::steady_clock;
  Answer answer;
  const EngineStats before = engine.stats();
  const std::size_t size = request.prompt.size();
  const Clock::time_point start = Clock::now();
  engine.submit(std::move(request));
  std::size_t done = 0;
  while (!engine.idle()) {
    for (const RequestUpdate& update : engine.step()) {
      REQUIRE(!update.error);
      if (answer.tokens.empty() && !update.tokens.empty())
        answer.first_seconds = std::chrono::duration<double>(Clock::now() - start).count();
      for (const GeneratedToken& token : update.tokens) answer.tokens.push_back(token.sample.token);
      REQUIRE(update.prompt_done >= done);
      done = update.prompt_done;
      // The same in each update.
      if (answer.reason == FinishReason::none && answer.reuse.first_difference > 0)
        REQUIRE(update.reuse.first_difference == answer.reuse.first_difference);
      answer.reuse = update.reuse;
      answer.reason = update.finish_reason;
      answer.usage = update.usage;
    }
  }
  const EngineStats after = engine.stats();
  answer.computed = after.computed_tokens - before.computed_tokens;
  answer.reused = after.reused_tokens - before.reused_tokens;
  REQUIRE(answer.reason != FinishReason::none);
  REQUIRE(answer.computed + answer.reused == size);
  REQUIRE(answer.usage.cached_tokens == answer.reuse.matched);
  REQUIRE(answer.reused == answer.reuse.matched);
  REQUIRE(done == size);
  return answer;
}

Request request_of(Tokens prompt, std::size_t max_tokens, std::string scope = {}) {
  Request request{.prompt = std::move(prompt), .cache_scope = std::move(scope)};
  request.options.sampling = SamplingParams{.temperature = 0.0f};
  request.options.max_tokens = max_tokens;
  return request;
}

Tokens joined(Tokens x, const Tokens& y) {
  x.insert(x.end(), y.begin(), y.end());
  return x;
}
Tokens front(const Tokens& x, std::size_t count) {
  return {x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count)};
}

TEST_CASE("engine_E11 a hit says how far it goes, and what differs is all that is computed") {
  for (const bool mtp : {false, true}) {
    LoadOptions options;
    options.kv_cache_tokens = 4096;
    options.max_batch_tokens = 50;
    options.mtp = mtp;
    options.backend.num_threads = 1;
    Engine engine(Model::load(golden("fp8"), options));
    const Tokens text = some_tokens(300, 1);
    Answer answer = run(engine, request_of(front(text, 200), 0));
    CHECK(answer.reuse.matched == 0);
    CHECK(answer.reuse.first_difference == 0);
    CHECK(answer.computed == 200);
    CHECK(answer.reason == FinishReason::length);
    // Whole pages are there: 192 of the 200.
    answer = run(engine, request_of(front(text, 230), 1));
    CHECK(answer.reuse.matched == 192);
    CHECK(answer.computed == 230 - 192);
    CHECK(answer.tokens.size() == 1);
    // The same prompt once more: its last token runs again, for its logits.
    run(engine, request_of(front(text, 256), 0));
    answer = run(engine, request_of(front(text, 256), 1));
    CHECK(answer.reuse.first_difference == 256);
    CHECK(answer.computed == 1);
    // Another token inside of a page.
    for (const std::size_t place : {0, 1, 40, 63, 64, 65, 127, 128, 200}) {
      INFO(place);
      Tokens other = front(text, 240);
      other[place] += 1;
      answer = run(engine, request_of(other, 1, "scope" + std::to_string(place)));
      CHECK(answer.computed == 240);
      engine.forget("scope" + std::to_string(place));
      answer = run(engine, request_of(other, 1));
      CHECK(answer.reuse.first_difference == place);
      CHECK(answer.reuse.matched == place);
      CHECK(answer.computed == 240 - place);
    }
  }
}

TEST_CASE("engine_E11 answers are found again, and a turn whose thinking is dropped up to there") {
  Engine engine(tiny());
  const Tokenizer tokenizer = tiny().tokenizer();
  const ChatTemplate chat_template = tiny().chat_template();
  const auto prompt_of = [&](const std::vector<Message>& messages, ThinkingMode mode, bool open) {
    return tokenizer.encode(chat_template.render(messages, mode, {.add_generation_prompt = open}));
  };
  std::vector<Message> history = question();
  const Tokens first = prompt_of(history, ThinkingMode::thinking, true);
  const std::string thoughts =
      "Let me think about that at some length, for it is no easy thing to say.";
  Request request{.prompt = first};
  request.options = scripted(ids_of({{thoughts + "</think>An answer."}}));
  const Answer answered = run(engine, request);
  REQUIRE(answered.reason == FinishReason::stop);
  const Tokens all = joined(first, answered.tokens);
  Answer answer = run(engine, request_of(joined(all, {5, 6, 7}), 0));  // output is cached, too
  CHECK(answer.reuse.matched >= (all.size() - 1) / 64 * 64);

  history.push_back({.role = Role::assistant, .content = "An answer."});
  // The next turn has no thinking in it: what follows the first dropped token is computed.
  std::vector<Message> next = history;
  next.push_back({.role = Role::user, .content = "And then?"});
  for (const ThinkingMode mode : {ThinkingMode::chat, ThinkingMode::thinking}) {
    Engine fresh(tiny());
    run(fresh, request);
    const Tokens prompt = prompt_of(next, mode, true);
    const auto differs = std::mismatch(prompt.begin(), prompt.end(), all.begin(), all.end()).first;
    const auto kept = static_cast<std::size_t>(differs - prompt.begin());
    CHECK(kept < prompt.size());
    answer = run(fresh, request_of(prompt, 1));
    const std::size_t cached = std::min(kept, (all.size() - 1) / 64 * 64);
    CHECK(answer.reuse.matched == cached);
    CHECK(answer.computed == prompt.size() - cached);
    // The cure: what is certain of the next prompt, computed while the user reads.
    Engine warm(tiny());
    const Tokens certain = prompt_of(history, ThinkingMode::chat, false);
    REQUIRE(certain.size() < prompt.size());
    REQUIRE(std::equal(certain.begin(), certain.end(), prompt.begin()));
    run(warm, request_of(certain, 0));
    answer = run(warm, request_of(prompt, 1));
    CHECK(answer.computed < 64 + (prompt.size() - certain.size()));
  }
}

TEST_CASE("engine_E13 where Sessions hold nine tenths of the cache others run") {
  const Model model = load("fp8", Numerics::native, 64 * 40);
  Session holder(model);
  holder.append(some_tokens(64 * 36, 4));
  Engine engine(model);
  for (std::uint64_t seed = 10; seed < 16; ++seed) {
    const Answer answer = run(engine, request_of(some_tokens(180, seed), 30));
    CHECK(answer.reason != FinishReason::error);
    CHECK(engine.stats().cache_tokens_used == 64 * 36);
  }
  const EngineStats stats = engine.stats();
  CHECK(stats.cache_tokens_reusable == 64 * 3);  // 180 to 210 tokens
  CHECK(stats.evicted_tokens > 0);
  CHECK(stats.preemptions == 0);
  // The oldest has gone, the youngest has not.
  CHECK(cached_tokens(engine, some_tokens(180, 10)) == 0);
  CHECK(cached_tokens(engine, some_tokens(180, 15)) == 180);
  check_error(ErrorCode::capacity, "", [&] { holder.append(some_tokens(64 * 5, 4)); });
  holder.append(some_tokens(64 * 4, 4));  // a Session gets them as well
  CHECK(engine.stats().cache_tokens_reusable == 0);
  CHECK(cached_tokens(engine, some_tokens(180, 15)) == 0);
}

TEST_CASE("equal prompts in flight are computed once") {
  for (const bool mtp : {false, true}) {
    LoadOptions options;
    options.kv_cache_tokens = 64 * 40;
    options.max_batch_tokens = 64;
    options.mtp = mtp;
    options.backend.num_threads = 1;
    const Model model = Model::load(golden("fp8"), options);
    Engine engine(model);
    const Tokens text = some_tokens(400, 9);
    for (int i = 0; i < 6; ++i) {
      Request request = request_of(joined(front(text, 320), some_tokens(20, 30 + i)), 8);
      request.tag = static_cast<std::uint64_t>(i);
      engine.submit(std::move(request));
    }
    std::size_t most = 0;
    std::vector<Tokens> answers(6);
    while (!engine.idle()) {
      for (const RequestUpdate& update : engine.step()) {
        REQUIRE(!update.error);
        for (const GeneratedToken& token : update.tokens)
          answers[update.tag].push_back(token.sample.token);
      }
      most = std::max(most, engine.stats().cache_tokens_used / 64);
    }
    // The common pages once; with MTP each copies the last of them.
    CHECK(engine.stats().computed_tokens == 320 + 6 * 20);
    CHECK(engine.stats().reused_tokens == 5 * 320);
    CHECK(most <= 5 + 6 * (mtp ? 3 : 1));
    for (int i = 0; i < 6; ++i) {
      Session session(model);
      const Request request = request_of(joined(front(text, 320), some_tokens(20, 30 + i)), 8);
      CHECK(session.generate(request.prompt, request.options).tokens ==
            answers[static_cast<std::size_t>(i)]);
    }
  }
}

TEST_CASE("engine_E14 equal prompts in flight do not wait for another scope's") {
  LoadOptions options;
  options.kv_cache_tokens = 64 * 40;
  options.max_batch_tokens = 8;  // of which a page takes several steps
  options.backend.num_threads = 1;
  Engine engine(Model::load(golden("fp8"), options));
  const Tokens text = some_tokens(400, 9);
  engine.submit(request_of(text, 1, "one"));
  const RequestId other = engine.submit(request_of(text, 1, "two"));
  std::size_t done = 0;
  for (int step = 0; step < 4; ++step) {
    for (const RequestUpdate& update : engine.step()) {
      if (update.id == other) done = update.prompt_done;
    }
  }
  CHECK(done > 0);
  while (!engine.idle()) engine.step();
  CHECK(engine.stats().computed_tokens == 800);
  CHECK(engine.stats().reused_tokens == 0);
}

// How far apart two samples of times are, in standard deviations (Mann and Whitney's U); negative
// if the first one's are shorter.
double apart(const std::vector<double>& x, const std::vector<double>& y) {
  double u = 0.0;
  for (const double a : x) {
    for (const double b : y) u += a > b ? 1.0 : a < b ? 0.0 : 0.5;
  }
  const auto n = static_cast<double>(x.size()), m = static_cast<double>(y.size());
  return (u - n * m / 2.0) / std::sqrt(n * m * (n + m + 1.0) / 12.0);
}

TEST_CASE("engine_E14 nobody learns by timing what another scope has asked") {
  const Model model = load("fp8", Numerics::native, 64 * 64);
  Engine engine(model);
  const Tokens secret = some_tokens(256, 1);
  run(engine, request_of(secret, 1, "owner"));
  const auto ask = [&](const Tokens& prompt, const std::string& scope) {
    const Answer answer = run(engine, request_of(prompt, 1, scope));
    if (scope != "owner") {
      REQUIRE(answer.reuse.matched == 0);
      REQUIRE(answer.reuse.first_difference == 0);
      REQUIRE(answer.computed == prompt.size());
      engine.forget(scope);
    }
    return answer.first_seconds;
  };
  Random random{7};
  std::vector<double> equal_prompt, other_prompt, hits;
  const std::size_t count = is_slow() ? 20 : 100;
  while (equal_prompt.size() < count || other_prompt.size() < count) {
    const bool same = random.below(2) == 0;
    std::vector<double>& times = same ? equal_prompt : other_prompt;
    if (times.size() == count) continue;
    times.push_back(ask(same ? secret : some_tokens(256, random.next()), "other"));
    if (hits.size() < count) hits.push_back(ask(secret, "owner"));
  }
  CHECK(std::fabs(apart(equal_prompt, other_prompt)) < 4.5);
  CHECK(apart(hits, other_prompt) < -4.5);  // in one's own scope it can be seen
}

}  // namespace
}  // namespace dsv32::test
