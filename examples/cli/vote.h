// The best of many answers to one question: which count, which stay, and what most of them say.
#ifndef EXAMPLES_CLI_VOTE_H_
#define EXAMPLES_CLI_VOTE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/dsv32.h"

namespace cli {

struct Candidate {
  dsv32::ChatTurn turn{};
  std::uint64_t seed = 0;
  std::string fault{};                  // why it does not count; empty: it does
  bool kept = false;                    // of those that count, one of the longest reasonings
  std::optional<std::string> answer{};  // what it votes for, if it is kept and says anything
};

// Empty if the turn ended by itself, behind </think>, with a content and without faults; else what
// is amiss.
std::string amiss(const dsv32::ChatTurn& turn, std::span<const dsv32::TokenId> end_tokens);

// What a content says: the inside of its last \boxed{}, else its last line that is not empty.
std::string final_answer(std::string_view content);
// White space as single blanks, none at the ends.
std::string normalised(std::string_view text);

// Marks the `keep` longest reasonings of those that count (by tokens; of equal ones the earlier),
// asks `answer_of` for what they say, and returns the index of the one that wins: of the answer
// that most of them give, or of equally many that with the longest reasoning, the one that reasoned
// longest. None if none counts.
using AnswerOf = std::function<std::optional<std::string>(std::string_view content)>;
std::optional<std::size_t> vote(std::vector<Candidate>& candidates, std::size_t keep,
                                const AnswerOf& answer_of);

}  // namespace cli

#endif  // EXAMPLES_CLI_VOTE_H_
