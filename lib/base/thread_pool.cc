// A region is one parallel loop. Each worker has a share of neighbouring items, so that it reads
// memory in one stream; who is done takes from the others' shares, item by item. Workers spin
// shortly on a count of regions, then sleep on it (a futex). Only a worker that comes in time takes
// part: the caller never waits for one that the system has not yet let run, but does its share.
#include "lib/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <exception>
#include <linux/futex.h>
#include <new>
#include <sched.h>
#include <sys/syscall.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <climits>

#include "lib/base/cgroup.h"
#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/placement.h"
#include "lib/base/signal_block.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;
using Word = std::atomic<std::uint32_t>;

constexpr int kMaxThreads = 1024;
constexpr int kSpinsPerYield = 32;
constexpr int kClaimsPerWorker = 32;  // so many times a worker asks for items, about
constexpr std::size_t kLine = 64;     // bytes of a cache line

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(Word& word, std::uint32_t old, const timespec* at_most = nullptr) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, old, at_most, nullptr, 0);
}

void futex_wake(Word& word, int threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

// Whether done() came true within `spin`. Yielding lets a thread which shares our core get on.
template <class Done>
bool spin_until(std::chrono::microseconds spin, bool yielding, Done&& done) {
  if (done()) return true;
  if (spin.count() == 0) return false;
  const auto end = Clock::now() + spin;
  do {
    for (int i = 0; i < kSpinsPerYield; ++i) {
      if (done()) return true;
      pause();
    }
    if (yielding) sched_yield();
  } while (Clock::now() < end);
  return done();
}

}  // namespace

int usable_cores() {
  const double cores = std::max(1.0, static_cast<double>(affinity().size()));
  return static_cast<int>(std::clamp(cgroup_cpus(), 1.0, cores));
}

int pool_size(const BackendOptions& options) {
  DSV32_CHECK(options.num_threads >= 0 && options.num_threads <= kMaxThreads, invalid_argument,
              "num_threads is {}, not in 0..{}", options.num_threads, kMaxThreads);
  if (options.executor) return std::clamp(options.executor->concurrency(), 1, kMaxThreads);
  return options.num_threads > 0 ? options.num_threads : std::min(usable_cores(), kMaxThreads);
}

class ThreadPool::Impl {
 public:
  explicit Impl(const BackendOptions& options)
      : shares_(static_cast<std::size_t>(pool_size(options))),
        executor_(options.executor),
        spin_(std::max(options.spin_us, 0)),
        owner_(getpid()),
        size_(static_cast<int>(shares_.size())) {
    if (executor_) return;
    const std::vector<int> cpus = affinity();
    own_cores_ = static_cast<std::size_t>(size_) <= cpus.size();
    may_move_ = own_cores_ && !options.pin_threads;
    const SignalBlock block;
    workers_ = std::make_unique<std::vector<Worker>>(static_cast<std::size_t>(size_ - 1));
    for (std::size_t i = 0; i < workers_->size(); ++i) {
      Worker& worker = (*workers_)[i];
      try {
        worker.thread = std::thread([this, &worker, i] { serve(worker, static_cast<int>(i) + 1); });
      } catch (const std::system_error& error) {
        stop_at(i, error.code().value());
        break;
      } catch (const std::bad_alloc&) {
        stop_at(i, ENOMEM);
        break;
      }
      worker.lendee.start(worker.thread.native_handle());
      if (options.pin_threads && i + 1 < cpus.size())
        pin(worker.thread.native_handle(), cpus[i + 1]);
    }
  }

