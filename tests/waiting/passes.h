// What the tests of this folder share: passes that stand still, a watchdog, times, whole states of
// sessions.
#ifndef DSV32_TESTS_WAITING_PASSES_H_
#define DSV32_TESTS_WAITING_PASSES_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "tests/model/sessions.h"
#include "tests/waiting/hooked_backend.h"

namespace dsv32::test {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;
using namespace std::chrono_literals;

// Ends the program, red, if it lives longer: a hang has no other way out.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds most = std::chrono::seconds(20))
      : thread_([this, most] {
          std::unique_lock lock(mutex_);
          if (news_.wait_for(lock, most, [&] { return done_; })) return;
          std::fputs("a call hangs\n", stderr);
          std::_Exit(1);
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard guard(mutex_);
      done_ = true;
    }
    news_.notify_all();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable news_;
  bool done_ = false;
  std::thread thread_;
};

// A pass that sleeps in the middle until it is let go, or `most` has passed: the append of
// `tokens` to `session` on a thread of its own. Constructed, it sleeps.
class HeldPass {
 public:
  HeldPass(Session& session, std::span<const TokenId> tokens, std::chrono::milliseconds most)
      : hook_([this, most] { hold(most); }),
        thread_([this, &session, list = Tokens(tokens.begin(), tokens.end())] {
          session.append(list);
        }) {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return held_; });
  }
  ~HeldPass() {
    let_go();
    join();
  }
  HeldPass(const HeldPass&) = delete;
  HeldPass& operator=(const HeldPass&) = delete;

  void let_go() {
    {
      const std::lock_guard guard(mutex_);
      free_ = true;
    }
    news_.notify_all();
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  // Whether it still sleeps.
  bool holds() const {
    const std::lock_guard guard(mutex_);
    return held_ && !over_;
  }

 private:
  void hold(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    if (held_) return;  // a later pass
    held_ = true;
    news_.notify_all();
    news_.wait_for(lock, most, [&] { return free_; });
    over_ = true;
  }

  mutable std::mutex mutex_;
  std::condition_variable news_;
  bool held_ = false, free_ = false, over_ = false;
  PassHook hook_;
  std::thread thread_;
};

// A thread, and whether it sleeps: what its function calls blocks.
class Sleeper {
 public:
  template <class Function>
  explicit Sleeper(Function function)
      : thread_([this, function] {
          id_.store(gettid());
          function();
          ended_.store(true);
        }) {}
  ~Sleeper() { join(); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  void join() {
    if (thread_.joinable()) thread_.join();
  }
  bool ended() const { return ended_; }
  pid_t id() const { return id_; }
  // Returns when the system has seen it asleep some times, or it has ended.
  void wait_asleep() const {
    for (int times = 0; times < 4 && !ended_;) {
      std::this_thread::sleep_for(1ms);
      std::ifstream file("/proc/self/task/" + std::to_string(id_.load()) + "/stat");
      std::string text((std::istreambuf_iterator<char>(file)), {});
      const std::size_t name_end = text.rfind(") ");
      if (id_ != 0 && name_end != std::string::npos && text[name_end + 2] == 'S') ++times;
    }
  }

 private:
  std::atomic<pid_t> id_{0};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// Milliseconds, many of them.
class Times {
 public:
  template <class Call>
  void measure(Call&& call) {
    const Clock::time_point begin = Clock::now();
    call();
    add(Milliseconds(Clock::now() - begin).count());
  }
  void add(double ms) { all_.push_back(ms); }
  double part(double of) const {
    std::vector<double> sorted = all_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<std::size_t>(of * static_cast<double>(sorted.size() - 1))];
  }
  double median() const { return part(0.5); }
  double p99() const { return part(0.99); }
  std::size_t size() const { return all_.size(); }

 private:
  std::vector<double> all_;
};

// All that a session shows.
struct Shown {
  Tokens tokens;
  Bits logits;
  SparseStats stats;
  std::size_t free = 0;

  explicit Shown(const Session& s)
      : tokens(s.tokens().begin(), s.tokens().end()),
        logits(copy(s.logits())),
        stats(s.sparse_stats()),
        free(s.model().free_cache_tokens()) {}
  friend bool operator==(const Shown& x, const Shown& y) {
    return x.tokens == y.tokens && equal(x.logits, y.logits) && x.free == y.free &&
           x.stats.keys_visible == y.stats.keys_visible &&
           x.stats.keys_scored == y.stats.keys_scored && x.stats.keys_read == y.stats.keys_read;
  }
};

// The code of what `call` throws; none if it returns or throws something else.
template <class Call>
std::optional<ErrorCode> code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  } catch (...) {
  }
  return {};
}

inline Model load_hooked(std::shared_ptr<Executor> executor = {}, std::size_t cache_tokens = 4096) {
  LoadOptions options;
  options.backend.num_threads = 1;
  options.backend.executor = std::move(executor);
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = 64;
  options.mtp = true;
  return Model::load(golden("fp8"), options);
}

// Runs the parts one after another, on the caller's thread; has none left for others.
class OneByOne final : public Executor {
 public:
  int concurrency() const noexcept override { return 2; }
  void run(int count, const std::function<void(int)>& part) override {
    for (int i = 0; i < count; ++i) part(i);
  }
  bool run_one() override { return false; }
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_WAITING_PASSES_H_
