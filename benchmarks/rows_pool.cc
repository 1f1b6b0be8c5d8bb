// The thread pool: what a parallel region costs, and what happens when a core is taken away.
#include <atomic>
#include <pthread.h>
#include <sched.h>
#include <thread>

#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr int kRegions = 2000;

double region_seconds(Bench& bench, ThreadPool& pool) {
  const std::function<void(int, int)> nothing = [](int, int) {};
  return bench.best([&] {
    for (int i = 0; i < kRegions; ++i) pool.parallel_for(pool.size(), nothing);
  }) / kRegions;
}

Result fork_join(Bench& bench) {
  ThreadPool& pool = bench.pool(2);
  const double time = region_seconds(bench, pool);
  std::atomic<int> counter{0};
  const double scalar = bench.best([&] {
    for (int i = 0; i < kRegions; ++i) counter.fetch_add(1);
  }) / kRegions;
  return {.value = 1e6 * time,
          .note = formatted("an atomic add beside it: {:.1f} ns", 1e9 * scalar)};
}

// Keeps the last core of this process's mask busy while it lives.
class Thief {
 public:
  Thief() : thread_([this] { spin(); }) {}
  ~Thief() {
    stop_.store(true);
    thread_.join();
  }
  Thief(const Thief&) = delete;
  Thief& operator=(const Thief&) = delete;

 private:
  void spin() {
    cpu_set_t mask, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &mask)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
      }
      pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    }
    while (!stop_.load(std::memory_order_relaxed)) {
    }
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Like a decode step: regions of 32 items, each about 20 us of compute.
double step_seconds(Bench& bench, ThreadPool& pool) {
  constexpr int kSteps = 50;
  const std::function<void(int, int)> item = [](int, int) {
    volatile float x = 1.0f;
    for (int i = 0; i < 4000; ++i) x = x * 0.999f;
  };
  const int steps = bench.pick(kSteps, 2);
  std::vector<double> times;
  const double start = now();
  do {
    const double begin = now();
    for (int i = 0; i < steps; ++i) pool.parallel_for(32, item);
    times.push_back((now() - begin) / steps);
  } while (now() - start < bench.seconds() / 2);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

Result stolen_core(Bench& bench) {
  ThreadPool& pool = bench.pool(2);
  const double alone = step_seconds(bench, pool);
  double robbed = 0;
  {
    const Thief thief;
    robbed = step_seconds(bench, pool);
  }
  return {
      .value = robbed / alone,
      .note = formatted("{:.0f} us alone, {:.0f} us with it, medians", 1e6 * alone, 1e6 * robbed)};
}

const Register rows([](std::vector<Row>& out) {
  out.push_back({.name = "pool_fork_join",
                 .shape = "an empty region, 2 threads",
                 .unit = "us",
                 .goal = 1.5,
                 .higher_is_better = false,
                 .basis = "two cache lines across cores and back, and an uncontended counter",
                 .run = fork_join});
  out.push_back({.name = "pool_stolen_core",
                 .shape = "regions of 32 x 20 us on 2 threads, another thread spinning on one core",
                 .unit = "times slower",
                 .goal = 2.5,
                 .higher_is_better = false,
                 .basis = "1.33 for a fair half core; llama.cpp's spin barriers: 50",
                 .run = stolen_core});
});

}  // namespace
}  // namespace dsv32::bench
