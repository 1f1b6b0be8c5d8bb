// A Session that decodes with drafts: token by token as without, in fewer passes.
#ifndef DSV32_LIB_ENGINE_DRAFTED_DECODE_H_
#define DSV32_LIB_ENGINE_DRAFTED_DECODE_H_

#include <cstddef>
#include <optional>
#include <span>
#include <stop_token>

#include "lib/engine/draft_passes.h"
#include "lib/engine/pass_part.h"
#include "lib/engine/session_state.h"

namespace dsv32 {

class DraftedDecode {
 public:
  // Up to `most` drafts a pass; 0: none, and append() is the session's.
  DraftedDecode(SessionState& session, GenerationState& answer, int most);
  ~DraftedDecode() { end_pass(); }
  DraftedDecode(const DraftedDecode&) = delete;
  DraftedDecode& operator=(const DraftedDecode&) = delete;

  // As the session's append(): it has the token, and the logits behind it, when this returns. A
  // pass runs only if the latest one did not run this token, as a guess.
  std::span<const float> append(TokenId token, const std::stop_token& cancel);
  // The session is as if all had come by append() alone.
  void end_pass() noexcept;

  void count(Usage& usage) const {
    usage.drafted = drafted_;
    usage.accepted = accepted_;
  }

 private:
  std::size_t guesses_now() const;
  bool begin_pass(TokenId token, std::size_t guesses, const std::stop_token& cancel);
  std::span<const float> take_row();

  SessionState& session_;
  GenerationState& answer_;
  const int most_;
  DraftPasses passes_;
  Guesses guesses_;
  std::optional<Growth> growth_;  // while rows may be taken
  StepResult result_;
  int wanted_ = 0;  // drafts of the pass, as the policy asked
  double seconds_ = 0.0;
  DraftCounts drafted_{}, accepted_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_DRAFTED_DECODE_H_
