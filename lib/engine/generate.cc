// Session::generate: the plain loop of sampling and appending.
#include <chrono>
#include <utility>

#include "dsv32/session.h"

#include "lib/base/check.h"
#include "lib/base/seconds.h"
#include "lib/engine/drafted_decode.h"
#include "lib/engine/generation.h"
#include "lib/engine/session_state.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

SparseStats difference(const SparseStats& after, const SparseStats& before) {
  return {.keys_visible = after.keys_visible - before.keys_visible,
          .keys_scored = after.keys_scored - before.keys_scored,
          .keys_read = after.keys_read - before.keys_read,
          .nan_queries = after.nan_queries - before.nan_queries};
}

// Calls `pass`; if it was cut short for one of two reasons, `answer` has ended and there are no
// logits.
template <class Pass>
std::span<const float> run_or_end(GenerationState& answer, bool may_fill_up, Pass&& pass) {
  try {
    return pass();
  } catch (const Error& error) {
    const bool full = may_fill_up && error.code() == ErrorCode::context_length;
    if (!full && error.code() != ErrorCode::cancelled) throw;
    answer.end(full ? FinishReason::length : FinishReason::cancelled);
    return {};
  }
}

}  // namespace

Generation Session::generate(std::span<const TokenId> prompt, const GenerateOptions& options,
                             const std::function<bool(const GeneratedToken&)>& on_token) {
  Impl& session = state();
  const InUse use(session.in_use);
  const LoadedModel& model = session.shared();
  DSV32_CHECK(options.draft_tokens == 0 || model.has_mtp(), invalid_argument,
              "GenerateOptions::draft_tokens is {}, and drafts need LoadOptions::mtp",
              options.draft_tokens);
  GenerationState answer({.tokenizer = model.tokenizer,
                          .end_tokens = model.end_tokens,
                          .sampling = model.sampling,
                          .vocab_size = model.config.vocab_size,
                          .kernel_set = model.kernel_set()},
                         prompt, options);
  if (!options.cancel.stop_requested()) answer.prepare();
  const SparseStats before = session.stats.get();
  Clock::time_point start = Clock::now();
  std::span<const float> logits =
      run_or_end(answer, false, [&] { return session.sync(prompt, options.cancel); });
  const double prefill_seconds = seconds_since(start);
  start = Clock::now();
  DraftedDecode decode(session, answer, options.draft_tokens);
  while (!answer.ended()) {
    if (options.cancel.stop_requested()) {
      answer.end(FinishReason::cancelled);
      break;
    }
    const std::optional<GeneratedToken> token = answer.accept(logits);
    if (!token) break;
    if (on_token && !on_token(*token)) answer.end(FinishReason::cancelled);
    if (answer.ended()) break;
    const TokenId id = token->sample.token;
    logits = run_or_end(answer, true, [&] { return decode.append(id, options.cancel); });
  }
  decode.end_pass();
  Generation out = answer.finish();
  out.usage.prompt_tokens = prompt.size();
  out.usage.cached_tokens = session.reuse.get().matched;
  out.usage.prefill_seconds = prefill_seconds;
  out.usage.decode_seconds = seconds_since(start);
  decode.count(out.usage);
  out.usage.sparse = difference(session.stats.get(), before);
  return out;
}

}  // namespace dsv32
