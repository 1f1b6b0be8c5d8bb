// From rows of logits to an answer: what is drawn, when it ends, which text is final. Knows no
// model and no session, so that whoever runs the passes can drive it.
#ifndef DSV32_LIB_ENGINE_GENERATION_H_
#define DSV32_LIB_ENGINE_GENERATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/generation.h"
#include "dsv32/sampler.h"
#include "dsv32/tokenizer.h"

#include "lib/engine/stop_matcher.h"

namespace dsv32 {

// Whether the model is thinking, for how long, and when the end of it must be forced.
class Thinking {
 public:
  // A prompt ends inside of <think> if no </think> and no end token stands behind its last one.
  Thinking(const std::optional<Tokenizer>& tokenizer, std::span<const TokenId> end_tokens,
           std::span<const TokenId> prompt, std::size_t budget);

  bool going_on() const { return going_on_; }
  // The token to take instead of a drawn one.
  std::optional<TokenId> forced() const {
    return going_on_ && budget_ > 0 && count_ >= budget_ ? close_ : std::nullopt;
  }
  void accept(TokenId token);
  std::size_t count() const { return count_; }

 private:
  std::optional<TokenId> close_;
  bool going_on_ = false;
  std::size_t budget_, count_ = 0;
};

void check_draft_tokens(int count);

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
  // Throws as GenerateOptions::validate. `options` must outlive it.
  GenerationState(const GenerationModel& model, std::span<const TokenId> prompt,
                  const GenerateOptions& options);

  // For who has not run the prompt yet: asks for the first mask now, and throws if no token could
  // come of it. Without this call it is asked for, and found wrong, by accept().
  void prepare();

  // Takes the next token, given the logits after all so far; none if that ends the answer (an end
  // token, max_tokens 0). With the token the answer may have ended, too: see ended(). Throws as
  // Sampler::sample, or what GenerateOptions::allowed throws; the answer is then as before.
  std::optional<GeneratedToken> accept(std::span<const float> logits);

  // What accept() would draw from such logits if `ahead` had been drawn before: a guess at a token
  // that has not been run for. None if it would end the answer, or cannot be told: accept() throws
  // then, if it must.
  std::optional<TokenId> guess(std::span<const TokenId> ahead,
                               std::span<const float> logits) noexcept;
  // Tokens that may come behind the next one.
  std::size_t room() const;

  // Tokens so far; times, the prompt's numbers and statistics are the caller's.
  Usage usage() const;
  std::size_t text_size() const { return out_.text.size(); }

  bool ended() const { return out_.finish_reason != FinishReason::none; }
  // From outside: cancelled, no room left. The last word counts.
  void end(FinishReason reason) { out_.finish_reason = reason; }

  // Once, when it has ended: the answer, with all text that was held back. Its usage is as above.
  Generation finish();

 private:
  bool is_end(TokenId token) const;
  std::span<const std::uint32_t> mask(const Thinking& thinking);
  Sample next_token(std::span<const float> logits);

  const GenerateOptions& options_;
  std::span<const TokenId> end_tokens_;
  std::size_t vocab_size_;
  Sampler sampler_;
  StopMatcher stops_;
  Thinking thinking_;
  std::optional<std::vector<std::uint32_t>> first_mask_;  // prepare()'s, until it is used
  std::optional<TokenDecoder> decoder_;
  Generation out_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_GENERATION_H_
