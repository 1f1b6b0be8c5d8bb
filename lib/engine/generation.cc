#include "lib/engine/generation.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/sampling/sampler_access.h"
#include "lib/text/markers.h"

namespace dsv32 {

ThinkingBudget::ThinkingBudget(const std::optional<Tokenizer>& tokenizer,
                               std::span<const TokenId> prompt, std::size_t budget)
    : budget_(budget) {
  if (!tokenizer) return;
  open_ = tokenizer->find(markers::kThink);
  close_ = tokenizer->find(markers::kEndThink);
  thinking_ = open_ && close_ && !prompt.empty() && prompt.back() == *open_;
}

void ThinkingBudget::accept(TokenId token) {
  if (!thinking_) return;
  if (token == *close_) {
    thinking_ = false;
  } else {
    ++count_;
  }
}

GenerationState::GenerationState(const GenerationModel& model, std::span<const TokenId> prompt,
                                 const GenerateOptions& options)
    : options_(options),
      end_tokens_(model.end_tokens),
      sampler_(options.sampling ? *options.sampling : model.sampling),
      stops_(options.stop_strings),
      budget_(model.tokenizer, prompt, options.thinking_budget) {
  DSV32_CHECK(options.stop_strings.empty() || model.tokenizer, invalid_argument,
              "stop strings need a tokenizer");
  for (const TokenId id : options.stop_token_ids) {
    DSV32_CHECK(id >= 0 && id < model.vocab_size, invalid_argument,
                "stop token {} is not in the vocabulary", id);
  }
  if (model.tokenizer) decoder_.emplace(*model.tokenizer);
  SamplerAccess::use_kernels(sampler_, model.kernel_set);
  sampler_.observe(prompt);
}

bool GenerationState::is_end(TokenId token) const {
  const auto in = [token](std::span<const TokenId> ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return in(end_tokens_) || in(options_.stop_token_ids);
}

Sample GenerationState::next_token(std::span<const float> logits) {
  const std::optional<TokenId> forced = budget_.forced();
  if (!forced) {
    const auto mask =
        options_.allowed ? options_.allowed(out_.tokens) : std::span<const std::uint32_t>();
    return sampler_.sample(logits, mask);
  }
  sampler_.accept(*forced);
  return {.token = *forced};
}

std::optional<GeneratedToken> GenerationState::accept(std::span<const float> logits) {
  if (out_.tokens.size() >= options_.max_tokens) {
    end(FinishReason::length);
    return {};
  }
  GeneratedToken token{.sample = next_token(logits)};
  if (is_end(token.sample.token)) {
    end(FinishReason::stop);
    return {};
  }
  out_.tokens.push_back(token.sample.token);
  budget_.accept(token.sample.token);
  if (decoder_) token.text = stops_.push(decoder_->push(token.sample.token));
  out_.text += token.text;
  if (stops_.matched()) {
    out_.stop_string = stops_.match();
    end(FinishReason::stop);
  } else if (out_.tokens.size() >= options_.max_tokens) {
    end(FinishReason::length);
  }
  return token;
}

// What decoder and matcher still hold belongs to the text. No token is left to report it with.
Generation GenerationState::finish() {
  if (decoder_ && !stops_.matched()) {
    std::string tail = stops_.push(decoder_->flush());
    tail += stops_.flush();
    if (stops_.matched()) out_.stop_string = stops_.match();
    out_.text += tail;
  }
  out_.usage.generated_tokens = out_.tokens.size();
  out_.usage.thinking_tokens = budget_.count();
  return std::move(out_);
}

}  // namespace dsv32
