// Executors whose threads serve requests: those that run a model's parts also wait for its passes.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/sanitized.h"
#include "tests/waiting/passes.h"
#include "tests/waiting/serving_pool.h"

namespace dsv32::test {
namespace {

constexpr int kRuns = kSanitized ? 20 : 100;

// What each request must answer, from a model with one thread of its own.
struct Answers {
  Tokens prompt = some_tokens(9, 5);
  Bits logits;
  Tokens generated;

  Answers() {
    const Model model = load_hooked();
    Session session(model);
    logits = copy(session.append(prompt));
    generated = session.generate(prompt, greedy()).tokens;
  }
  static GenerateOptions greedy() {
    GenerateOptions options;
    options.sampling = SamplingParams{.temperature = 0.0f};
    options.max_tokens = 2;
    return options;
  }
};

// How requests went.
struct Outcome {
  std::atomic<int> right{0}, refused{0}, wrong{0};
  int all() const { return right + refused + wrong; }
};

// Append, or generate on every fourth one, on a session of the request's own.
void ask(const Model& model, const Answers& answers, int number, Outcome& outcome) {
  try {
    Session session(model);
    bool right = false;
    if (number % 4 == 3) {
      right = session.generate(answers.prompt, Answers::greedy()).tokens == answers.generated;
    } else {
      right = equal(answers.logits, session.append(answers.prompt));
    }
    ++(right ? outcome.right : outcome.wrong);
  } catch (const Error& error) {
    ++(error.code() == ErrorCode::state ? outcome.refused : outcome.wrong);
  } catch (...) {
    ++outcome.wrong;
  }
}

// Lets a number of requests begin at the same moment: when each has a thread of its own.
class Together {
 public:
  explicit Together(int count) : left_(count) {}
  void wait() {
    std::unique_lock lock(mutex_);
    if (--left_ == 0) news_.notify_all();
    news_.wait(lock, [&] { return left_ <= 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable news_;
  int left_;
};

// A request on every thread of the pool, all of them at once.
void ask_on_all(ServingPool& pool, const Model& model, const Answers& answers, int run,
                Outcome& outcome) {
  Together together(pool.concurrency());
  for (int i = 0; i < pool.concurrency(); ++i) {
    pool.post([&, i] {
      together.wait();
      ask(model, answers, run + i, outcome);
    });
  }
  pool.wait();
}

template <class Pool>
void check_pool(int threads, bool helps, const Answers& answers, Outcome& outcome) {
  const auto pool = std::make_shared<Pool>(threads, helps);
  const Model model = load_hooked(pool);
  for (int run = 0; run < kRuns; ++run) {
    const Watchdog watchdog;
    ask_on_all(*pool, model, answers, run, outcome);
  }
  // It serves on: one after another nobody has to wait.
  Outcome after;
  for (int i = 0; i < 8; ++i) {
    const Watchdog watchdog;
    pool->post([&, i] { ask(model, answers, i, after); });
    pool->wait();
  }
  CHECK(after.right == 8);
  CHECK(model.free_cache_tokens() == 4096);
}

TEST_CASE("reports_D3 requests on an executor's own threads, with run_one") {
  const Answers answers;
  for (const int threads : {2, 4}) {
    for (const bool helps : {false, true}) {
      INFO(threads << " threads, " << (helps ? "the caller helps" : "the caller waits"));
      Outcome outcome;
      check_pool<HelpingPool>(threads, helps, answers, outcome);
      CHECK(outcome.right == kRuns * threads);
    }
  }
}

TEST_CASE("reports_D3 requests on an executor's own threads, without run_one") {
  const Answers answers;
  for (const int threads : {2, 4}) {
    for (const bool helps : {false, true}) {
      INFO(threads << " threads, " << (helps ? "the caller helps" : "the caller waits"));
      Outcome outcome;
      check_pool<ServingPool>(threads, helps, answers, outcome);
      CHECK(outcome.all() == kRuns * threads);
      CHECK(outcome.wrong == 0);
      CHECK(outcome.right >= kRuns);  // who has the turn is always served
      if (!helps) CHECK(outcome.refused > 0);
    }
  }
}

// No thread has run a part yet, so nothing is known about any of them.
template <class Pool>
void check_first_requests(int runs, int threads, bool helps, const Answers& answers,
                          Outcome& outcome) {
  for (int run = 0; run < runs; ++run) {
    const Watchdog watchdog;
    const auto pool = std::make_shared<Pool>(threads, helps);
    const Model model = load_hooked(pool);
    ask_on_all(*pool, model, answers, 0, outcome);
    pool->post([&] { ask(model, answers, 0, outcome); });
    pool->wait();
  }
}

TEST_CASE("reports_D3 an executor's threads all ask before any part has run") {
  constexpr int kFirst = kSanitized ? 5 : 20;
  const Answers answers;
  for (const int threads : {2, 4}) {
    for (const bool helps : {false, true}) {
      INFO(threads << " threads, " << (helps ? "the caller helps" : "the caller waits"));
      Outcome with, without;
      check_first_requests<HelpingPool>(kFirst, threads, helps, answers, with);
      CHECK(with.right == kFirst * (threads + 1));
      check_first_requests<ServingPool>(2, threads, helps, answers, without);
      CHECK(without.all() == 2 * (threads + 1));
      CHECK(without.wrong == 0);
      CHECK(without.right >= 4);
    }
  }
}

TEST_CASE("reports_D3 a thread that is not the executor's waits as ever") {
  const Answers answers;
  for (const bool helps : {false, true}) {
    const auto pool = std::make_shared<ServingPool>(2, helps);
    const Model model = load_hooked(pool);
    // This thread asks until all of the pool's are known: from now on those are refused at once.
    for (int i = 0; i < 1000 && pool->known_threads() < 2 + (helps ? 1u : 0u); ++i) {
      Outcome first;
      ask(model, answers, 0, first);
    }
    Outcome inside, outside;
    std::atomic<int> done{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 10; ++i) ask(model, answers, 0, outside);
        ++done;
      });
    }
    int runs = 0;
    for (; runs < 1 || done < 2; ++runs) {
      const Watchdog watchdog;
      ask_on_all(*pool, model, answers, runs, inside);
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(inside.all() == 2 * runs);
    CHECK(inside.wrong == 0);
    CHECK(outside.right == 20);
  }
}

TEST_CASE("an executor at the place of one that is gone is another one") {
  // Its parts run on a thread that is not its own.
  class Elsewhere final : public Executor {
   public:
    explicit Elsewhere(ServingPool& pool) : pool_(pool) {}
    int concurrency() const noexcept override { return 2; }
    void run(int count, const std::function<void(int)>& part) override { pool_.run(count, part); }

   private:
    ServingPool& pool_;
  };
  class Here final : public Executor {
   public:
    int concurrency() const noexcept override { return 2; }
    void run(int count, const std::function<void(int)>& part) override {
      for (int i = 0; i < count; ++i) part(i);
    }
  };
  const Watchdog watchdog;
  const Answers answers;
  ServingPool thread(1, false);
  alignas(std::max_align_t) std::byte place[std::max(sizeof(Elsewhere), sizeof(Here))];
  const auto destroy = [](auto* executor) { std::destroy_at(executor); };
  Outcome outcome;
  {
    const std::shared_ptr<Executor> first(new (place) Elsewhere(thread), destroy);
    ask(load_hooked(first), answers, 0, outcome);
  }
  CHECK(outcome.right == 1);
  CHECK(thread.known_threads() == 1);
  const std::shared_ptr<Executor> second(new (place) Here, destroy);
  const Model model = load_hooked(second);
  Session runs(model);
  HeldPass pass(runs, answers.prompt, 50ms);
  thread.post([&] { ask(model, answers, 0, outcome); });
  thread.wait();
  CHECK(outcome.right == 2);
}

// Sleeps before it begins any part of the first region, as a pool that is busy elsewhere would.
template <bool kCanHelp>
class Late final : public Executor {
 public:
  int concurrency() const noexcept override { return 2; }
  void run(int count, const std::function<void(int)>& part) override {
    if (armed.exchange(false)) {
      began = true;
      std::this_thread::sleep_for(1500ms);
    }
    for (int i = 0; i < count; ++i) part(i);
  }
  bool run_one() override { return kCanHelp ? false : Executor::run_one(); }
  std::atomic<bool> armed{false}, began{false};
};

template <bool kCanHelp>
void check_late(const Answers& answers, Outcome& outcome, double& waited) {
  const Watchdog watchdog;
  const auto executor = std::make_shared<Late<kCanHelp>>();
  const Model model = load_hooked(executor);
  executor->armed = true;
  Outcome first;
  std::thread runs([&] { ask(model, answers, 0, first); });
  while (!executor->began) std::this_thread::sleep_for(1ms);
  const Clock::time_point begin = Clock::now();
  ask(model, answers, 0, outcome);
  waited = Milliseconds(Clock::now() - begin).count();
  runs.join();
  CHECK(first.right == 1);
}

TEST_CASE("reports_D3 parts that nobody begins for a second refuse who cannot run them") {
  const Answers answers;
  Outcome with, without;
  double waited_with = 0.0, waited_without = 0.0;
  check_late<true>(answers, with, waited_with);
  check_late<false>(answers, without, waited_without);
  CHECK(with.right == 1);
  CHECK(waited_with > 1400.0);
  CHECK(without.refused == 1);
  CHECK(waited_without > 900.0);
  CHECK(waited_without < 1450.0);
}

}  // namespace
}  // namespace dsv32::test
