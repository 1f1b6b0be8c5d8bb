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
    if (request.prompt_sequence && !answer.has_begun()) {
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

bool Engine::Impl::defer(Job&) { return false; }

bool Engine::Impl::reserve(Job& job, std::size_t count) {
  Answer& answer = answer_of(job);
  const std::span<const TokenId> known = answer.known;
  for (;;) {
    try {
      answer.growth.emplace(answer.sequence, known.subspan(answer.cached, count));
      return true;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::capacity) throw;
    }
    if (!give_up_prompts()) return false;
  }
}

void Engine::Impl::drop(Job& job) noexcept {
  Answer& answer = answer_of(job);
  answer.growth.reset();
  answer.started = false;
  offer(answer, false);
  answer.sequence.truncate(0);
}

// What is not offered is computed again: no reason to fail.
void Engine::Impl::offer(Answer& answer, bool goes_on) noexcept {
  if (!options_.reuse_prefixes) return;
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
