// Thin wrappers of the scheduler's calls. A refusal is never an error: threads run all the same.
#include "lib/base/placement.h"

#include <cstddef>
#include <utility>

namespace dsv32 {

std::vector<int> affinity() {
  for (std::size_t cpus = CPU_SETSIZE; cpus <= std::size_t{1} << 20; cpus *= 2) {
    std::vector<cpu_set_t> mask(cpus / CPU_SETSIZE);
    const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) != 0) continue;
    std::vector<int> out;
    for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, mask.data())) out.push_back(static_cast<int>(cpu));
    }
    return out;
  }
  return {};
}

void pin(pthread_t thread, int cpu) noexcept {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  pthread_setaffinity_np(thread, sizeof one, &one);
}

void Elsewhere::leave(int cpu) noexcept {
  cpu_set_t now;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof now, &now) != 0) return;
  if (!CPU_EQUAL(&now, &narrowed_)) home_ = now;
  narrowed_ = home_;
  CPU_CLR(static_cast<unsigned>(cpu), &narrowed_);
  if (CPU_COUNT(&narrowed_) > 0) sched_setaffinity(0, sizeof narrowed_, &narrowed_);
}

void Lendee::start(pthread_t thread) {
  thread_ = thread;
  if (pthread_getcpuclockid(thread, &clock_) != 0) clock_ = CLOCK_MONOTONIC;  // "it runs"
}

void Lendee::end() noexcept {
  State state = State::busy;
  if (state_.compare_exchange_strong(state, State::idle)) return;
  while (state_.load(std::memory_order_acquire) == State::moving) sched_yield();
  sched_setaffinity(0, sizeof mask_, &mask_);
  state_.store(State::idle, std::memory_order_relaxed);
}

void Lendee::help(int cpu) noexcept {
  if (state_.load(std::memory_order_relaxed) != State::busy) return;
  timespec now{};
  if (clock_gettime(clock_, &now) != 0) return;
  const timespec before = std::exchange(ran_, now);
  if (before.tv_sec != now.tv_sec || before.tv_nsec != now.tv_nsec) return;
  State busy = State::busy;
  if (!state_.compare_exchange_strong(busy, State::moving)) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  const bool fits = cpu >= 0 && cpu < CPU_SETSIZE &&
                    pthread_getaffinity_np(thread_, sizeof mask_, &mask_) == 0 &&
                    CPU_ISSET(static_cast<unsigned>(cpu), &mask_);
  if (fits) {
    CPU_SET(static_cast<unsigned>(cpu), &one);
    pthread_setaffinity_np(thread_, sizeof one, &one);
  }
  state_.store(fits ? State::moved : State::busy, std::memory_order_release);
}

}  // namespace dsv32
