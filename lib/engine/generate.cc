// Session::generate: the plain loop of sampling and appending.
#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "dsv32/session.h"

#include "lib/base/check.h"
#include "lib/engine/session_impl.h"
#include "lib/engine/stop_matcher.h"
#include "lib/sampling/sampler_access.h"
#include "lib/text/markers.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

SparseStats difference(const SparseStats& after, const SparseStats& before) {
  return {.keys_visible = after.keys_visible - before.keys_visible,
          .keys_scored = after.keys_scored - before.keys_scored,
          .keys_read = after.keys_read - before.keys_read};
}

// Counts the tokens of a reasoning part and says when its end must be forced.
class ThinkingBudget {
 public:
  ThinkingBudget(const std::optional<Tokenizer>& tokenizer, std::span<const TokenId> prompt,
                 std::size_t budget)
      : budget_(budget) {
    if (!tokenizer) return;
    open_ = tokenizer->find(markers::kThink);
    close_ = tokenizer->find(markers::kEndThink);
    thinking_ = open_ && close_ && !prompt.empty() && prompt.back() == *open_;
  }

  // The token to take instead of a drawn one.
  std::optional<TokenId> forced() const {
    return thinking_ && budget_ > 0 && count_ >= budget_ ? close_ : std::nullopt;
  }
  void accept(TokenId token) {
    if (!thinking_) return;
    if (token == *close_) {
      thinking_ = false;
    } else {
      ++count_;
    }
  }
  std::size_t count() const { return count_; }

 private:
  std::optional<TokenId> open_, close_;
  bool thinking_ = false;
  std::size_t budget_, count_ = 0;
};

}  // namespace

// One run of generate().
class Session::Impl::Generator {
 public:
  Generator(Session::Impl& session, std::span<const TokenId> prompt, const GenerateOptions& options,
            const std::function<bool(const GeneratedToken&)>& on_token)
      : session_(session),
        shared_(*session.model_),
        options_(options),
        on_token_(on_token),
        sampler_(options.sampling ? *options.sampling : shared_.sampling),
        stops_(options.stop_strings),
        budget_(shared_.tokenizer, prompt, options.thinking_budget) {
    DSV32_CHECK(options.stop_strings.empty() || shared_.tokenizer, invalid_argument,
                "stop strings need a tokenizer");
    for (const TokenId id : options.stop_token_ids) {
      DSV32_CHECK(id >= 0 && id < shared_.config.vocab_size, invalid_argument,
                  "stop token {} is not in the vocabulary", id);
    }
    if (shared_.tokenizer) decoder_.emplace(*shared_.tokenizer);
    SamplerAccess::use_kernels(sampler_, shared_.backend->kernel_set());
    sampler_.observe(prompt);
  }

  Generation run(std::span<const TokenId> prompt) {
    const SparseStats before = session_.stats;
    Clock::time_point start = Clock::now();
    bool ready = true;
    try {
      logits_ = session_.sync(prompt, options_.cancel);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cancelled) throw;
      ready = false;
      out_.finish_reason = FinishReason::cancelled;
    }
    out_.usage.prompt_tokens = prompt.size();
    out_.usage.cached_tokens = session_.reuse.matched;
    out_.usage.prefill_seconds = seconds_since(start);
    start = Clock::now();
    if (ready) {
      while (out_.finish_reason == FinishReason::none) step();
    }
    finish_text();
    out_.usage.decode_seconds = seconds_since(start);
    out_.usage.generated_tokens = out_.tokens.size();
    out_.usage.thinking_tokens = budget_.count();
    out_.usage.sparse = difference(session_.stats, before);
    return std::move(out_);
  }

 private:
  void end(FinishReason reason) { out_.finish_reason = reason; }

  bool is_end(TokenId token) const {
    const auto in = [token](const std::vector<TokenId>& ids) {
      return std::find(ids.begin(), ids.end(), token) != ids.end();
    };
    return in(shared_.config.eos_token_ids) || in(options_.stop_token_ids);
  }

  Sample next_token() {
    const std::optional<TokenId> forced = budget_.forced();
    if (!forced) {
      const auto mask =
          options_.allowed ? options_.allowed(out_.tokens) : std::span<const std::uint32_t>();
      return sampler_.sample(logits_, mask);
    }
    sampler_.accept(*forced);
    return {.token = *forced};
  }

  void step() {
    if (options_.cancel.stop_requested()) return end(FinishReason::cancelled);
    if (out_.tokens.size() >= options_.max_tokens) return end(FinishReason::length);
    GeneratedToken token{.sample = next_token()};
    if (is_end(token.sample.token)) return end(FinishReason::stop);
    out_.tokens.push_back(token.sample.token);
    budget_.accept(token.sample.token);
    if (decoder_) token.text = stops_.push(decoder_->push(token.sample.token));
    out_.text += token.text;
    if (on_token_ && !on_token_(token)) return end(FinishReason::cancelled);
    if (stops_.matched()) {
      out_.stop_string = stops_.match();
      return end(FinishReason::stop);
    }
    if (out_.tokens.size() >= options_.max_tokens) return end(FinishReason::length);
    append(token.sample.token);
  }

  void append(TokenId token) {
    try {
      logits_ = session_.append(std::span(&token, 1), options_.cancel);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::context_length) return end(FinishReason::length);
      if (error.code() == ErrorCode::cancelled) return end(FinishReason::cancelled);
      throw;
    }
  }

  // What decoder and matcher still hold belongs to the text. No token is left to report it with.
  void finish_text() {
    if (!decoder_ || stops_.matched()) return;
    std::string tail = stops_.push(decoder_->flush());
    tail += stops_.flush();
    if (stops_.matched()) out_.stop_string = stops_.match();
    out_.text += tail;
  }

  Session::Impl& session_;
  Model::Impl& shared_;
  const GenerateOptions& options_;
  const std::function<bool(const GeneratedToken&)>& on_token_;
  Sampler sampler_;
  StopMatcher stops_;
  ThinkingBudget budget_;
  std::optional<TokenDecoder> decoder_;
  std::span<const float> logits_;
  Generation out_;
};

Generation Session::generate(std::span<const TokenId> prompt, const GenerateOptions& options,
                             const std::function<bool(const GeneratedToken&)>& on_token) {
  const InUse use(impl_->in_use);
  Impl::Generator generator(*impl_, prompt, options, on_token);
  return generator.run(prompt);
}

}  // namespace dsv32
