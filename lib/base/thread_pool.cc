// Workers wait on an epoch counter: a short spin that yields, then a futex (std::atomic::wait).
#include "lib/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSpinsPerYield = 32;

// One parallel region: items are handed out by a counter.
struct Region {
  const std::function<void(int, int)>* body = nullptr;
  int count = 0;
  std::atomic<int> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  void work(int worker) noexcept {
    for (int item = next.fetch_add(1); item < count; item = next.fetch_add(1)) {
      try {
        (*body)(item, worker);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
};

// Waits until `value` is no longer `old`.
template <class T>
void wait_change(const std::atomic<T>& value, T old, std::chrono::microseconds spin) {
  const auto end = std::chrono::steady_clock::now() + spin;
  do {
    for (int i = 0; i < kSpinsPerYield; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
    }
    sched_yield();
  } while (std::chrono::steady_clock::now() < end);
  value.wait(old, std::memory_order_acquire);
}

// Blocks every signal for this thread and those it starts, while it lives.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t before_{};
};

// Whole cores of the cgroup's quota, or `otherwise`.
int cgroup_cores(int otherwise) {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return otherwise;
  double cores = 0;
  for (const char c : quota) {
    if (c < '0' || c > '9') return otherwise;
    cores = cores * 10 + (c - '0');
  }
  return std::clamp(static_cast<int>(cores / period), 1, otherwise);
}

void pin(std::thread& thread, int index) {
  cpu_set_t mask, one;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask) || index-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
    return;
  }
}

}  // namespace

int usable_cores() {
  cpu_set_t mask;
  const int cores = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
  return cgroup_cores(std::max(cores, 1));
}

class ThreadPool::Impl {
 public:
  explicit Impl(const BackendOptions& options)
      : executor_(options.executor), spin_(std::max(options.spin_us, 0)), owner_(getpid()) {
    DSV32_CHECK(options.num_threads >= 0 && options.num_threads <= kMaxThreads, invalid_argument,
                "num_threads is {}, not in 0..{}", options.num_threads, kMaxThreads);
    if (executor_) {
      size_ = std::clamp(executor_->concurrency(), 1, kMaxThreads);
      return;
    }
    size_ = options.num_threads > 0 ? options.num_threads : usable_cores();
    const SignalBlock block;
    for (int worker = 1; worker < size_; ++worker) {
      try {
        threads_->emplace_back([this, worker] { serve(worker); });
      } catch (const std::exception&) {  // system_error or bad_alloc
        size_ = worker;                  // the system gives no more
        break;
      }
      if (options.pin_threads) pin(threads_->back(), worker);
    }
  }

  ~Impl() {
    if (getpid() != owner_) {  // a forked child has no such threads: let go of their handles
      static_cast<void>(threads_.release());
      return;
    }
    stop_.store(true);
    epoch_.fetch_add(1);
    epoch_.notify_all();
    for (std::thread& thread : *threads_) thread.join();
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int size() const { return size_; }

  void run(int count, const std::function<void(int, int)>& body) {
    DSV32_CHECK(getpid() == owner_, state, "this object was made before fork()");
    if (count <= 1 || size_ == 1) {
      for (int item = 0; item < count; ++item) body(item, 0);
      return;
    }
    Region region;
    region.body = &body;
    region.count = count;
    executor_ ? run_on_executor(region) : run_on_workers(region);
    if (region.error) std::rethrow_exception(region.error);
  }

 private:
  void run_on_executor(Region& region) {
    executor_->run(size_, [&region](int part) { region.work(part); });
  }

  void run_on_workers(Region& region) {
    region_ = &region;
    busy_.store(size_ - 1, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    region.work(0);
    for (int left = busy_.load(std::memory_order_acquire); left != 0;
         left = busy_.load(std::memory_order_acquire)) {
      wait_change(busy_, left, spin_);
    }
  }

  void serve(int worker) {
    for (unsigned seen = 0;;) {
      wait_change(epoch_, seen, spin_);
      seen = epoch_.load(std::memory_order_acquire);
      if (stop_.load()) return;
      region_->work(worker);
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
    }
  }

  std::shared_ptr<Executor> executor_;
  std::chrono::microseconds spin_;
  pid_t owner_;
  int size_ = 1;
  Region* region_ = nullptr;
  std::atomic<unsigned> epoch_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
  std::unique_ptr<std::vector<std::thread>> threads_ = std::make_unique<std::vector<std::thread>>();
};

ThreadPool::ThreadPool(const BackendOptions& options) : impl_(std::make_unique<Impl>(options)) {}
ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const noexcept { return impl_->size(); }

void ThreadPool::parallel_for(int count, const std::function<void(int, int)>& body) {
  impl_->run(count, body);
}

}  // namespace dsv32
