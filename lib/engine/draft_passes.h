// Guesses at what comes next: MTP makes them, one token of each sequence a pass.
#ifndef DSV32_LIB_ENGINE_DRAFT_PASSES_H_
#define DSV32_LIB_ENGINE_DRAFT_PASSES_H_

#include <array>
#include <cstddef>
#include <span>
#include <stop_token>
#include <vector>

#include "lib/engine/draft_policy.h"
#include "lib/engine/generation.h"
#include "lib/engine/sequence.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

// The token that was drawn last and is to run, and behind it guesses. Its growth takes them from
// here. Of a row's logits the next token is drawn; while that is the guess behind it, the next
// row's count, too.
struct Guesses {
  std::array<TokenId, kMostDrafts + 1> tokens{};
  std::size_t count = 0;  // with the first one
  std::size_t taken = 0;  // rows that count

  void begin(TokenId drawn) { *this = {.tokens = {drawn}, .count = 1}; }
  bool is_next(TokenId drawn) const { return taken < count && tokens[taken] == drawn; }
};

// When no more rows are taken: what is wrong goes. `hidden` has the hidden states of the pass's
// rows from this growth's first on; without memory for the one that is needed its row runs again.
void end_guesses(Growth& growth, const Guesses& guesses,
                 std::span<const std::byte> hidden) noexcept;

// Memory that is used again.
class DraftPasses {
 public:
  // One that guesses: `growth` has room for as many rows as are asked for, and none to run again.
  struct Member {
    Growth* growth = nullptr;
    GenerationState* answer = nullptr;
    Guesses* guesses = nullptr;
    std::size_t most = 0;  // guesses
  };

  // As many passes as the longest asks for. Afterwards each growth has as many rows as there are
  // tokens. Throws as LoadedModel::step.
  void run(LoadedModel& model, std::span<const Member> members, const std::stop_token& cancel);

 private:
  std::vector<std::size_t> rows_, last_rows_;  // a member's in the pass, and in the one before
  Batch batch_;
  StepResult result_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_DRAFT_PASSES_H_