  ~Impl() {
    if (getpid() != owner_) {  // a forked child has no such threads: let go of their handles
      static_cast<void>(workers_.release());
      return;
    }
    stop_.store(true, std::memory_order_relaxed);
    announce(INT_MAX);
    for (Worker& worker : *workers_) {
      if (worker.thread.joinable()) worker.thread.join();
    }
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int size() const { return size_; }
  Workers workers() const {
    return {.asked = static_cast<int>(shares_.size()), .there = size_, .error = error_number_};
  }

  void run(int count, Range body) {
    DSV32_CHECK(getpid() == owner_, state, "this object was made before fork()");
    if (count <= 1 || size_ == 1) {
      if (count > 0) body(0, count, 0);
      return;
    }
    DSV32_CHECK(body_ == nullptr, internal, "a parallel region inside another");
    const Region region(*this, count, body);
    executor_ ? run_on_executor() : run_on_workers();
    if (failed_.load(std::memory_order_relaxed)) std::rethrow_exception(std::exchange(error_, {}));
    for (int i = 0; i < size_; ++i) {
      DSV32_CHECK(share(i).load(std::memory_order_relaxed) >= first_of(i + 1), invalid_argument,
                  "Executor::run returned before its parts had run");
    }
  }

 private:
  static constexpr std::uint32_t kOpen = 1U << 31;

  struct alignas(kLine) Worker {
    Lendee lendee;
    std::thread thread;
  };

  // The system gives no thread for this worker.
  void stop_at(std::size_t worker, int error) {
    size_ = static_cast<int>(worker) + 1;
    error_number_ = error;
  }

  // Sets the loop for everybody to see, while it lives.
  class Region {
   public:
    Region(Impl& pool, int count, const Range& body) : pool_(pool) {
      pool.body_ = &body;
      pool.count_ = count;
      pool.chunk_ = std::max(1, count / (pool.size_ * kClaimsPerWorker));
      pool.failed_.store(false, std::memory_order_relaxed);
      for (int i = 0; i < pool.size_; ++i)
        pool.share(i).store(pool.first_of(i), std::memory_order_relaxed);
    }
    ~Region() { pool_.body_ = nullptr; }
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

   private:
    Impl& pool_;
  };

  void run_on_executor() {
    executor_->run(size_, [this](int part) {
      const FloatState ours;
      work(part);
    });
  }

  void run_on_workers() {
    caller_cpu_.store(sched_getcpu(), std::memory_order_relaxed);
    gate_.store(kOpen, std::memory_order_release);
    announce(count_ - 1);
    work(0);
    gate_.fetch_and(~kOpen, std::memory_order_acq_rel);  // who is not inside stays outside
    const auto empty = [this] { return gate_.load(std::memory_order_acquire) == 0; };
    // Yields only where one of us may wait for this core: a stranger would keep it for
    // milliseconds.
    const auto spin = [&] { return spin_until(spin_ / 2, !own_cores_, empty); };
    if (spin()) return;
    for (Worker& worker : *workers_) worker.lendee.forget();
    help_workers();
    if (!spin()) sleep_until_empty();
  }

  void sleep_until_empty() {
    constexpr timespec kPatience{0, 100'000};
    caller_sleeps_.store(true);
    for (std::uint32_t inside = gate_.load(); inside != 0; inside = gate_.load()) {
      help_workers();
      futex_wait(gate_, inside, &kPatience);
    }
    caller_sleeps_.store(false, std::memory_order_relaxed);
  }

  void help_workers() {
    if (!may_move_) return;
    const int cpu = sched_getcpu();
    for (Worker& worker : *workers_) worker.lendee.help(cpu);
  }

  // A new region, or the end. Sequentially consistent against a worker that falls asleep: either
  // we see that it sleeps, or it sees the new count.
  void announce(int most) {
    regions_.fetch_add(1);
    if (sleepers_.load() > 0) futex_wake(regions_, most);
  }

  void serve(Worker& self, int worker) {
    const FloatState ours;  // the thread that started this one may have had any
    Elsewhere elsewhere;
    for (std::uint32_t seen = 0;;) {
      const auto news = [&] { return regions_.load(std::memory_order_acquire) != seen; };
      if (!spin_until(spin_, true, news)) {
        sleepers_.fetch_add(1);
        while (regions_.load() == seen) futex_wait(regions_, seen);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = regions_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      const int cpu = caller_cpu_.load(std::memory_order_relaxed);
      if (may_move_ && cpu == sched_getcpu()) elsewhere.leave(cpu);
      if (!enter()) continue;
      self.lendee.begin();
      work(worker);
      self.lendee.end();
      if (gate_.fetch_sub(1) == 1 && caller_sleeps_.load()) futex_wake(gate_, 1);
    }
  }

  bool enter() {
    std::uint32_t gate = gate_.load(std::memory_order_relaxed);
    while ((gate & kOpen) != 0) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel,
                                      std::memory_order_relaxed))
        return true;
    }
    return false;
  }

  // The first item that nobody has taken of a worker's share, and where a share begins.
  std::atomic<std::int64_t>& share(int worker) {
    return shares_[static_cast<std::size_t>(worker)].next;
  }
  std::int64_t first_of(int worker) const { return std::int64_t{count_} * worker / size_; }

  // Takes items until none is left, our own share's first.
  void work(int worker) noexcept {
    for (int i = 0; i < size_; ++i) work_on((worker + i) % size_, worker);
  }

  void work_on(int whose, int worker) noexcept {
    const std::int64_t end = first_of(whose + 1), chunk = chunk_;
    // Many workers look into a share that is done: reading leaves its line where it is.
    while (share(whose).load(std::memory_order_relaxed) < end) {
      const std::int64_t first = share(whose).fetch_add(chunk, std::memory_order_relaxed);
      if (first >= end) return;
      const std::int64_t last = std::min(first + chunk, end);
      try {
        (*body_)(static_cast<int>(first), static_cast<int>(last), worker);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
        for (int i = 0; i < size_; ++i) share(i).store(first_of(i + 1), std::memory_order_relaxed);
      }
    }
  }

  // What workers read to join a region, on one line.
  alignas(kLine) Word regions_{0};  // begun so far; workers sleep on it
  Word gate_{0};                    // kOpen, and the number of workers inside; the caller sleeps
  const Range* body_ = nullptr;
  int count_ = 0;
  int chunk_ = 1;
  std::atomic<int> caller_cpu_{-1};
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  std::atomic<bool> caller_sleeps_{false};

  struct alignas(kLine) Share {
    std::atomic<std::int64_t> next{0};
  };
  std::vector<Share> shares_;

  alignas(kLine) std::atomic<int> sleepers_{0};
  std::exception_ptr error_;
  std::shared_ptr<Executor> executor_;
  std::chrono::microseconds spin_;
  pid_t owner_;
  int size_;
  int error_number_ = 0;    // why there are fewer than asked for
  bool own_cores_ = false;  // whether there is a core for each of us
  bool may_move_ = false;   // whether besides none is pinned
  std::unique_ptr<std::vector<Worker>> workers_ = std::make_unique<std::vector<Worker>>();
};

ThreadPool::ThreadPool(const BackendOptions& options) : impl_(std::make_unique<Impl>(options)) {}
ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const noexcept { return impl_->size(); }
Workers ThreadPool::workers() const noexcept { return impl_->workers(); }

void ThreadPool::run(int count, Range body) { impl_->run(count, body); }

}  // namespace dsv32
