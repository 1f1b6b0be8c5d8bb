// From rows of logits to an answer: what is drawn, when it ends, which text is final. Knows no
// model and no session, so that whoever runs the passes can drive it.
#ifndef DSV32_LIB_ENGINE_GENERATION_H_
#define DSV32_LIB_ENGINE_GENERATION_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/sampler.h"
#include "dsv32/session.h"
#include "dsv32/tokenizer.h"

#include "lib/engine/stop_matcher.h"

namespace dsv32 {

// Counts the tokens of a reasoning part and says when its end must be forced.
class ThinkingBudget {
 public:
  ThinkingBudget(const std::optional<Tokenizer>& tokenizer, std::span<const TokenId> prompt,
                 std::size_t budget);

  // The token to take instead of a drawn one.
  std::optional<TokenId> forced() const {
    return thinking_ && budget_ > 0 && count_ >= budget_ ? close_ : std::nullopt;
  }
  void accept(TokenId token);
  std::size_t count() const { return count_; }

 private:
  std::optional<TokenId> open_, close_;
  bool thinking_ = false;
  std::size_t budget_, count_ = 0;
};

// What a generation needs to know of a model.
struct GenerationModel {
  const std::optional<Tokenizer>& tokenizer;
  std::span<const TokenId> end_tokens;
  const SamplingParams& sampling;  // if the options have none
  int vocab_size = 0;
  std::string_view kernel_set{};  // for the sampler's passes over a row
};

class GenerationState {
 public:
  // Throws invalid_argument or limit for options that cannot be meant. `options` must outlive it.
  GenerationState(const GenerationModel& model, std::span<const TokenId> prompt,
                  const GenerateOptions& options);

  // Takes the next token, given the logits after all so far; none if that ends the answer (an end
  // token, max_tokens 0). With the token the answer may have ended, too: see ended(). Throws as
  // Sampler::sample, or what GenerateOptions::allowed throws; the answer is then as before.
  std::optional<GeneratedToken> accept(std::span<const float> logits);

  bool ended() const { return out_.finish_reason != FinishReason::none; }
  // From outside: cancelled, no room left. The last word counts.
  void end(FinishReason reason) { out_.finish_reason = reason; }

  // Once, when it has ended: the answer, with all text that was held back. Times, the prompt's
  // numbers and statistics are the caller's.
  Generation finish();

 private:
  bool is_end(TokenId token) const;
  Sample next_token(std::span<const float> logits);

  const GenerateOptions& options_;
  std::span<const TokenId> end_tokens_;
  Sampler sampler_;
  StopMatcher stops_;
  ThinkingBudget budget_;
  std::optional<TokenDecoder> decoder_;
  Generation out_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_GENERATION_H_
