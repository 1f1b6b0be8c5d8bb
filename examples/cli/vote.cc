#include "cli/vote.h"

#include <algorithm>
#include <map>

namespace cli {
namespace {

constexpr std::string_view kBlank = " \t\r\n\v\f";

bool is_blank(std::string_view text) { return text.find_first_not_of(kBlank) == text.npos; }

// From behind its brace to the one that closes it; none if none does.
std::optional<std::string_view> braced(std::string_view text) {
  int depth = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;  // \{ and \} are signs
    else if (text[i] == '{')
      ++depth;
    else if (text[i] == '}' && --depth == 0)
      return text.substr(0, i);
  }
  return {};
}

}  // namespace

std::string amiss(const dsv32::ChatTurn& turn, std::span<const dsv32::TokenId> end_tokens) {
  const std::optional<dsv32::TokenId>& end = turn.generation.stop_token;
  const bool by_itself = turn.finish_reason == dsv32::FinishReason::stop &&
                         turn.stop_string.empty() && end &&
                         std::find(end_tokens.begin(), end_tokens.end(), *end) != end_tokens.end();
  if (!by_itself)
    return "did not end by itself (" + std::string(dsv32::to_string(turn.finish_reason)) + ")";
  if (!turn.faults.empty()) return std::string(dsv32::to_string(turn.faults.front()));
  if (is_blank(turn.message.content)) return "no content";
  return "";
}

std::string normalised(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (kBlank.find(c) == kBlank.npos)
      result += c;
    else if (!result.empty() && result.back() != ' ')
      result += ' ';
  }
  if (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

std::string final_answer(std::string_view content) {
  constexpr std::string_view kBox = "\\boxed{";
  for (std::size_t at = content.rfind(kBox); at != content.npos;
       at = at == 0 ? content.npos : content.rfind(kBox, at - 1)) {
    if (const auto inside = braced(content.substr(at + kBox.size()))) return normalised(*inside);
  }
  const std::size_t last = content.find_last_not_of(kBlank);
  if (last == content.npos) return "";
  const std::size_t newline = content.rfind('\n', last);
  return normalised(content.substr(newline == content.npos ? 0 : newline,
                                   last + 1 - (newline == content.npos ? 0 : newline)));
}

std::optional<std::size_t> vote(std::vector<Candidate>& candidates, std::size_t keep,
                                const AnswerOf& answer_of) {
  std::vector<std::size_t> order;  // the longest reasoning first
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].fault.empty()) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return candidates[a].turn.usage.thinking_tokens > candidates[b].turn.usage.thinking_tokens;
  });
  order.resize(std::min(order.size(), keep));
  std::map<std::optional<std::string>, int> votes;
  for (const std::size_t i : order) {
    candidates[i].kept = true;
    candidates[i].answer = answer_of(candidates[i].turn.message.content);
    votes[candidates[i].answer] += candidates[i].answer ? 1 : 0;
  }
  std::optional<std::size_t> winner;
  for (const std::size_t i : order) {
    if (!winner || votes[candidates[i].answer] > votes[candidates[*winner].answer]) winner = i;
  }
  return winner;
}

}  // namespace cli
