// GenerateOptions::repetition: an answer that goes in circles ends where it says, and nowhere else.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/engine.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"

namespace dsv32::test {
namespace {

// Word for word what the header says: the most occurrences apart from each other, by dynamic
// programming over where they end.
bool goes_in_circles(const Tokens& output, const Repetition& loop) {
  const auto ngram = static_cast<std::size_t>(loop.ngram);
  const std::size_t window = std::min(output.size(), static_cast<std::size_t>(loop.window));
  if (loop.window == 0 || window < ngram) return false;
  const Tokens last(output.end() - loop.ngram, output.end());
  const Tokens seen(output.end() - static_cast<std::ptrdiff_t>(window), output.end());
  std::vector<int> best(window + 1);
  for (std::size_t end = 1; end <= window; ++end) {
    best[end] = best[end - 1];
    if (end < ngram) continue;
    const auto from = seen.begin() + static_cast<std::ptrdiff_t>(end - ngram);
    if (std::equal(last.begin(), last.end(), from))
      best[end] = std::max(best[end], best[end - ngram] + 1);
  }
  return best[window] >= loop.times;
}

// An answer that writes `script`, whatever the model thinks of it.
class Scripted {
 public:
  explicit Scripted(Tokens script) : script_(std::move(script)) {}
  GenerateOptions options(const Repetition& loop) {
    GenerateOptions options = greedy(script_.size());
    options.repetition = loop;
    options.allowed = [this](std::span<const TokenId> output) {
      mask_.assign(8, 0);
      const auto token = static_cast<std::size_t>(script_[output.size()]);
      mask_[token / 32] = 1u << (token % 32);
      return std::span<const std::uint32_t>(mask_).first((vocab + 31) / 32);
    };
    return options;
  }
  std::size_t vocab = 0;

 private:
  Tokens script_;
  std::vector<std::uint32_t> mask_;
};

TEST_CASE("an answer ends with the first token that closes a circle, alone and in an Engine") {
  const std::uint64_t seed = new_seed();
  INFO("DSV32_TEST_SEED=" << seed);
  conformance::Random random{seed};
  const Model model = load("fp8", Numerics::native, 1024);
  const Tokens prompt = some_tokens(5, 1);
  Engine engine(model);
  int ended = 0, whole = 0;
  for (int round = 0; round < (is_slow() ? 8 : 60); ++round) {
    Repetition loop{.window = static_cast<int>(2 + random.below(39))};
    loop.ngram = static_cast<int>(1 + random.below(5));
    loop.times = static_cast<int>(2 + random.below(3));
    if (loop.ngram * loop.times > loop.window) loop.window = loop.ngram * loop.times;
    Tokens script;
    const std::size_t period = 1 + random.below(6);
    for (std::size_t i = 0; i < 48; ++i) {  // periods with faults in between
      const bool same = i >= period && random.below(12) > 0;
      script.push_back(same ? script[i - period] : static_cast<TokenId>(20 + random.below(3)));
    }
    std::size_t want = 1;
    const auto first = [&] {
      return Tokens(script.begin(), script.begin() + std::ptrdiff_t(want));
    };
    while (want < script.size() && !goes_in_circles(first(), loop)) ++want;
    const bool circle = goes_in_circles(first(), loop);
    (circle ? ended : whole) += 1;
    Scripted scripted(script);
    scripted.vocab = static_cast<std::size_t>(model.config().vocab_size);
    Session session(model);
    const Generation got = session.generate(prompt, scripted.options(loop));
    CHECK(got.tokens.size() == want);
    CHECK(got.finish_reason == (circle ? FinishReason::repetition : FinishReason::length));
    engine.submit({.prompt = prompt, .options = scripted.options(loop)});
    std::size_t tokens = 0;
    FinishReason reason = FinishReason::none;
    while (!engine.idle()) {
      for (const RequestUpdate& update : engine.step()) {
        tokens += update.tokens.size();
        reason = update.finish_reason;
      }
    }
    CHECK(tokens == want);
    CHECK(reason == got.finish_reason);
  }
  CHECK(ended + whole > 7);
}

TEST_CASE("a repetition that can never be, or costs too much, is refused") {
  const Model model = load("fp8", Numerics::native, 256);
  constexpr int kMost = std::numeric_limits<int>::max();
  for (const Repetition& loop :
       {Repetition{.window = -1}, Repetition{.window = 127}, Repetition{.window = 65'537},
        Repetition{.window = 100, .ngram = 0}, Repetition{.window = 100, .ngram = -3},
        Repetition{.window = 100, .ngram = 2, .times = 1},
        Repetition{.window = 100, .ngram = kMost, .times = kMost}}) {
    GenerateOptions options = greedy(4);
    options.repetition = loop;
    INFO(loop.window << ' ' << loop.ngram << ' ' << loop.times);
    check_error(ErrorCode::invalid_argument, "repetition", [&] { options.validate(); });
    Session session(model);
    check_error(ErrorCode::invalid_argument, "repetition",
                [&] { session.generate(some_tokens(5, 1), options); });
    CHECK(session.tokens().empty());
  }
  GenerateOptions options = greedy(4);
  options.repetition = {.window = 128};
  CHECK_NOTHROW(options.validate());
  options.repetition = {.window = 0, .ngram = -1, .times = -1};  // off: nothing to look at
  CHECK_NOTHROW(options.validate());
}

}  // namespace
}  // namespace dsv32::test
