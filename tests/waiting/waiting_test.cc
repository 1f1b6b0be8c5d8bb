// While one session's pass sleeps, others wait only where they must, no longer than they want, and
// in the order in which they came.
#include <algorithm>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/waiting/passes.h"

namespace dsv32::test {
namespace {

constexpr int kRounds = 200;
constexpr double kWorst = 50.0;  // ms, of 99 in 100 calls, on a busy machine

// With threads of its own a model lets others wait; with an Executor they look for parts to run.
std::vector<std::shared_ptr<Executor>> executors() {
  return {nullptr, std::make_shared<OneByOne>()};
}

void check_fast(const char* what, const Times& times, double median) {
  INFO(what << ": median " << times.median() << " ms, 99 % " << times.p99() << " ms");
  CHECK(times.median() <= median);
  CHECK(times.p99() <= kWorst);
}

void check_cancelled_waits(const Model& model) {
  const Tokens text = some_tokens(70, 1);
  Session runs(model), waits(model);
  waits.append(text);
  const Shown before(waits);
  std::size_t wrong = 0;
  Times at_once, later;
  for (int i = 0; i < kRounds; ++i) {
    const HeldPass pass(runs, std::span(text).first(1), 50ms);
    std::stop_source asked;
    asked.request_stop();
    at_once.measure([&] {
      wrong += code_of([&] { waits.append(text, asked.get_token()); }) != ErrorCode::cancelled;
    });
    std::stop_source stop;
    Clock::time_point end;
    Sleeper waiter([&] {
      wrong += code_of([&] { waits.append(text, stop.get_token()); }) != ErrorCode::cancelled;
      end = Clock::now();
    });
    std::this_thread::sleep_for(2ms);
    const Clock::time_point begin = Clock::now();
    stop.request_stop();
    waiter.join();
    later.add(std::max(0.0, Milliseconds(end - begin).count()));
    if (i == 10) REQUIRE(at_once.median() < 25.0);  // what waits for each pass would take long
  }
  runs.truncate(0);
  CHECK(wrong == 0);
  check_fast("a stopped token", at_once, 5.0);
  check_fast("a token that is stopped", later, 5.0);
  CHECK(Shown(waits) == before);
}

TEST_CASE("reports_D3 who waits for a pass can be cancelled, and is as before") {
  const Watchdog watchdog(120s);
  for (const auto& executor : executors()) {
    INFO((executor ? "executor" : "own threads"));
    check_cancelled_waits(load_hooked(executor));
  }
}

// What must not wait for a pass, each on sessions that are idle.
class Others {
 public:
  explicit Others(const Model& model) : model_(model), session_(model) {
    session_.append(some_tokens(100, 2));
  }

  void measure() {
    std::optional<Session> copy;
    times_[0].measure([&] { copy.emplace(session_.fork()); });
    times_[1].measure([&] { copy->truncate(30); });
    times_[2].measure([&] { copy.reset(); });
    times_[3].measure([&] { static_cast<void>(model_.free_cache_tokens()); });
    times_[4].measure([&] { static_cast<void>(session_.last_reuse()); });
    times_[5].measure([&] { static_cast<void>(session_.sparse_stats()); });
    times_[6].measure([&] { copy.emplace(model_); });
  }
  void check() const {
    constexpr const char* kNames[] = {"fork",       "truncate",     "destroy", "free_cache_tokens",
                                      "last_reuse", "sparse_stats", "make"};
    for (std::size_t i = 0; i < times_.size(); ++i) check_fast(kNames[i], times_[i], 1.0);
  }
  double slowest_median() const {
    double slowest = 0.0;
    for (const Times& times : times_) slowest = std::max(slowest, times.median());
    return slowest;
  }

