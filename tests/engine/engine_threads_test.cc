// Engine: cancelling, threads, and that nothing is left behind.
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "tests/engine/engines.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/resident_bytes.h"

namespace dsv32::test {
namespace {

using conformance::Random;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// One thread that says it is two, and a look at each parallel part of a pass before it runs.
class WatchingExecutor final : public Executor {
 public:
  int concurrency() const noexcept override { return 2; }
  void run(int count, const std::function<void(int)>& part) override {
    ++regions;
    if (on_region) on_region(regions);
    for (int i = 0; i < count; ++i) part(i);
  }
  int regions = 0;
  std::function<void(int)> on_region{};
};

Model small(std::size_t cache_tokens = 4096, std::shared_ptr<Executor> executor = {}) {
  LoadOptions options;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = 96;
  options.backend.num_threads = 1;
  options.backend.executor = std::move(executor);
  return Model::load(golden("fp8"), options);
}

Request request(Tokens prompt, std::size_t max_tokens, std::uint64_t seed = 1) {
  Request request;
  request.prompt = std::move(prompt);
  request.options.sampling = SamplingParams{.seed = seed};
  request.options.max_tokens = max_tokens;
  return request;
}

template <class Call>
ErrorCode thrown(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

TEST_CASE("engine_E7 a cancelled request that waits ends at once, one that runs with the step") {
  const Model model = small();
  Engine engine(model, {.max_sequences = 1});
  const RequestId runs = engine.submit(request(some_tokens(40, 1), 50));
  const RequestId waits = engine.submit(request(some_tokens(40, 2), 50));
  All all;
  for (int i = 0; i < 5; ++i) take(all, engine.step());
  CHECK(engine.stats().waiting == 1);
  engine.cancel(waits);
  engine.cancel(waits);
  CHECK(engine.stats().waiting == 0);
  take(all, engine.step());
  CHECK(all.at({waits, 0}).last->finish_reason == FinishReason::cancelled);
  CHECK(all.at({waits, 0}).tokens.empty());
  CHECK(all.at({runs, 0}).lasts == 0);
  engine.cancel(runs);
  take(all, engine.step());
  const Heard& told = all.at({runs, 0});
  CHECK(told.last->finish_reason == FinishReason::cancelled);
  CHECK(told.tokens.size() == 6);
  CHECK(engine.idle());
  CHECK(engine.stats().cache_tokens_used == 0);
  CHECK(engine.stats().cancelled == 2);
  engine.cancel(runs);
  engine.cancel(12345);
  CHECK(engine.step().empty());
}

TEST_CASE("engine_E7 all of n answers are cancelled, each once, whatever they do") {
  for (const int steps : {0, 1, 3, 10}) {
    for (const int slots : {3, 16}) {
      const Model model = small();
      Engine engine(model, {.max_sequences = slots});
      Request one = request(some_tokens(150, 1), 50);
      one.n = 8;
      const RequestId id = engine.submit(one);
      All all;
      for (int i = 0; i < steps; ++i) take(all, engine.step());
      engine.cancel(id);
      all = run(engine, std::move(all));
      CHECK(all.size() == 8);
      for (const auto& [answer, told] : all)
        CHECK(told.last->finish_reason == FinishReason::cancelled);
      CHECK(engine.stats().cache_tokens_used == 0);
      CHECK(model.free_cache_tokens() == 4096);
    }
  }
}

TEST_CASE("engine_E7 a step whose requests are all cancelled ends within a layer") {
  const auto executor = std::make_shared<WatchingExecutor>();
  const Model model = small(4096, executor);
  const auto layers = static_cast<int>(model.config().num_hidden_layers);
  Engine engine(model);
  for (const bool by_token : {false, true}) {
    for (const bool other : {false, true}) {
      executor->on_region = {};
      engine.submit(request(some_tokens(90, 1), 1));
      executor->regions = 0;
      run(engine);
      engine.forget();
      const int whole = executor->regions;
      std::stop_source stop;
      Request one = request(some_tokens(90, 1), 1);
      one.options.cancel = stop.get_token();
      const RequestId id = engine.submit(one);
      if (other) engine.submit(request(some_tokens(5, 2), 1));
      executor->regions = 0;
      executor->on_region = [&](int region) {
        if (region != whole / 4) return;
        by_token ? static_cast<void>(stop.request_stop()) : engine.cancel(id);
      };
      All all;
      take(all, engine.step());
      executor->on_region = {};
      CHECK(all.at({id, 0}).last->finish_reason == FinishReason::cancelled);
      if (other) {
        CHECK(executor->regions > whole / 2);  // the other one goes on
      } else {
        CHECK(executor->regions <= whole / 4 + whole / layers + 1);
      }
      run(engine, std::move(all));
      engine.forget();
    }
  }
}

TEST_CASE(
    "engine_E7 GenerateOptions::cancel does the same, before submit, while it waits and runs") {
  const Model model = small();
  Engine engine(model, {.max_sequences = 1});
  std::stop_source before, waiting, running;
  before.request_stop();
  std::vector<RequestId> ids;
  for (const std::stop_source& source : {running, waiting, before}) {
    Request one = request(some_tokens(40, 1), 1000);
    one.options.cancel = source.get_token();
    ids.push_back(engine.submit(one));
  }
  CHECK(engine.stats().waiting == 2);
  All all;
  take(all, engine.step());
  CHECK(all.at({ids[2], 0}).lasts == 1);
  waiting.request_stop();
  CHECK(engine.stats().waiting == 0);
  take(all, engine.step());
  running.request_stop();
  take(all, engine.step());
  for (const RequestId id : ids)
    CHECK(all.at({id, 0}).last->finish_reason == FinishReason::cancelled);
  CHECK(engine.idle());
}

TEST_CASE("step waits for work, and submit and cancel end the wait") {
  const Model model = small(512);
  Engine engine(model);
  Clock::time_point start = Clock::now();
  CHECK(engine.step(30ms).empty());
  CHECK(Clock::now() - start >= 30ms);
  CHECK(engine.step(-5ms).empty());
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    engine.submit(request({1, 2, 3}, 1));
  });
  start = Clock::now();
  CHECK(engine.step(std::chrono::milliseconds::max()).size() == 1);
  other.join();
  CHECK(Clock::now() - start < 10s);
  // One that waits for pages only: cancelling it ends the wait.
  Session session(model);
  session.append(some_tokens(400, 1));
  const RequestId id = engine.submit(request(some_tokens(200, 1), 1));
  std::thread canceller([&] {
    std::this_thread::sleep_for(20ms);
    engine.cancel(id);
  });
  const std::vector<RequestUpdate> updates = engine.step(10min);
  canceller.join();
  REQUIRE(updates.size() == 1);
  CHECK(updates[0].finish_reason == FinishReason::cancelled);
  // And pages that come back.
  engine.submit(request(some_tokens(200, 1), 1));
  std::thread leaver([&] {
    std::this_thread::sleep_for(20ms);
    Session gone = std::move(session);
  });
  CHECK(!engine.step(10min).empty());
  leaver.join();
  run(engine);
}

TEST_CASE("engine_E16 one step at a time, also of a callback") {
  const Model model = small();
  Engine engine(model);
  Request one = request({1, 2, 3}, 3);
  int asked = 0;
  one.options.allowed = [&](std::span<const TokenId>) {
    ++asked;
    CHECK(thrown([&] { engine.step(); }) == ErrorCode::busy);
    // All else may be called.
    engine.cancel(99);
    CHECK(engine.stats().finished == 0);
    CHECK(!engine.idle());
    const Session found = engine.cached(Tokens{1, 2});
    CHECK(found.tokens().empty());
    if (asked == 2) engine.submit(request({4, 5}, 1));
    return std::span<const std::uint32_t>();
  };
  engine.submit(one);
  CHECK(run(engine).size() == 2);
  CHECK(asked == 3);
}

TEST_CASE("engine_E16 an update may come before submit has returned: its tag says whose it is") {
  const Model model = small();
  Engine engine(model);
  constexpr std::uint64_t kRequests = kSanitized ? 100 : 1000;
  std::atomic<bool> done{false};
  std::map<std::uint64_t, int> lasts;
  std::thread stepper([&] {
    while (!done || !engine.idle()) {
      for (const RequestUpdate& update : engine.step(1ms))
        lasts[update.tag] += update.finish_reason != FinishReason::none ? 1 : 0;
    }
  });
  std::set<RequestId> ids;
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    Request one = request({1, 2, static_cast<TokenId>(i % 50)}, 1 + i % 3);
    one.tag = i;
    for (bool submitted = false; !submitted;) {
      try {
        ids.insert(engine.submit(one));
        submitted = true;
      } catch (const Error& error) {
        REQUIRE(error.code() == ErrorCode::capacity);
      }
    }
  }
  done = true;
  stepper.join();
  CHECK(ids.size() == kRequests);
  CHECK(lasts.size() == kRequests);
  for (const auto& [tag, count] : lasts) CHECK(count == 1);
}

