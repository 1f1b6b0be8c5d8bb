// What a generation is asked for, and what comes of it.
#ifndef DSV32_GENERATION_H_
#define DSV32_GENERATION_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "dsv32/export.h"
#include "dsv32/sampler.h"
#include "dsv32/types.h"

namespace dsv32 {

// By position: of the first drafts of a pass, of the second ones ..
using DraftCounts = std::array<std::uint64_t, 4>;

struct Usage {
  std::size_t prompt_tokens = 0;
  std::size_t cached_tokens = 0;  // of the prompt, not computed again
  std::size_t generated_tokens = 0;
  std::size_t thinking_tokens = 0;  // of the generated ones
  double queue_seconds = 0.0;       // an Engine's: until it ran
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  SparseStats sparse{};  // drafts that were wrong with it
  DraftCounts drafted{}, accepted{};
};

// Ends an answer that goes in circles: when its last `ngram` tokens stand `times` times, apart from
// each other, in its last `window`. A function of the output alone.
struct Repetition {
  int window = 0;  // at most 65,536; 0 = off
  int ngram = 32;  // at least 1
  int times = 4;   // at least 2, and so that ngram * times fit the window
};

struct GenerateOptions {
  std::optional<SamplingParams> sampling{};  // none: Model::default_sampling()
  std::size_t max_tokens = 32768;
  std::vector<TokenId> stop_token_ids{};  // beside Model::end_tokens()
  // Matched on text, across tokens: Session::generate in all of it, chat() in content alone.
  std::vector<std::string> stop_strings{};
  bool stops_in_reasoning = false;  // chat(): stop strings end reasoning, too
  // Tokens of thinking until </think> is forced (and reported, with its own logprob); 0 = no limit.
  // Only if the prompt ends inside of <think>.
  std::size_t thinking_budget = 0;
  // Bitmask for the next token given all output so far, as in Sampler::sample; empty = all. If the
  // prompt ends inside of <think>, it is asked from the token behind </think> on. For the first
  // token it is asked before the prompt runs, so that a mask which cannot be is found in time.
  std::function<std::span<const std::uint32_t>(std::span<const TokenId> output)> allowed{};
  bool allowed_in_reasoning = false;  // `allowed` is asked while the model thinks, too
  Repetition repetition{};            // off; else it may end with FinishReason::repetition
  // Tokens that MTP drafts a pass, 0 to 4; needs LoadOptions::mtp. They change no token and no bit:
  // a draft counts only if it is what the sampler draws. Fewer, or none, while they do not pay, and
  // while the session is observed. `allowed` is asked for drafts, too. An Engine has its own.
  int draft_tokens = 0;
  std::stop_token cancel{};

  // Throws as Session::generate would, before any work: invalid_argument or limit for what no model
  // can do; given the size of a vocabulary, also for tokens that are none of it.
  DSV32_API void validate(int vocab_size = 0) const;
};

struct GeneratedToken {
  Sample sample{};
  std::string text{};  // what became final: whole UTF-8, never part of a stop string
};

struct Generation {
  std::vector<TokenId> tokens{};  // without the end token
  // Cut before a stop string; empty without a tokenizer. Its end may be more than the tokens' texts
  // together: half a character, or what might have become a stop string, was held back until then.
  std::string text{};
  FinishReason finish_reason = FinishReason::none;
  std::string stop_string{};  // the one that ended it
  Usage usage{};
  std::vector<Sample> samples{};        // of `tokens`, one each
  std::optional<TokenId> stop_token{};  // the one that ended it: an end token or a stop_token_id
  std::uint64_t seed = 0;               // what was drawn with, asked for or not
};

}  // namespace dsv32

#endif  // DSV32_GENERATION_H_
