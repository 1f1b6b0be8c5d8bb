// What a generation refuses in time, what it masks, what it reports.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "tests/model/scripted.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

Tokens prompt_of(const std::vector<Message>& messages, ThinkingMode mode) {
  const Prompt prompt = tiny().chat_template().render(messages, mode);
  return tiny().tokenizer().encode(prompt);
}

TEST_CASE("reports_F2 what is wrong with a request is found before the prompt runs") {
  Session session(tiny());
  const Tokens prompt = prompt_of(question(), ThinkingMode::chat);
  const std::vector<std::uint32_t> small(2048 / 32 - 1, ~0u), large(2048 / 32 + 1, ~0u),
      none(2048 / 32, 0u);
  std::vector<GenerateOptions> wrong;
  const auto add = [&](auto&& change) {
    wrong.push_back(greedy(4));
    change(wrong.back());
  };
  add([](GenerateOptions& o) { o.sampling->logit_bias = {{2048, 1.0f}}; });
  add([](GenerateOptions& o) { o.sampling->temperature = -1.0f; });
  add([](GenerateOptions& o) { o.sampling->repetition_penalty = 1e-38f; });
  add([](GenerateOptions& o) { o.stop_token_ids = {2048}; });
  add([](GenerateOptions& o) { o.stop_strings = {""}; });
  for (const auto* mask : {&small, &large, &none})
    add([&](GenerateOptions& o) {
      o.allowed = [mask](std::span<const TokenId>) { return std::span(*mask); };
    });
  add([](GenerateOptions& o) {
    for (TokenId id = 0; id < 2048; ++id) o.sampling->logit_bias.push_back({id, -HUGE_VALF});
  });
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    INFO(i);
    check_error(ErrorCode::invalid_argument, "", [&] { session.generate(prompt, wrong[i]); });
    check_error(ErrorCode::invalid_argument, "",
                [&] { chat(session, question(), ThinkingMode::chat, {.generate = wrong[i]}); });
    CHECK(session.sparse_stats().keys_visible == 0);
    CHECK(session.tokens().empty());
  }
}

TEST_CASE("reports_F2 options can be looked through without a model") {
  GenerateOptions options = greedy(4);
  options.stop_token_ids = {5};
  options.sampling->logit_bias = {{90, 1.0f}};
  CHECK_NOTHROW(options.validate());
  CHECK_NOTHROW(options.validate(91));
  check_error(ErrorCode::invalid_argument, "logit_bias for token 90",
              [&] { options.validate(90); });
  check_error(ErrorCode::invalid_argument, "vocabulary", [&] { options.validate(-1); });
  options.stop_token_ids = {-1};
  check_error(ErrorCode::invalid_argument, "stop token -1", [&] { options.validate(); });
  options = greedy(4);
  options.sampling->top_p = 2.0f;
  check_error(ErrorCode::invalid_argument, "top_p", [&] { options.validate(); });
  options = greedy(4);
  options.stop_strings = {std::string(1 << 20, 'x')};
  check_error(ErrorCode::limit, "stop strings", [&] { options.validate(); });
}

TEST_CASE("reports_T16 the token that a budget forces has its own logprob and alternatives") {
  const Tokens prompt = prompt_of(question(), ThinkingMode::thinking);
  Session session(tiny());
  GenerateOptions options = greedy(12);
  options.sampling->top_logprobs = 3;
  options.thinking_budget = 4;
  const Generation got = session.generate(prompt, options);
  const TokenId close = *tiny().tokenizer().find("</think>");
  REQUIRE(got.tokens.size() > 5);
  REQUIRE(got.tokens[4] == close);
  CHECK(got.usage.thinking_tokens == 4);
  for (const std::size_t i : {std::size_t{3}, std::size_t{4}, std::size_t{5}}) {
    Tokens before = prompt;
    before.insert(before.end(), got.tokens.begin(),
                  got.tokens.begin() + static_cast<std::ptrdiff_t>(i));
    Session other(tiny());
    const auto row = other.append(before);
    double sum = 0.0;
    for (const float x : row) sum += std::exp(static_cast<double>(x));
    const auto want =
        static_cast<double>(row[static_cast<std::size_t>(got.tokens[i])]) - std::log(sum);
    CHECK(std::fabs(static_cast<double>(got.samples[i].logprob) - want) < 1e-4);
    REQUIRE(got.samples[i].top.size() == 3);
    CHECK(got.samples[i].top[0].token == std::max_element(row.begin(), row.end()) - row.begin());
  }
  CHECK(got.samples[4].logprob < 0.0f);
}