 private:
  const Model& model_;
  Session session_;
  std::vector<Times> times_{7};
};

TEST_CASE("reports_D3 forks, destructors and getters wait for no pass") {
  const Watchdog watchdog(120s);
  const Tokens text = some_tokens(1, 1);
  for (const auto& executor : executors()) {
    INFO((executor ? "executor" : "own threads"));
    const Model model = load_hooked(executor);
    Session runs(model);
    Others others(model);
    for (int i = 0; i < kRounds; ++i) {
      const HeldPass pass(runs, text, 50ms);
      others.measure();
      runs.last_reuse();
      runs.sparse_stats();
      if (i == 10) REQUIRE(others.slowest_median() < 25.0);
    }
    others.check();
  }
}

TEST_CASE("reports_D3 a pass of 1.5 s delays who must wait for it, and nobody else") {
  // As an application's that knows nothing of run_one().
  class Plain final : public Executor {
   public:
    int concurrency() const noexcept override { return 2; }
    void run(int count, const std::function<void(int)>& part) override {
      for (int i = 0; i < count; ++i) part(i);
    }
  };
  const Watchdog watchdog(60s);
  const Tokens text = some_tokens(70, 1);
  std::vector<std::shared_ptr<Executor>> all = executors();
  all.push_back(std::make_shared<Plain>());
  const Bits want = [&] {
    const Model model = load_hooked();
    Session session(model);
    return copy(session.append(text));
  }();
  for (const auto& executor : all) {
    const Model model = load_hooked(executor);
    Session runs(model), waits(model);
    Others others(model);
    const Clock::time_point begin = Clock::now();
    const HeldPass pass(runs, text, 1500ms);
    double waited = 0.0;
    bool right = false;
    Sleeper waiter([&] {
      right = copy(waits.append(text)) == want;
      waited = Milliseconds(Clock::now() - begin).count();
    });
    for (int i = 0; i < 20; ++i) others.measure();
    CHECK(others.slowest_median() <= 1.0);
    CHECK(pass.holds());
    CHECK(!waiter.ended());
    waiter.join();
    CHECK(right);
    CHECK(waited >= 1490.0);
  }
}

// Eight sessions that came one after another while a pass slept; `cancelled` of them give up. Who
// computes when, by number.
std::vector<int> order_of_eight(const Model& model, const std::vector<int>& cancelled) {
  const Tokens text = some_tokens(8, 3);
  Session runs(model);
  std::vector<int> order;
  std::optional<HeldPass> pass(std::in_place, runs, text, 60s);
  std::list<Session> sessions;
  std::vector<std::stop_source> stops(8);
  std::list<Sleeper> waiters;
  std::vector<std::optional<ErrorCode>> codes(8);
  std::vector<std::size_t> lengths(8);
  for (std::size_t i = 0; i < 8; ++i) {
    Session& session = sessions.emplace_back(model);
    waiters.emplace_back([&, i] {
      codes[i] = code_of([&] { session.append(text, stops[i].get_token()); });
      lengths[i] = session.tokens().size();
    });
    waiters.back().wait_asleep();
  }
  for (const int i : cancelled) {
    stops[static_cast<std::size_t>(i)].request_stop();
    std::next(waiters.begin(), i)->join();
  }
  std::vector<std::pair<pid_t, int>> ids;
  int number = 0;
  for (const Sleeper& waiter : waiters) ids.emplace_back(waiter.id(), number++);
  const PassHook count([&] {
    for (const auto& [id, waiter] : ids) {
      if (id == gettid()) order.push_back(waiter);
    }
  });
  pass->let_go();
  for (Sleeper& waiter : waiters) waiter.join();
  for (int i = 0; i < 8; ++i) {
    const bool gave_up = std::ranges::count(cancelled, i) > 0;
    const auto at = static_cast<std::size_t>(i);
    CHECK(codes[at] == (gave_up ? std::optional(ErrorCode::cancelled) : std::nullopt));
    CHECK(lengths[at] == (gave_up ? 0u : 8u));
  }
  return order;
}

TEST_CASE("reports_D3 who came first computes first, whoever gives up between") {
  const Watchdog watchdog(60s);
  for (const auto& executor : executors()) {
    INFO((executor ? "executor" : "own threads"));
    const Model model = load_hooked(executor);
    CHECK(order_of_eight(model, {}) == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(order_of_eight(model, {3}) == std::vector<int>{0, 1, 2, 4, 5, 6, 7});
    CHECK(order_of_eight(model, {7, 0, 4, 3}) == std::vector<int>{1, 2, 5, 6});
    CHECK(order_of_eight(model, {0, 1, 2, 3, 4, 5, 6, 7}).empty());
  }
}

TEST_CASE("the passes of one long append let others in between") {
  const Watchdog watchdog(60s);
  const Model model = load_hooked();
  const Tokens text = some_tokens(64 * 6, 4);
  Session runs(model), waits(model);
  std::optional<HeldPass> pass(std::in_place, runs, text, 60s);
  std::size_t passes = 0, behind = 0;
  pid_t id = 0;
  Sleeper waiter([&] { waits.append(std::span(text).first(3)); });
  waiter.wait_asleep();
  id = waiter.id();
  const PassHook count([&] {
    ++passes;
    if (gettid() == id) behind = passes;
  });
  pass->let_go();
  pass->join();
  waiter.join();
  CHECK(passes == 6);  // the sleeping one is not counted
  CHECK(behind == 1);
}

}  // namespace
}  // namespace dsv32::test