// Submits, cancelled at random moments from other threads, while it steps.
void churn(std::size_t requests, std::uint64_t seed) {
  INFO("DSV32_TEST_SEED=" << seed);
  const Model model = small(2048);
  {
    Engine engine(model, {.max_sequences = 6, .max_waiting = 64});
    std::atomic<int> going{2};
    std::atomic<std::size_t> submitted{0};
    const auto submit = [&](std::uint64_t its_seed) {
      Random random{its_seed};
      std::vector<RequestId> recent;
      for (std::size_t i = 0; i < requests / 2; ++i) {
        Request one = request(some_tokens(1 + random.below(150), random.below(5)), random.below(12),
                              random.next());
        one.n = random.below(4) == 0 ? 3 : 1;
        one.priority = static_cast<int>(random.below(2));
        std::stop_source stop;
        if (random.below(2) == 0) one.options.cancel = stop.get_token();
        for (;;) {
          try {
            recent.push_back(engine.submit(one));
            submitted += static_cast<std::size_t>(one.n);
            break;
          } catch (const Error& error) {
            if (error.code() != ErrorCode::capacity) throw;
            std::this_thread::yield();
          }
        }
        if (random.below(3) == 0) stop.request_stop();
        if (random.below(3) == 0) engine.cancel(recent[random.below(recent.size())]);
        if (random.below(10) == 0) std::this_thread::yield();
        if (recent.size() > 20) recent.erase(recent.begin(), recent.begin() + 10);
      }
      --going;
    };
    std::thread first(submit, seed), second(submit, seed + 1);
    std::thread looker([&] {
      while (going > 0) {
        static_cast<void>(engine.stats());
        static_cast<void>(engine.idle());
        engine.forget("nobody's");
        std::this_thread::yield();
      }
    });
    All all;
    std::size_t lasts = 0;
    while (going > 0 || !engine.idle()) {
      take(all, engine.step(1ms));
      for (auto it = all.begin(); it != all.end();) {
        lasts += it->second.lasts > 0 ? 1 : 0;
        it = it->second.lasts > 0 ? all.erase(it) : std::next(it);
      }
    }
    first.join();
    second.join();
    looker.join();
    CHECK(all.empty());
    CHECK(lasts == submitted);
    const EngineStats stats = engine.stats();
    CHECK(stats.finished + stats.cancelled + stats.failed == submitted);
    CHECK(stats.failed == 0);
    CHECK(stats.running + stats.waiting == 0);
    CHECK(stats.cache_tokens_used == 0);
    CHECK(engine.step().empty());
  }
  CHECK(model.free_cache_tokens() == 2048);
}

