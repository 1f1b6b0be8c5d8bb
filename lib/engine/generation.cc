#include "lib/engine/generation.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/engine/draft_policy.h"
#include "lib/sampling/sampler_access.h"
#include "lib/sampling/sampling_params.h"
#include "lib/text/markers.h"

namespace dsv32 {
namespace {

bool contains(std::span<const TokenId> ids, TokenId token) {
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

void check_stop_tokens(std::span<const TokenId> ids, int vocab_size) {
  for (const TokenId id : ids) {
    DSV32_CHECK(id >= 0 && (vocab_size == 0 || id < vocab_size), invalid_argument,
                "stop token {} is not in the vocabulary", id);
  }
}

void check_repetition(const Repetition& loop) {
  constexpr int kMostWindow = 65'536;  // it is searched at each token
  if (loop.window == 0) return;
  const bool counts = loop.ngram >= 1 && loop.times >= 2;
  const bool fits = counts && std::int64_t{loop.ngram} * loop.times <= loop.window;
  DSV32_CHECK(loop.window > 0 && loop.window <= kMostWindow && fits, invalid_argument,
              "repetition: {} times {} tokens in a window of {} can never be, or are too many",
              loop.times, loop.ngram, loop.window);
}

// From behind, so that each occurrence found leaves the most room for others.
bool repeats(std::span<const TokenId> output, const Repetition& loop) {
  if (loop.window == 0) return false;
  const auto ngram = static_cast<std::size_t>(loop.ngram);
  output = output.last(std::min(output.size(), static_cast<std::size_t>(loop.window)));
  if (output.size() < ngram * static_cast<std::size_t>(loop.times)) return false;
  const std::span<const TokenId> last = output.last(ngram);
  int found = 0;
  for (std::size_t end = output.size(); end >= ngram;) {
    const bool equal = std::ranges::equal(output.subspan(end - ngram, ngram), last);
    found += equal ? 1 : 0;
    end -= equal ? ngram : 1;
  }
  return found >= loop.times;
}

}  // namespace

void check_draft_tokens(int count) {
  DSV32_CHECK(count >= 0 && count <= kMostDrafts, invalid_argument,
              "draft_tokens is {}, not 0 to {}", count, kMostDrafts);
}

void GenerateOptions::validate(int vocab_size) const {
  const FloatState ours;
  DSV32_CHECK(vocab_size >= 0, invalid_argument, "a vocabulary of {} tokens", vocab_size);
  if (sampling) {
    check_params(*sampling);
    if (vocab_size > 0) check_biases(*sampling, static_cast<std::size_t>(vocab_size));
  }
  check_stop_tokens(stop_token_ids, vocab_size);
  check_repetition(repetition);
  check_draft_tokens(draft_tokens);
  static_cast<void>(StopMatcher(stop_strings));
}

Thinking::Thinking(const std::optional<Tokenizer>& tokenizer, std::span<const TokenId> end_tokens,
                   std::span<const TokenId> prompt, std::size_t budget)
    : budget_(budget) {
  if (!tokenizer) return;
  const std::optional<TokenId> open = tokenizer->find(markers::kThink);
  close_ = tokenizer->find(markers::kEndThink);
  if (!open || !close_) return;
  for (auto token = prompt.rbegin(); token != prompt.rend(); ++token) {
    going_on_ = *token == *open;
    if (going_on_ || *token == *close_ || contains(end_tokens, *token)) return;
  }
}

void Thinking::accept(TokenId token) {
  if (!going_on_) return;
  if (token == *close_) {
    going_on_ = false;
  } else {
    ++count_;
  }
}

GenerationState::GenerationState(const GenerationModel& model, std::span<const TokenId> prompt,
                                 const GenerateOptions& options)
    : options_(options),
      end_tokens_(model.end_tokens),
      vocab_size_(static_cast<std::size_t>(model.vocab_size)),
      sampler_(options.sampling ? *options.sampling : model.sampling),
      stops_(options.stop_strings),
      thinking_(model.tokenizer, model.end_tokens, prompt, options.thinking_budget) {
  DSV32_CHECK(options.stop_strings.empty() || model.tokenizer, invalid_argument,
              "stop strings need a tokenizer");
  check_stop_tokens(options.stop_token_ids, model.vocab_size);
  check_repetition(options.repetition);
  check_draft_tokens(options.draft_tokens);
  SamplerAccess::check(sampler_, vocab_size_);
  if (model.tokenizer) decoder_.emplace(*model.tokenizer);
  SamplerAccess::use_kernels(sampler_, model.kernel_set);
  sampler_.observe(prompt);
}

void GenerationState::prepare() {
  if (options_.max_tokens == 0 || thinking_.forced()) return;
  const std::span<const std::uint32_t> first = mask(thinking_);
  SamplerAccess::check_mask(sampler_, first, vocab_size_);
  first_mask_.emplace(first.begin(), first.end());
}

bool GenerationState::is_end(TokenId token) const {
  return contains(end_tokens_, token) || contains(options_.stop_token_ids, token);
}

std::span<const std::uint32_t> GenerationState::mask(const Thinking& thinking) {
  if (!options_.allowed || (thinking.going_on() && !options_.allowed_in_reasoning)) return {};
  return options_.allowed(out_.tokens);
}

Sample GenerationState::next_token(std::span<const float> logits) {
  if (const std::optional<TokenId> forced = thinking_.forced())
    return SamplerAccess::force(sampler_, logits, *forced);
  if (!first_mask_) return sampler_.sample(logits, mask(thinking_));
  Sample first = sampler_.sample(logits, *first_mask_);
  first_mask_.reset();
  return first;
}

std::optional<GeneratedToken> GenerationState::accept(std::span<const float> logits) {
  if (out_.tokens.size() >= options_.max_tokens) {
    end(FinishReason::length);
    return {};
  }
  GeneratedToken token{.sample = next_token(logits)};
  const TokenId id = token.sample.token;
  if (is_end(id)) {
    out_.stop_token = id;
    end(FinishReason::stop);
    return {};
  }
  out_.tokens.push_back(id);
  out_.samples.push_back(token.sample);
  thinking_.accept(id);
  if (decoder_) token.text = stops_.push(decoder_->push(id));
  out_.text += token.text;
  if (stops_.matched()) {
    out_.stop_string = stops_.match();
    end(FinishReason::stop);
  } else if (repeats(out_.tokens, options_.repetition)) {
    end(FinishReason::repetition);
  } else if (out_.tokens.size() >= options_.max_tokens) {
    end(FinishReason::length);
  }
  return token;
}

std::size_t GenerationState::room() const {
  const std::size_t next = out_.tokens.size() + 1;
  return options_.max_tokens > next ? options_.max_tokens - next : 0;
}

std::optional<TokenId> GenerationState::guess(std::span<const TokenId> ahead,
                                              std::span<const float> logits) noexcept {
  Thinking thinking = thinking_;
  for (const TokenId token : ahead) thinking.accept(token);
  std::optional<TokenId> next = thinking.forced();
  const std::size_t drawn = out_.tokens.size();
  try {
    out_.tokens.insert(out_.tokens.end(), ahead.begin(), ahead.end());
    if (!next) next = SamplerAccess::guess(sampler_, ahead, logits, mask(thinking));
  } catch (...) {
    next.reset();
  }
  out_.tokens.resize(drawn);
  if (next && is_end(*next)) next.reset();
  return next;
}

Usage GenerationState::usage() const {
  Usage usage;
  usage.generated_tokens = out_.tokens.size();
  usage.thinking_tokens = thinking_.count();
  return usage;
}

// What decoder and matcher still hold belongs to the text. No token is left to report it with.
Generation GenerationState::finish() {
  if (decoder_ && !stops_.matched()) {
    std::string tail = stops_.push(decoder_->flush());
    tail += stops_.flush();
    if (stops_.matched()) {
      out_.stop_string = stops_.match();
      end(FinishReason::stop);
    }
    out_.text += tail;
  }
  out_.usage = usage();
  out_.seed = sampler_.seed();
  return std::move(out_);
}

}  // namespace dsv32
