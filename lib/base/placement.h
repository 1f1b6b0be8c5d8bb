// Which processors threads may use, and which of them they are on.
#ifndef DSV32_LIB_BASE_PLACEMENT_H_
#define DSV32_LIB_BASE_PLACEMENT_H_

#include <atomic>
#include <ctime>
#include <pthread.h>
#include <sched.h>
#include <vector>

namespace dsv32 {

// The calling thread's affinity mask; a machine may have more processors than cpu_set_t holds.
std::vector<int> affinity();

void pin(pthread_t thread, int cpu) noexcept;

// Keeps the thread that owns it off one processor: the caller's. Left alone, a worker that spins
// and yields stays on the caller's core as long as every other has something to do, be it nice, and
// the two never run at the same time.
class Elsewhere {
 public:
  void leave(int cpu) noexcept;  // to another one of the thread's mask, if there is one

 private:
  cpu_set_t home_{}, narrowed_{};  // the thread's own mask, and what we made of it
};

// A thread that others wait for. If it holds them up because another process has taken its core,
// who waits hands it their own; balancing alone takes the kernel some milliseconds.
class Lendee {
 public:
  void start(pthread_t thread);

  // The thread itself: around what others may wait for.
  void begin() noexcept { state_.store(State::busy, std::memory_order_relaxed); }
  void end() noexcept;

  // Who waits, now and again: notes how much the thread has run. If it has not since the last call,
  // it is moved to `cpu` until its end(), provided that its mask has it.
  void help(int cpu) noexcept;
  void forget() noexcept { ran_ = {-1, 0}; }  // before the first of these calls

 private:
  enum class State : int { idle, busy, moving, moved };

  std::atomic<State> state_{State::idle};
  pthread_t thread_{};
  clockid_t clock_{};
  timespec ran_{-1, 0};
  cpu_set_t mask_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_PLACEMENT_H_