TEST_CASE("reports_T18 a mask is asked behind the reasoning, or in it, too, if that is wanted") {
  const Tokens script = ids_of({{"Hm, so.</think>Yes."}});
  const TokenId close = *tiny().tokenizer().find("</think>");
  const Tokens thinking = prompt_of(question(), ThinkingMode::thinking);
  Session session(tiny());
  for (const bool in_reasoning : {false, true}) {
    GenerateOptions options = greedy(40);
    options.thinking_budget = 3;
    options.allowed_in_reasoning = in_reasoning;
    std::vector<Tokens> asked;
    options.allowed = [&](std::span<const TokenId> output) {
      asked.emplace_back(output.begin(), output.end());
      return std::span<const std::uint32_t>();
    };
    options.max_tokens = 6;
    const Generation got = session.generate(thinking, options);
    REQUIRE(got.tokens.size() == 6);
    REQUIRE(got.tokens[3] == close);
    // Once for each token that is drawn, with all of the output; not for the one that is forced.
    std::vector<std::size_t> sizes;
    for (const Tokens& output : asked) {
      CHECK(std::equal(output.begin(), output.end(), got.tokens.begin()));
      sizes.push_back(output.size());
    }
    const std::vector<std::size_t> behind = {4, 5}, all = {0, 1, 2, 4, 5};
    CHECK(sizes == (in_reasoning ? all : behind));
  }
  // A prompt that goes on inside of an opened <think> is thinking as well; one behind it is not.
  Tokens inside = thinking, closed = thinking;
  const Tokens words = tiny().tokenizer().encode("Well, the");
  inside.insert(inside.end(), words.begin(), words.end());
  closed.push_back(close);
  for (const auto& [prompt, want] : {std::pair(inside, 0), std::pair(closed, 2)}) {
    int asked = 0;
    GenerateOptions options = greedy(2);
    options.allowed = [&](std::span<const TokenId>) {
      ++asked;
      return std::span<const std::uint32_t>();
    };
    session.generate(prompt, options);
    CHECK(asked == want);
  }
}

TEST_CASE("reports_T18 what was generated before an error stays reachable") {
  Session session(tiny());
  const Tokens prompt = prompt_of(question(), ThinkingMode::chat);
  GenerateOptions options = greedy(40);
  const Tokens want = session.generate(prompt, greedy(3)).tokens;
  options.allowed = [](std::span<const TokenId> output) -> std::span<const std::uint32_t> {
    if (output.size() == 3) throw std::runtime_error("mine");
    return {};
  };
  Tokens heard;
  CHECK_THROWS_AS(session.generate(prompt, options,
                                   [&](const GeneratedToken& token) {
                                     heard.push_back(token.sample.token);
                                     return true;
                                   }),
                  std::runtime_error);
  CHECK(heard == want);
  Tokens whole = prompt;
  whole.insert(whole.end(), want.begin(), want.end());
  CHECK(std::ranges::equal(session.tokens(), whole));
  std::string text;
  CHECK_THROWS_AS(chat(session, question(), ThinkingMode::chat, {.generate = options},
                       [&](const ParseEvent& event) {
                         text += event.text;
                         return true;
                       }),
                  std::runtime_error);
  CHECK(text == tiny().tokenizer().decode(want));
}

TEST_CASE("reports_D5 every generated token has its sample, and a turn has its generation") {
  Session session(tiny());
  const Tokens prompt = prompt_of(question(), ThinkingMode::chat);
  GenerateOptions options = greedy(6);
  options.sampling->top_logprobs = 2;
  std::vector<Sample> heard;
  const auto listen = [&](const GeneratedToken& token) {
    heard.push_back(token.sample);
    return true;
  };
  const Generation got = session.generate(prompt, options, listen);
  REQUIRE(got.samples.size() == got.tokens.size());
  for (std::size_t i = 0; i < got.tokens.size(); ++i) {
    CHECK(got.samples[i].token == got.tokens[i]);
    CHECK(got.samples[i].logprob == heard[i].logprob);
    CHECK(got.samples[i].top.size() == 2);
  }
  const ChatTurn turn = chat(session, question(), ThinkingMode::chat, {.generate = options});
  CHECK(turn.generation.tokens == got.tokens);
  CHECK(turn.generation.text == got.text);
  CHECK(turn.generation.samples.back().logprob == got.samples.back().logprob);
  CHECK(turn.generation.finish_reason == turn.finish_reason);
  CHECK(turn.generation.usage.prompt_tokens == prompt.size());
}

TEST_CASE("reports_D5 spans of a session stay valid while it is forked") {
  Session session(tiny());
  const auto logits = session.append(Tokens{5, 6, 7});
  const auto tokens = session.tokens();
  const Bits want = copy(logits);
  Session fork = session.fork();
  fork.append(8);
  CHECK(session.logits().data() == logits.data());
  CHECK(session.tokens().data() == tokens.data());
  CHECK(equal(want, logits));
}

TEST_CASE("reports_F13 a generation says which token ended it, and which seed it drew with") {
  Session session(tiny());
  const Tokens prompt = prompt_of(question(), ThinkingMode::chat);
  const Tokens words = ids_of({{"Yes it is."}});
  const Generation ended = session.generate(prompt, scripted(words));
  CHECK(ended.tokens == words);
  CHECK(ended.finish_reason == FinishReason::stop);
  CHECK(ended.stop_token == 1);
  GenerateOptions options = scripted(words);
  options.stop_token_ids = {words[2]};
  const Generation own = session.generate(prompt, options);
  CHECK(own.stop_token == words[2]);
  CHECK(own.tokens == Tokens(words.begin(), words.begin() + 2));
  options = scripted(words);
  options.max_tokens = 2;
  CHECK(!session.generate(prompt, options).stop_token);
  options = greedy(8);
  options.sampling = SamplingParams{.temperature = 1.5f, .seed = 77};
  CHECK(session.generate(prompt, options).seed == 77);
  options.sampling->seed.reset();
  const Generation random = session.generate(prompt, options);
  options.sampling->seed = random.seed;
  CHECK(session.generate(prompt, options).tokens == random.tokens);
  const ChatTurn turn = chat(session, question(), ThinkingMode::chat, {.generate = options});
  CHECK(turn.generation.seed == random.seed);
  const ChatTurn whole =
      chat(session, question(), ThinkingMode::chat, {.generate = scripted(words)});
  CHECK(whole.generation.stop_token == 1);
}

}  // namespace
}  // namespace dsv32::test
