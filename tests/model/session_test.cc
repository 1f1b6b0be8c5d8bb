// Sessions: forks, capacity, cancellation, misuse.
#include "dsv32/session.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

TEST_CASE("every session has the tokens that it was given") {
  const Model model = load("fp8", Numerics::native);
  conformance::Random random{3};
  const Tokens text = random_tokens(random, model, 100);
  Session session(model);
  session.append(text);
  CHECK(std::ranges::equal(session.tokens(), text));
  session.truncate(1000);
  CHECK(session.tokens().size() == 100);
  Tokens changed = text;
  changed[60] = (changed[60] + 1) % model.config().vocab_size;
  session.sync(changed);
  CHECK(session.last_reuse().matched == 60);
  CHECK(session.last_reuse().first_difference == 60);
  session.sync(changed);
  CHECK(session.last_reuse().matched == 100);  // nothing is run: the logits are still there
}

TEST_CASE("SE-03 forks share pages and give all of them back") {
  const Model model = load("fp8", Numerics::native, 64 * 12);
  conformance::Random random{5};
  const Tokens text = random_tokens(random, model, 200);
  for (int round = 0; round < 20; ++round) {
    Session session(model);
    session.append(text);  // 4 pages of 12
    std::vector<Session> forks;
    for (int i = 0; i < 50; ++i) {
      forks.push_back(i % 2 == 0 || forks.empty() ? session.fork()
                                                  : forks[random.below(forks.size())].fork());
    }
    for (std::size_t i = 0; i < 5; ++i) forks[i].append(text[i]);  // one page of their own each
    while (!forks.empty()) {
      const std::size_t i = random.below(forks.size());
      std::swap(forks[i], forks.back());
      forks.pop_back();
    }
  }
  Session whole(model);  // all pages are free again
  CHECK_NOTHROW(whole.append(random_tokens(random, model, 64 * 12)));
}

TEST_CASE("a full page pool throws, and leaves the session as it was") {
  const Model model = load("fp8", Numerics::native, 64 * 3);
  conformance::Random random{6};
  const Tokens text = random_tokens(random, model, 300);
  const std::vector<Bits> want = one_by_one(model, {text.begin(), text.begin() + 101});
  Session session(model);
  session.append(std::span(text).first(100));
  check_error(ErrorCode::capacity, "", [&] { session.append(std::span(text).subspan(100)); });
  CHECK(session.tokens().size() == 100);
  CHECK(equal(want[100], session.append(text[100])));
}

TEST_CASE("SA-13 SE-23 tokens and lengths out of range") {
  const Model model = load("fp8", Numerics::native);
  Session session(model);
  const int vocab = model.config().vocab_size;
  for (const TokenId token : {-1, vocab, std::numeric_limits<TokenId>::min()}) {
    check_error(ErrorCode::invalid_argument, "token", [&] { session.append(token); });
  }
  check_error(ErrorCode::invalid_argument, "", [&] { session.append(Tokens{}); });
  check_error(ErrorCode::invalid_argument, "", [&] { session.sync(Tokens{}); });
  CHECK(session.tokens().empty());
  const auto most = static_cast<std::size_t>(model.config().max_position_embeddings);
  const Tokens long_text(most + 1, 5);
  check_error(ErrorCode::context_length, "", [&] { session.append(long_text); });
  CHECK(session.tokens().empty());
}

TEST_CASE("SE-10 a second call at the same time is refused, not mixed in") {
  const Model model = load("fp8", Numerics::native);
  Session session(model);
  bool refused = false;
  session.observe({.logits = true}, [&](const Trace&) {
    try {
      session.append(1);
    } catch (const Error& error) {
      refused = error.code() == ErrorCode::busy;
    }
  });
  session.append(Tokens{1, 2, 3});
  CHECK(refused);
  CHECK(session.tokens().size() == 3);
}

TEST_CASE("SE-09 sessions of one model run on many threads") {
  const Model model = load("fp8", Numerics::native, 8192, 96, 2);
  conformance::Random random{8};
  const Tokens text = random_tokens(random, model, 120);
  const Bits want = one_by_one(model, text).back();
  std::vector<int> good(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        Session session(model);
        session.append(std::span(text).first(10 * (t + 1)));
        good[t] += equal(want, session.append(std::span(text).subspan(10 * (t + 1)))) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : good) CHECK(count == 5);
}

TEST_CASE("SE-17 what a callback throws passes through, and nothing is lost") {
  const Model model = load("fp8", Numerics::native);
  Session session(model);
  const Tokens prompt = {1, 2, 3};
  GenerateOptions options;
  options.sampling = SamplingParams{.temperature = 0.0f};
  options.max_tokens = 8;
  int calls = 0;
  CHECK_THROWS_AS(session.generate(prompt, options,
                                   [&](const GeneratedToken&) -> bool {
                                     if (++calls == 3) throw std::runtime_error("mine");
                                     return true;
                                   }),
                  std::runtime_error);
  CHECK(session.tokens().size() >= 3);
  const Generation again = session.generate(prompt, options);
  Session fresh(model);
  CHECK(again.tokens == fresh.generate(prompt, options).tokens);
}

TEST_CASE("cancellation stops in time and keeps what is valid") {
  const Model model = load("fp8", Numerics::native, 4096, 8);
  conformance::Random random{9};
  const Tokens text = random_tokens(random, model, 200);
  Session session(model);
  std::stop_source source;
  source.request_stop();
  check_error(ErrorCode::cancelled, "", [&] { session.append(text, source.get_token()); });
  CHECK(session.tokens().empty());
  GenerateOptions options;
  options.cancel = source.get_token();
  CHECK(session.generate(text, options).finish_reason == FinishReason::cancelled);
  options.cancel = {};
  options.max_tokens = 5;
  int calls = 0;
  const Generation got =
      session.generate(text, options, [&](const GeneratedToken&) { return ++calls < 2; });
  CHECK(got.finish_reason == FinishReason::cancelled);
  CHECK(got.tokens.size() == 2);
}

TEST_CASE("SA-09 SA-10 max_tokens and seeds") {
  const Model model = load("fp8", Numerics::native);
  Session session(model);
  const Tokens prompt = {1, 2, 3};
  GenerateOptions options;
  options.sampling = SamplingParams{.temperature = 1.0f, .seed = 7};
  options.max_tokens = 0;
  CHECK(session.generate(prompt, options).tokens.empty());
  options.max_tokens = 6;
  const Tokens first = session.generate(prompt, options).tokens;
  Session noise(model);
  noise.append(Tokens{9, 9});
  Session other(model);
  CHECK(other.generate(prompt, options).tokens == first);
}

}  // namespace
}  // namespace dsv32::test
