// Fork and join over a fixed set of workers. The caller is worker 0.
#ifndef DSV32_LIB_BASE_THREAD_POOL_H_
#define DSV32_LIB_BASE_THREAD_POOL_H_

#include <memory>

#include "dsv32/backend.h"

#include "lib/base/function_ref.h"

namespace dsv32 {

// Threads that a pool was asked for and has, its caller among them, and why not all: an errno.
struct Workers {
  int asked = 1, there = 1;
  int error = 0;
};

// One caller at a time. Idle workers spin for BackendOptions::spin_us, then sleep; they block all
// asynchronous signals. With an Executor there are no workers of ours.
class ThreadPool {
 public:
  // Throws invalid_argument for a number of threads below 0 or above 1,024. If the system refuses
  // threads, there are fewer.
  explicit ThreadPool(const BackendOptions& options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept;
  Workers workers() const noexcept;

  // Calls body(item, worker) for each item in [0, count), once. A worker takes neighbours one after
  // another where it can; which ones is not fixed, so results must not depend on it. Items may not
  // wait for each other. If a body throws, items that nobody began are skipped, and the first
  // exception is rethrown when the others are done. Throws state in a child of fork(). Does not
  // allocate.
  template <class Body>
  void parallel_for(int count, Body&& body) {
    run(count, [&body](int first, int last, int worker) {
      for (int item = first; item < last; ++item) body(item, worker);
    });
  }

 private:
  class Impl;
  using Range = FunctionRef<void(int first, int last, int worker)>;
  void run(int count, Range body);

  std::unique_ptr<Impl> impl_;
};

// Workers of such a pool, if the system refuses none; throws as its constructor.
int pool_size(const BackendOptions& options);

// Cores in this process's affinity mask, capped by the cgroup's quota; at least 1.
int usable_cores();

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_THREAD_POOL_H_