TEST_CASE("engine_E8 cancelled at any moment, requests leave nothing behind") {
  churn(kSanitized ? 200 : 1000, new_seed());
}
TEST_CASE("engine_E8 a hundred thousand cancels", "[.long]") { churn(100000, new_seed()); }

TEST_CASE("engine_E9 memory does not grow with the requests that have been") {
  const Model model = small();
  Engine engine(model);
  const auto turn = [&](int requests) {
    for (int i = 0; i < requests; ++i) {
      engine.submit(request({1, 2, static_cast<TokenId>(i % 60)}, 1, 1));
      if (i % 8 == 7)
        while (!engine.idle()) engine.step();
    }
  };
  turn(kSanitized ? 200 : 2000);
  const std::size_t before = resident_bytes();
  turn(kSanitized ? 400 : 4000);
  if (!kSanitized) CHECK(resident_bytes() <= before + 64 * 1024);  // pages of the system's heap
}

TEST_CASE("engine_E18 statistics cost less than a microsecond, also while a step runs") {
  const Model model = small();
  Engine engine(model);
  for (std::uint64_t i = 0; i < 8; ++i) engine.submit(request(some_tokens(200, i), 100, i));
  std::atomic<bool> done{false};
  std::size_t generated_in_all = 0;
  std::thread stepper([&] {
    while (!engine.idle())
      for (const RequestUpdate& update : engine.step()) generated_in_all += update.tokens.size();
    done = true;
  });
  double best = 1.0;
  std::uint64_t generated = 0;
  while (!done) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 1000; ++i) {
      const EngineStats stats = engine.stats();
      CHECK_FALSE(stats.generated_tokens < generated);
      generated = stats.generated_tokens;
    }
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count() / 1000);
  }
  stepper.join();
  if (!kSanitized) CHECK(best < 1.5e-6);  // with the check around it
  const EngineStats stats = engine.stats();
  CHECK(stats.generated_tokens == generated_in_all);
  CHECK(stats.prompt_tokens == 1600);
  CHECK(stats.prompt_tokens == stats.reused_tokens + stats.computed_tokens);
  CHECK(stats.steps > 0);
  CHECK(stats.step_seconds > 0.0);
  CHECK(stats.cache_tokens == 4096);
  CHECK(stats.cache_tokens_used == 0);
  CHECK(stats.cache_tokens_reusable > 0);
}

TEST_CASE("in a child of fork() an Engine may only be destroyed") {
  if (kSanitized) return;
  const Model model = small();
  auto engine = std::make_unique<Engine>(model);
  engine->submit(request(some_tokens(100, 1), 10));
  engine->step();
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int wrong = 0;
    wrong += thrown([&] { engine->submit(request({1}, 1)); }) == ErrorCode::state ? 0 : 1;
    wrong += thrown([&] { engine->step(); }) == ErrorCode::state ? 0 : 1;
    wrong += thrown([&] { static_cast<void>(engine->cached({})); }) == ErrorCode::state ? 0 : 1;
    wrong += thrown([&] { Engine another(model); }) == ErrorCode::state ? 0 : 1;
    engine->cancel(1);
    engine->forget();
    wrong += engine->idle() && engine->stats().running == 0 ? 0 : 1;
    engine.reset();
    _exit(wrong);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(run(*engine).size() == 1);
}

}  // namespace
}  // namespace dsv32::test
