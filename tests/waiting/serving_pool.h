// An application's thread pool that serves requests and is the Executor of its models, too.
#ifndef DSV32_TESTS_WAITING_SERVING_POOL_H_
#define DSV32_TESTS_WAITING_SERVING_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "dsv32/backend.h"

namespace dsv32::test {

class ServingPool : public Executor {
 public:
  // `helps`: who calls run() runs parts, too, instead of only waiting for them.
  ServingPool(int threads, bool helps) : size_(threads), helps_(helps) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~ServingPool() override {
    {
      const std::lock_guard guard(mutex_);
      stop_ = true;
    }
    news_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int concurrency() const noexcept override { return size_; }

  void run(int count, const std::function<void(int)>& part) override {
    Region region{part, count};
    std::unique_lock lock(mutex_);
    for (int i = 0; i < count; ++i) parts_.push_back({&region, i});
    news_.notify_all();
    while (helps_ && run_part(lock, &region)) {
    }
    news_.wait(lock, [&] { return region.left == 0; });
  }

  // A request, to any thread of the pool.
  void post(std::function<void()> request) {
    {
      const std::lock_guard guard(mutex_);
      requests_.push_back(std::move(request));
      ++open_;
    }
    news_.notify_all();
  }
  // Until all requests have been served.
  void wait() {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return open_ == 0; });
  }
  // Threads of the pool that have run a part.
  std::size_t known_threads() {
    const std::lock_guard guard(mutex_);
    return known_.size();
  }

 protected:
  bool run_any_part() {
    std::unique_lock lock(mutex_);
    return run_part(lock, nullptr);
  }

 private:
  struct Region {
    const std::function<void(int)>& part;
    int left;
  };
  struct Part {
    Region* region;
    int number;
  };

  // One part, of `region` or any.
  bool run_part(std::unique_lock<std::mutex>& lock, const Region* region) {
    for (auto it = parts_.begin(); it != parts_.end(); ++it) {
      if (region != nullptr && it->region != region) continue;
      const Part part = *it;
      parts_.erase(it);
      known_.insert(std::this_thread::get_id());
      lock.unlock();
      part.region->part(part.number);
      lock.lock();
      if (--part.region->left == 0) news_.notify_all();
      return true;
    }
    return false;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      news_.wait(lock, [&] { return stop_ || !parts_.empty() || !requests_.empty(); });
      if (run_part(lock, nullptr)) continue;
      if (requests_.empty()) {
        if (stop_) return;
        continue;
      }
      const std::function<void()> request = std::move(requests_.front());
      requests_.pop_front();
      lock.unlock();
      request();
      lock.lock();
      if (--open_ == 0) news_.notify_all();
    }
  }

  const int size_;
  const bool helps_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Part> parts_;
  std::deque<std::function<void()>> requests_;
  int open_ = 0;
  bool stop_ = false;
  std::set<std::thread::id> known_;
  std::vector<std::thread> threads_;
};

// As the header asks of such a pool.
class HelpingPool final : public ServingPool {
 public:
  using ServingPool::ServingPool;
  bool run_one() override { return run_any_part(); }
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_WAITING_SERVING_POOL_H_
