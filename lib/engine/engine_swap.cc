// An Engine's swap: what a preempted answer had goes to host memory, and comes back. Pages are
// copied between the plans, without the lock: a copy waits for its turn as a pass does.
#include <algorithm>
#include <chrono>
#include <utility>

#include "lib/base/seconds.h"
#include "lib/engine/engine_state.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPiece = std::size_t{16} << 20;  // bytes that are copied in one turn

Answer& answer_of(Job& job) { return static_cast<Answer&>(job); }

// Calls `copy` for so many pages at a time as a turn may be long; how long it took.
template <class Copy>
double in_pieces(std::size_t pages, std::size_t page_bytes, Copy&& copy) {
  const std::size_t most = std::max<std::size_t>(1, kPiece / page_bytes);
  const Clock::time_point start = Clock::now();
  for (std::size_t first = 0; first < pages; first += most)
    copy(first, std::min(most, pages - first));
  return seconds_since(start);
}

}  // namespace

// In a plan, of one that is about to lose its pages.
void Engine::Impl::before_drop(Job& job) {
  Answer& answer = answer_of(job);
  if (options_.swap_bytes == 0 || answer.arriving || std::exchange(answer.swap_asked, true)) return;
  const std::size_t tokens = answer.sequence.size();
  const std::size_t bytes = pages_for(tokens) * model_->page_bytes();
  if (tokens == 0 || !swap_.has_room(bytes)) return;
  if (swap_.pays(bytes, scheduler_.cost().prompt_seconds(0, tokens))) throw CopyFirst{&answer};
}

// No memory for it: then it is computed again.
void Engine::Impl::swap_out(Answer& answer) {
  const auto parts = answer.sequence.page_parts();
  const std::size_t page = model_->page_bytes();
  SwappedPages saved{.tokens = answer.sequence.size(), .mtp_stale = answer.sequence.mtp_stale()};
  try {
    saved.memory = SwapSpace::Memory(swap_, parts.size() * page);
  } catch (const std::bad_alloc&) {
    return;
  }
  const std::span<std::byte> bytes = saved.memory.bytes();
  const double seconds = in_pieces(parts.size(), page, [&](std::size_t first, std::size_t count) {
    model_->read_pages(std::span(parts).subspan(first, count),
                       bytes.subspan(first * page, count * page), {});
  });
  swap_.observe(bytes.size(), seconds);
  const std::lock_guard guard(mutex_);
  if (swap_.pays(bytes.size(), scheduler_.cost().prompt_seconds(0, saved.tokens)))
    answer.swapped.emplace(std::move(saved));
}

// Of one that runs again: pages for what is not cached of all that it had. With MTP a page's last
// row depends on the token behind it: the last page that is cached may lack it.
void Engine::Impl::bring_back(Answer& answer) {
  const std::size_t tokens = answer.swapped->tokens;
  if (answer.cached >= tokens) return answer.swapped.reset();
  const std::size_t cached = answer.cached / kPageTokens;
  const std::size_t kept = cached - (model_->has_mtp() && cached > 0 ? 1 : 0);
  auto pages = model_->pages().try_take(pages_for(tokens) - kept);
  if (!pages) return;  // some of it is computed again first
  answer.sequence.truncate(kept * kPageTokens);
  answer.sequence.restore(std::span(answer.known).first(tokens), *std::move(pages),
                          answer.swapped->mtp_stale);
  answer.arriving = true;
  answer.arriving_from = kept;
  settle(answer);
  answer.started = true;
}

// Before the pass: the bytes of pages that plans have promised.
void Engine::Impl::swap_in() {
  for (Job* job : scheduler_.running()) {
    Answer& answer = answer_of(*job);
    if (!answer.arriving) continue;
    const std::size_t page = model_->page_bytes(), kept = answer.arriving_from;
    const std::span<const std::int32_t> pages = answer.sequence.pages().subspan(kept);
    const std::span<const std::byte> bytes = answer.swapped->memory.bytes().subspan(kept * page);
    const double seconds = in_pieces(pages.size(), page, [&](std::size_t first, std::size_t count) {
      model_->write_pages(pages.subspan(first, count), bytes.subspan(first * page, count * page),
                          {});
    });
    swap_.observe(pages.size() * page, seconds);
    answer.sequence.set_written();
    const std::lock_guard guard(mutex_);
    stats_.swapped_tokens += answer.swapped->tokens - kept * kPageTokens;
    answer.arriving = false;
    answer.swapped.reset();
  }
}

}  // namespace dsv32
