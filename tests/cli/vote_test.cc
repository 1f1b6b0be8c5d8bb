// The best of many: what counts, what stays, what wins; and expressions that must not do harm.
#include "cli/vote.h"

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/limited_regex.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using cli::Candidate;

constexpr TokenId kEnd[] = {1};

ChatTurn turn(const std::string& content, std::size_t thought) {
  ChatTurn turn{.finish_reason = FinishReason::stop};
  turn.message.content = content;
  turn.usage.thinking_tokens = thought;
  turn.generation.stop_token = 1;
  return turn;
}

TEST_CASE("an answer counts that ended by itself, with a content and no fault") {
  CHECK(cli::amiss(turn("85", 4), kEnd).empty());
  CHECK(cli::amiss(turn("85", 0), kEnd).empty());
  for (const FinishReason reason :
       {FinishReason::length, FinishReason::repetition, FinishReason::cancelled}) {
    ChatTurn cut = turn("85", 4);
    cut.finish_reason = reason;
    CHECK(cli::amiss(cut, kEnd).find(std::string(to_string(reason))) != std::string::npos);
  }
  ChatTurn stopped = turn("85", 4);
  stopped.stop_string.push_back('x');
  CHECK_FALSE(cli::amiss(stopped, kEnd).empty());
  ChatTurn by_token = turn("85", 4);
  by_token.generation.stop_token = 7;  // a stop_token_id, no end token
  CHECK_FALSE(cli::amiss(by_token, kEnd).empty());
  by_token.generation.stop_token.reset();
  CHECK_FALSE(cli::amiss(by_token, kEnd).empty());
  ChatTurn faulty = turn("85", 4);
  faulty.faults = {ParseEvent::Fault::think_not_closed};
  CHECK(cli::amiss(faulty, kEnd) == to_string(ParseEvent::Fault::think_not_closed));
  CHECK(cli::amiss(turn(" \n\t", 4), kEnd) == "no content");
}

TEST_CASE("what a content says at its end") {
  const std::pair<const char*, const char*> cases[] = {
      {"So \\boxed{85}.", "85"},
      {"\\boxed{1} or \\boxed{ x =\n 2 } holds", "x = 2"},
      {"\\boxed{\\frac{1}{2}} is it", "\\frac{1}{2}"},
      {"\\boxed{a \\} b} end", "a \\} b"},
      {"\\boxed{3} and \\boxed{4", "3"},  // the last one never ends
      {"one\n two   words \n\n", "two words"},
      {"alone", "alone"},
      {"\\boxed{}", ""},
      {"", ""},
      {" \n ", ""}};
  for (const auto& [content, want] : cases) {
    INFO(content);
    CHECK(cli::final_answer(content) == want);
  }
}

// Candidates of so many tokens of thinking; a content "" does not count.
std::vector<Candidate> candidates(const std::vector<std::pair<std::string, std::size_t>>& of) {
  std::vector<Candidate> list;
  for (const auto& [content, thought] : of) {
    list.push_back({.turn = turn(content, thought)});
    list.back().fault = cli::amiss(list.back().turn, kEnd);
  }
  return list;
}

TEST_CASE("the longest thoughts stay, and most of them win") {
  auto list = candidates({{"a", 5}, {"b", 9}, {"", 100}, {"a", 7}, {"c", 8}, {"a", 1}});
  const auto kept = [&] {
    std::string text;
    for (const Candidate& one : list) text += one.kept ? 'k' : '-';
    return text;
  };
  CHECK(cli::vote(list, 4, cli::final_answer) == 3);  // two of "a", the longer one
  CHECK(kept() == "kk-kk-");
  for (Candidate& one : list) one.kept = false;
  CHECK(cli::vote(list, 3, cli::final_answer) == 1);  // one each: the longest
  CHECK(kept() == "-k-kk-");
  for (Candidate& one : list) one.kept = false;
  CHECK(cli::vote(list, 100, cli::final_answer) == 3);
  CHECK(kept() == "kk-kkk");
  auto equal = candidates({{"x", 3}, {"y", 3}, {"y", 3}, {"x", 3}});
  CHECK(cli::vote(equal, 2, cli::final_answer) == 0);
  auto none = candidates({{"", 1}, {" ", 2}});
  CHECK_FALSE(cli::vote(none, 4, cli::final_answer));
  CHECK_FALSE(cli::vote(none, 0, cli::final_answer));
}

TEST_CASE("who says nothing has no vote, and when nobody says anything the longest thought wins") {
  const cli::AnswerOf digits = [](std::string_view content) -> std::optional<std::string> {
    if (content.find_first_of("0123456789") == content.npos) return {};
    return std::string(content);
  };
  auto list = candidates({{"x", 9}, {"y", 8}, {"z", 7}, {"5", 2}});
  CHECK(cli::vote(list, 4, digits) == 3);
  auto silent = candidates({{"x", 1}, {"y", 8}});
  CHECK(cli::vote(silent, 4, digits) == 1);
  CHECK_FALSE(silent[1].answer);
}

TEST_CASE("an expression finds its last match, and one that is wrong says so") {
  const auto last = [](const std::string& expression, const std::string& text) {
    return cli::LimitedRegex(expression, std::chrono::seconds(20)).last_match(text);
  };
  CHECK(last("\\d+", "1 and 22") == "22");
  CHECK(last("Answer: (\\w+)", "Answer: a. Answer: bc.") == "bc");
  CHECK(last("x(y)?", "x") == "x");  // a group that took no part
  CHECK_FALSE(last("z", "x"));
  CHECK(last("$", "x") == "");
  for (const char* wrong : {"(", "[", "a{2", "*"}) {
    INFO(wrong);
    const cli::LimitedRegex regex(wrong, std::chrono::seconds(20));
    CHECK_THROWS_AS(regex.check(), std::runtime_error);
    CHECK_FALSE(regex.last_match("x"));
  }
}

TEST_CASE("an expression that explodes is given up, and a long text breaks nothing") {
  const std::string many(40, 'a');
  const cli::LimitedRegex explodes("(a+)+b", std::chrono::milliseconds(100));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(explodes.last_match(many));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  std::string text(3'000'000, 'x');  // a level of the stack each
  text.back() = '7';
  const cli::LimitedRegex deep("(.|\\n)*7", std::chrono::seconds(20));
  CHECK_NOTHROW(deep.last_match(text));
  CHECK_NOTHROW(deep.check());
}

}  // namespace
}  // namespace dsv32::test
