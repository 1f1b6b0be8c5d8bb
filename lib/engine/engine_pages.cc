// What the scheduler asks an Engine for: pages, and what is cached in them.
#include <algorithm>
#include <utility>

#include "lib/engine/engine_state.h"

namespace dsv32 {
namespace {

Answer& answer_of(Job& job) { return static_cast<Answer&>(job); }

}  // namespace

std::size_t Engine::Impl::free_of_all() noexcept {
  give_up_prompts();
  return free();
}

void Engine::Impl::start(Job& job) {
  Answer& answer = answer_of(job);
  RequestState& request = answer.request;
  if (answer.known.empty()) answer.known = request.prompt;
  const std::size_t prompt = request.prompt.size();
  try {
    if (answer.cold) {
      answer.reuse.matched = 0;
    } else if (request.prompt_sequence && !answer.has_begun()) {
      answer.sequence.share(*request.prompt_sequence);
      answer.reuse = {.matched = prompt, .first_difference = prompt};
    } else if (options_.reuse_prefixes && !answer.reads_prompt()) {
      const Reuse found =
          answer.sequence.begin_with(cache_, request.scope, answer.known, answer.known.size() - 1);
      if (!answer.has_begun()) answer.reuse = found;
    }
  } catch (...) {
    answer.sequence.truncate(0);
    throw;
  }
  settle(answer);
  answer.started = true;
}

// What its sequence holds now. If a step has no room for a row that must run again in front of the
// next, it begins where its page does: there none must.
void Engine::Impl::settle(Answer& answer) noexcept {
  Sequence& sequence = answer.sequence;
  if (sequence.rows_again() >= static_cast<std::size_t>(model_->options.max_batch_tokens))
    sequence.truncate(sequence.size() / kPageTokens * kPageTokens);
  answer.cached = sequence.size();
  answer.again = sequence.rows_again();
}

// Of equal prompts the first runs, and the others take over what it has computed. They wait for no
// more than a page at a time, so that nothing is lost when they part or the first one ends.
bool Engine::Impl::defer(Job& job) {
  Answer& answer = answer_of(job);
  if (answer.swapped && !answer.arriving) bring_back(answer);
  if (answer.arriving || !options_.reuse_prefixes || answer.reads_prompt()) return false;
  if (std::exchange(answer.deferred, false)) catch_up(answer);
  for (Job* other : scheduler_.running()) {
    if (other == &job) return false;
    if (computes_for(answer_of(*other), answer)) return answer.deferred = true;
  }
  return false;
}

// Whether `first` has yet to compute the next page that `second` needs. With MTP a page is there
// when the token behind it has run, too.
bool Engine::Impl::computes_for(const Answer& first, const Answer& second) const {
  const RequestState& request = first.request;
  if (first.over() || request.cancelled || request.scope != second.request.scope) return false;
  const std::size_t end = (second.cached / kPageTokens + 1) * kPageTokens;
  const std::size_t there = end + (model_->has_mtp() ? 1 : 0);
  if (first.cached >= there || first.known.size() < there || second.known.size() < end)
    return false;
  const auto last = first.known.begin() + static_cast<std::ptrdiff_t>(end);
  return std::equal(first.known.begin(), last, second.known.begin());
}

void Engine::Impl::catch_up(Answer& answer) noexcept {
  const std::string& scope = answer.request.scope;
  const std::size_t most = answer.known.size() - 1;
  try {
    if (cache_.look(scope, answer.known, most).matched <= answer.cached) return;
    answer.sequence.truncate(0);
    const Reuse found = answer.sequence.begin_with(cache_, scope, answer.known, most);
    if (answer.served == 0) answer.reuse = found;
  } catch (...) {
    // Without memory for that it computes what it has not.
  }
  settle(answer);
  answer.started = true;
}

bool Engine::Impl::reserve(Job& job, std::size_t count) {
  Answer& answer = answer_of(job);
  const std::span<const TokenId> known = answer.known;
  if (answer.drafts > 0) {
    answer.guesses.begin(known.back());
    try {
      answer.growth.emplace(answer.sequence,
                            std::span(answer.guesses.tokens).first(1 + answer.drafts));
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::capacity) throw;
      answer.drafts = 0;  // for them nobody gives way
    }
  }
  for (;;) {
    try {
      answer.growth.emplace(answer.sequence, known.subspan(answer.cached, count));
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::capacity) throw;
    }
    if (give_up_prompts()) continue;
    // Alone, what it shares may cost the page that it lacks: a copy of the last one.
    answer.cold = scheduler_.running().size() == 1;
    return false;
  }
}

void Engine::Impl::drop(Job& job) noexcept {
  Answer& answer = answer_of(job);
  answer.growth.reset();
  answer.started = false;
  offer(answer, false);
  answer.arriving = false;
  answer.sequence.truncate(0);
}

// What is not offered is computed again: no reason to fail.
void Engine::Impl::offer(Answer& answer, bool goes_on) noexcept {
  if (!options_.reuse_prefixes || answer.arriving) return;
  try {
    answer.sequence.offer_to(cache_, answer.request.scope, goes_on);
  } catch (...) {
  }
}

// Prompts that wait for others of their request's answers; whether there were any.
bool Engine::Impl::give_up_prompts() noexcept {
  bool any = false;
  for (auto& [id, request] : requests_) {
    if (!request || !request->prompt_sequence) continue;
    request->prompt_sequence.reset();
    any = true;
  }
  return any;
}

}  // namespace dsv32
