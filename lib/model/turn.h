// The right to compute: one holder at a time, in the order of arrival.
#ifndef DSV32_LIB_MODEL_TURN_H_
#define DSV32_LIB_MODEL_TURN_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

#include "dsv32/backend.h"

#include "lib/base/float_state.h"

namespace dsv32 {

// An application's Executor, and which threads run its parts: they must not wait for each other.
class WatchedExecutor final : public Executor {
 public:
  explicit WatchedExecutor(std::shared_ptr<Executor> inner);

  int concurrency() const noexcept override { return inner_->concurrency(); }
  void run(int count, const std::function<void(int)>& part) override;
  bool run_one() override { return inner_->run_one(); }

  // Whether this thread has run a part for somebody else, so that others may wait for it.
  bool runs_parts_here() const noexcept;
  bool can_run_one() const noexcept;

  // Of the thread inside the one call that computes now, or null: what the application's run()
  // sees.
  void set_caller(FloatState* state) noexcept { caller_ = state; }

  // Parts of the region that runs now: whether some are left and none is running. Then either their
  // threads are busy elsewhere or they wait for this very region to end. `seen` changes with
  // anything that happens.
  struct Progress {
    bool stalled = false;
    std::uint64_t seen = 0;
  };
  Progress progress() const noexcept;

 private:
  std::shared_ptr<Executor> inner_;
  FloatState* caller_ = nullptr;
  std::atomic<std::uint64_t> begun_{0}, ended_{0}, wanted_{0};
};

// A pass computes in a floating-point state of its own; `executor` (or null) is told whose it left.
class OwnState {
 public:
  explicit OwnState(WatchedExecutor* executor) noexcept : executor_(executor) {
    if (executor_) executor_->set_caller(&state_);
  }
  ~OwnState() {
    if (executor_) executor_->set_caller(nullptr);
  }
  OwnState(const OwnState&) = delete;
  OwnState& operator=(const OwnState&) = delete;

 private:
  WatchedExecutor* executor_;
  FloatState state_;
};

class Turns {
 public:
  // Gives the turn back.
  class Turn {
   public:
    explicit Turn(Turns& turns) : turns_(turns) {}
    ~Turn() { turns_.leave(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Turns& turns_;
  };

  // `executor` or null.
  explicit Turns(std::shared_ptr<WatchedExecutor> executor) : executor_(std::move(executor)) {}

  WatchedExecutor* executor() const noexcept { return executor_.get(); }

  // Waits for the turn. Throws cancelled as soon as `cancel` is asked to stop. A waiting thread
  // runs the Executor's parts; one that cannot, and for which others may be waiting, gets state.
  [[nodiscard]] Turn wait(const std::stop_token& cancel);

 private:
  struct Waiter {
    Waiter* behind = nullptr;
  };
  void join(Waiter& waiter) noexcept;
  void drop(const Waiter& waiter) noexcept;
  void wait_as(const Waiter& waiter, std::unique_lock<std::mutex>& lock,
               const std::stop_token& cancel);
  void wait_and_help(const Waiter& waiter, std::unique_lock<std::mutex>& lock,
                     const std::stop_token& cancel);
  bool is_next(const Waiter& waiter) const noexcept { return !held_ && first_ == &waiter; }
  void leave() noexcept;

  const std::shared_ptr<WatchedExecutor> executor_;
  std::mutex mutex_;
  std::condition_variable_any news_;
  bool held_ = false;
  Waiter *first_ = nullptr, *last_ = nullptr;  // each on its own thread's stack
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_TURN_H_
