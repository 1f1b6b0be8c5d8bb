#include "lib/model/turn.h"

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{1};      // how often a waiter looks for parts to run
constexpr std::chrono::milliseconds kStall{1000};  // parts that nobody begins for so long hang

// Whose parts this thread ran last, on another's behalf: an address, never followed, and since when
// it was that one's. Nothing that ends with the thread, or we could not be unloaded before it.
struct PartRunner {
  const Executor* address = nullptr;
  std::int64_t since = 0;
};
constinit thread_local PartRunner part_runner;

}  // namespace

WatchedExecutor::WatchedExecutor(std::shared_ptr<Executor> inner) : inner_(std::move(inner)) {
  std::int64_t never = 0;
  inner_->since_.compare_exchange_strong(never, Clock::now().time_since_epoch().count());
}

void WatchedExecutor::run(int count, const std::function<void(int)>& part) {
  struct Region {
    WatchedExecutor& self;
    const std::function<void(int)>& part;
    std::thread::id caller;
  } region{*this, part, std::this_thread::get_id()};
  wanted_.fetch_add(static_cast<std::uint64_t>(count));
  std::optional<CallersFloatState> callers;
  if (caller_) callers.emplace(*caller_);
  inner_->run(count, [&region](int i) {
    WatchedExecutor& self = region.self;
    if (std::this_thread::get_id() != region.caller)
      part_runner = {self.inner_.get(), self.inner_->since_.load(std::memory_order_relaxed)};
    self.begun_.fetch_add(1);
    region.part(i);
    self.ended_.fetch_add(1);
  });
}

bool WatchedExecutor::runs_parts_here() const noexcept {
  return part_runner.address == inner_.get() &&
         part_runner.since == inner_->since_.load(std::memory_order_relaxed);
}

bool WatchedExecutor::can_run_one() const noexcept {
  return inner_->has_run_one_.load(std::memory_order_relaxed);
}

WatchedExecutor::Progress WatchedExecutor::progress() const noexcept {
  const std::uint64_t ended = ended_.load(), begun = begun_.load(), wanted = wanted_.load();
  return {.stalled = begun == ended && begun < wanted, .seen = begun + ended + wanted};
}

Turns::Turn Turns::wait(const std::stop_token& cancel) {
  std::unique_lock lock(mutex_);
  if (held_ || first_) {
    Waiter waiter;
    join(waiter);
    try {
      executor_ ? wait_and_help(waiter, lock, cancel) : wait_as(waiter, lock, cancel);
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      drop(waiter);
      news_.notify_all();
      throw;
    }
    drop(waiter);
  }
  held_ = true;
  return Turn(*this);
}

void Turns::wait_as(const Waiter& waiter, std::unique_lock<std::mutex>& lock,
                    const std::stop_token& cancel) {
  news_.wait(lock, cancel, [&] { return is_next(waiter); });
  DSV32_CHECK(is_next(waiter), cancelled, "cancelled while other passes ran");
}

// The holder's parts may be queued behind this very thread: it runs them, or must not wait.
void Turns::wait_and_help(const Waiter& waiter, std::unique_lock<std::mutex>& lock,
                          const std::stop_token& cancel) {
  const auto next = [&] { return is_next(waiter); };
  std::uint64_t seen = 0;
  Clock::time_point since = Clock::now();
  while (!next()) {
    DSV32_CHECK(!cancel.stop_requested(), cancelled, "cancelled while other passes ran");
    lock.unlock();
    const bool ran = executor_->run_one();
    lock.lock();
    if (ran) continue;
    const WatchedExecutor::Progress now = executor_->progress();
    if (!now.stalled || now.seen != std::exchange(seen, now.seen)) since = Clock::now();
    DSV32_CHECK(executor_->can_run_one() ||
                    !(executor_->runs_parts_here() || Clock::now() - since > kStall),
                state,
                "this thread would wait for a pass whose parts wait for this thread: "
                "give the Executor run_one()");
    news_.wait_for(lock, cancel, kLook, next);
  }
}

void Turns::join(Waiter& waiter) noexcept {
  (last_ ? last_->behind : first_) = &waiter;
  last_ = &waiter;
}

void Turns::drop(const Waiter& waiter) noexcept {
  Waiter* before = nullptr;
  Waiter** place = &first_;
  while (*place != &waiter) {
    before = *place;
    place = &before->behind;
  }
  *place = waiter.behind;
  if (last_ == &waiter) last_ = before;
}

void Turns::leave() noexcept {
  {
    const std::lock_guard guard(mutex_);
    held_ = false;
  }
  news_.notify_all();
}

}  // namespace dsv32
