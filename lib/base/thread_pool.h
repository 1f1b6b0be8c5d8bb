// Fork and join over a fixed set of workers. The caller is worker 0.
#ifndef DSV32_LIB_BASE_THREAD_POOL_H_
#define DSV32_LIB_BASE_THREAD_POOL_H_

#include <functional>
#include <memory>

#include "dsv32/backend.h"

namespace dsv32 {

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

  // Calls body(item, worker) for each item in [0, count), once; which worker takes which item is
  // not fixed, so results must not depend on it. Rethrows the first exception when all are done.
  // Items may not wait for each other.
  void parallel_for(int count, const std::function<void(int item, int worker)>& body);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Cores in this process's affinity mask, capped by the cgroup's quota; at least 1.
int usable_cores();

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_THREAD_POOL_H_
