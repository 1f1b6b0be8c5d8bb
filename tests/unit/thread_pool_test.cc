// The pool: every item once, whoever runs it; exceptions, executors, fork(), placement, idleness.
#include "lib/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <numeric>
#include <sched.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "lib/base/placement.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using namespace std::chrono_literals;

void expect_each_once(ThreadPool& pool, int count) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
  std::atomic<bool> strange{false};
  pool.parallel_for(count, [&](int item, int worker) {
    ++seen[static_cast<std::size_t>(item)];
    if (worker < 0 || worker >= pool.size()) strange = true;
  });
  CHECK_FALSE(strange);
  CHECK(std::ranges::all_of(seen, [](const auto& times) { return times == 1; }));
}

// The exit status of `body` in a child process; 99 if it threw.
template <class Body>
int in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
      status = 99;
    }
    _exit(status);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Runs its parts on `threads` threads of its own, `concurrency` says what it likes.
class TestExecutor final : public Executor {
 public:
  TestExecutor(int concurrency, int threads) : concurrency_(concurrency), threads_(threads) {}
  int concurrency() const noexcept override { return concurrency_; }
  void run(int count, const std::function<void(int)>& part) override {
    ++runs;
    std::vector<std::thread> threads;
    for (int t = 0; t < threads_; ++t) {
      threads.emplace_back([&, t] {
        for (int i = count - 1 - t; i >= 0; i -= threads_) part(i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  int runs = 0;

 private:
  int concurrency_, threads_;
};

TEST_CASE("every item runs once, for any count and any number of threads") {
  for (const int threads : {1, 2, 3, 8, 40}) {
    for (const int spin : {0, 20, 500}) {
      ThreadPool pool({.num_threads = threads, .spin_us = spin});
      CHECK(pool.size() == threads);
      for (const int count : {-3, 0, 1, 2, 3, 7, 64, 1000, 20000}) {
        if (count < 0)
          pool.parallel_for(count, [](int, int) { FAIL("an item of none"); });
        else
          expect_each_once(pool, count);
      }
    }
  }
}

TEST_CASE("regions follow each other without losing a worker or an item") {
  for (const int spin : {0, 20}) {  // 0: every region is a sleep and a wake-up
    ThreadPool pool({.num_threads = 3, .spin_us = spin});
    std::atomic<std::int64_t> sum{0};
    for (int round = 0; round < 3000; ++round) {
      pool.parallel_for(5, [&](int item, int) { sum += item; });
      if (round % 500 == 0) std::this_thread::sleep_for(1ms);  // now they sleep
    }
    CHECK(sum == 3000 * 10);
  }
}

TEST_CASE("more than one thread takes part") {
  ThreadPool pool({.num_threads = 2});
  std::atomic<int> others{0};
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (others == 0 && std::chrono::steady_clock::now() < end) {
    pool.parallel_for(8, [&](int, int worker) {
      others += worker;
      std::this_thread::sleep_for(1ms);
    });
  }
  CHECK(others > 0);
}

TEST_CASE("an exception of a body arrives, and the pool goes on") {
  for (const int threads : {1, 2, 8}) {
    ThreadPool pool({.num_threads = threads});
    for (int round = 0; round < 200; ++round) {
      std::atomic<int> ran{0};
      CHECK_THROWS_AS(pool.parallel_for(100,
                                        [&](int item, int) {
                                          ++ran;
                                          if (item % 3 == 1) throw std::runtime_error("mine");
                                        }),
                      std::runtime_error);
      // One thread stops at item 1. Several begin apart: a share whose first item throws may come
      // before all others.
      if (threads == 1) CHECK(ran == 2);
      CHECK(ran >= 1);
      CHECK(ran <= 100);
    }
    expect_each_once(pool, 100);
  }
}

TEST_CASE("a region inside another is refused") {
  ThreadPool pool({.num_threads = 2});
  check_error(ErrorCode::internal, "inside another", [&] {
    pool.parallel_for(4, [&](int, int) { pool.parallel_for(4, [](int, int) {}); });
  });
  expect_each_once(pool, 10);
}

TEST_CASE("numbers of threads out of range") {
  for (const int threads : {-1, 1025, 1 << 30}) {
    check_error(ErrorCode::invalid_argument, std::to_string(threads).c_str(),
                [&] { ThreadPool pool({.num_threads = threads}); });
  }
}

TEST_CASE("an executor's threads are used, however many there are") {
  for (const int threads : {1, 2, 5}) {
    for (const int concurrency : {-1, 0, 1, 2, 4}) {
      const auto executor = std::make_shared<TestExecutor>(concurrency, threads);
      ThreadPool pool({.num_threads = 16, .executor = executor});  // asked for more than it has
      CHECK(pool.size() == std::max(concurrency, 1));
      expect_each_once(pool, 100);
      CHECK((executor->runs > 0) == (concurrency > 1));
      CHECK_THROWS_AS(pool.parallel_for(9, [](int, int) { throw std::logic_error("mine"); }),
                      std::logic_error);
      expect_each_once(pool, 3);
    }
  }
}

TEST_CASE("a worker takes its own share in order, then the others'") {
  ThreadPool pool({.executor = std::make_shared<TestExecutor>(3, 1)});  // worker 2 runs first
  for (const int count : {3, 4, 11, 300}) {
    std::vector<int> order;
    pool.parallel_for(count, [&](int item, int worker) {
      CHECK(worker == 2);
      order.push_back(item);
    });
    std::vector<int> want(static_cast<std::size_t>(count));
    std::iota(want.begin(), want.end(), 0);
    std::rotate(want.begin(), want.begin() + count * 2 / 3, want.end());
    CHECK(order == want);
  }
}

TEST_CASE("an executor that forgets its parts is found out") {
  class Lazy final : public Executor {
    int concurrency() const noexcept override { return 2; }
    void run(int, const std::function<void(int)>&) override {}
  };
  class Broken final : public Executor {
    int concurrency() const noexcept override { return 2; }
    void run(int, const std::function<void(int)>&) override { throw std::runtime_error("mine"); }
  };
  ThreadPool lazy({.executor = std::make_shared<Lazy>()});
  check_error(ErrorCode::invalid_argument, "Executor::run",
              [&] { lazy.parallel_for(4, [](int, int) {}); });
  ThreadPool broken({.executor = std::make_shared<Broken>()});
  for (int i = 0; i < 2; ++i)
    CHECK_THROWS_AS(broken.parallel_for(4, [](int, int) {}), std::runtime_error);
}

TEST_CASE("a child of fork() may destroy a pool, and nothing else") {
  if (kSanitized) return;
  auto pool = std::make_unique<ThreadPool>(BackendOptions{.num_threads = 3});
  expect_each_once(*pool, 10);
  const int status = in_child([&] {
    int found = 0;
    try {
      pool->parallel_for(4, [](int, int) {});
    } catch (const Error& error) {
      found = error.code() == ErrorCode::state ? 1 : 0;
    }
    pool.reset();
    return found;
  });
  CHECK(status == 1);
  expect_each_once(*pool, 10);  // the parent's goes on
}

TEST_CASE("idle workers take no time") {
  ThreadPool pool({.num_threads = 4});
  expect_each_once(pool, 100);
  std::this_thread::sleep_for(20ms);  // they fall asleep
  const double before = cpu_seconds();
  std::this_thread::sleep_for(300ms);
  CHECK(cpu_seconds() - before < 0.005);
}

TEST_CASE("the default number of threads is that of the affinity mask") {
  CHECK(usable_cores() >= 1);
  CHECK(usable_cores() <= static_cast<int>(affinity().size()));
  const int status = in_child([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(affinity().front()), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) return 2;
    if (usable_cores() != 1) return 3;
    ThreadPool pool({});
    std::atomic<int> sum{0};
    ThreadPool crowded({.num_threads = 4});  // more threads than cores are no error
    crowded.parallel_for(10, [&](int item, int) { sum += item; });
    return pool.size() == 1 && sum == 45 ? 0 : 4;
  });
  CHECK(status == 0);
}

TEST_CASE("a pool leaves the mask of its caller alone, pinned or not") {
  const std::vector<int> before = affinity();
  for (const bool pinned : {false, true}) {
    ThreadPool pool({.num_threads = 2, .pin_threads = pinned});
    for (int i = 0; i < 100; ++i) expect_each_once(pool, 8);
  }
  CHECK(affinity() == before);
}

TEST_CASE("too few threads: the pool takes those that it gets") {
  if (kSanitized) return;
  const int status = in_child([] {
    const rlimit little{600'000'000, 600'000'000};  // some stacks of 8 MB fit
    if (setrlimit(RLIMIT_AS, &little) != 0) return 2;
    ThreadPool pool({.num_threads = 1000});
    std::atomic<int> sum{0};
    pool.parallel_for(100, [&](int item, int) { sum += item; });
    return pool.size() > 1 && pool.size() < 1000 && sum == 4950 ? 0 : 3;
  });
  CHECK(status == 0);
}

TEST_CASE("a worker whose core another process has taken is helped to the caller's") {
  const std::vector<int> cpus = affinity();
  if (cpus.size() < 2 || kSanitized) return;
  Lendee lendee;
  std::atomic<int> step{0};
  std::atomic<bool> again{false};
  std::thread thread([&] {
    lendee.begin();
    step = 1;
    while (step != 2) std::this_thread::sleep_for(1ms);  // as if it could not run
    again = affinity().size() == 1;
    lendee.end();
    step = affinity() == cpus ? 3 : 4;
  });
  lendee.start(thread.native_handle());
  while (step != 1) std::this_thread::sleep_for(1ms);
  bool moved = false;
  for (int i = 0; i < 2000 && !moved; ++i) {
    lendee.help(cpus.front());
    cpu_set_t mask;
    moved = pthread_getaffinity_np(thread.native_handle(), sizeof mask, &mask) == 0 &&
            CPU_COUNT(&mask) == 1;
  }
  step = 2;
  thread.join();
  CHECK(moved);
  CHECK(again);
  CHECK(step == 3);  // the thread has its own mask back
}

}  // namespace
}  // namespace dsv32::test
