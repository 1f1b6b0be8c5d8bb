// Callbacks, and threads of an Executor, keep the floating-point state that they come with.
#if defined(__x86_64__)

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lib/base/thread_pool.h"
#include "tests/model/reports_W4.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// Threads of an application, each in a state of its own; notes in which one each part leaves them.
class AlienExecutor final : public Executor {
 public:
  int concurrency() const noexcept override { return 3; }
  void run(int count, const std::function<void(int)>& part) override {
    ++runs;
    same = same && State::now() == caller;
    std::vector<std::thread> threads;
    const State here = State::now();
    State{}.set();  // for what starting a thread computes
    for (int i = 0; i < count; ++i)
      threads.emplace_back([&, i] {
        const State& state = kAliens[static_cast<std::size_t>(i) % std::size(kAliens)].state;
        state.set();
        part(i);
        const bool kept = State::now() == state;
        const std::lock_guard guard(mutex_);
        same = same && kept;
      });
    for (std::thread& thread : threads) thread.join();
    here.set();
  }

  State caller;
  bool same = true;
  int runs = 0;

 private:
  std::mutex mutex_;
};

TEST_CASE("reports_W4 an Executor's threads and callbacks keep their own state") {
  const std::string want = logits(load_with_threads(1), text());
  for (const Alien& alien : kAliens) {
    INFO(alien.name);
    const auto executor = std::make_shared<AlienExecutor>();
    executor->caller = alien.state;
    bool same = true;
    int calls[6] = {};
    const auto look = [&](int which) {
      same = same && State::now() == alien.state;
      return ++calls[which], true;
    };
    const std::string got = in_state(alien.state, [&] {
      LoadOptions options{.backend = {.executor = executor},
                          .kv_cache_tokens = 1024,
                          .max_batch_tokens = 64,
                          .mtp = true,
                          .on_progress = [&](double) { return look(0); },
                          .log = [&](LogLevel, std::string_view) { look(1); }};
      const Model model = Model::load(golden("fp8"), options);
      Session session(model);
      session.observe({}, [&](const Trace&) { look(2); });
      GenerateOptions generate;
      generate.max_tokens = 3;
      generate.sampling = SamplingParams{.seed = 5};
      generate.allowed = [&](std::span<const TokenId>) {
        look(3);
        return std::span<const std::uint32_t>();
      };
      session.generate(text(), generate, [&](const GeneratedToken&) { return look(4); });
      const Message question[] = {{.content = "1"}};
      ChatOptions options_of_chat;
      options_of_chat.generate.max_tokens = 3;
      Session other(bundled());
      chat(other, question, ThinkingMode::chat, options_of_chat,
           [&](const ParseEvent&) { return look(5); });
      session.truncate(0);
      return bytes(session.append(text()));
    });
    CHECK((got == want));
    CHECK(same);
    CHECK(executor->same);
    CHECK(executor->runs > 100);
    for (const int count : calls) CHECK(count > 0);
  }
}

TEST_CASE("reports_W4 what a callback makes of its state stays, and no result sees it") {
  const std::string want = logits(load_with_threads(1), text());
  const State upward = kAliens[0].state;
  std::string got;
  State after;
  in_state({}, [&] {
    const Model model = Model::load(
        golden("fp8"),
        {.kv_cache_tokens = 1024, .max_batch_tokens = 64, .mtp = true, .on_progress = [&](double) {
           upward.set();
           return true;
         }});
    after = State::now();
    got = logits(model, text());
    State{}.set();
    return std::string();
  });
  CHECK(after == upward);
  CHECK((got == want));
}

TEST_CASE("reports_W4 workers of a pool have our state, whoever made it") {
  constexpr std::uint32_t kFlags = 0x3F;
  for (const Alien& alien : kAliens) {
    INFO(alien.name);
    std::atomic<int> seen{0}, wrong{0};
    in_state(alien.state, [&] {
      ThreadPool pool({.num_threads = 3});
      for (int i = 0; i < 50 && seen == 0; ++i) {
        pool.parallel_for(30, [&](int, int worker) {
          if (worker > 0) {
            const State state = State::now();
            ++seen;
            if ((state.vector & ~kFlags) != State{}.vector || state.x87 != State{}.x87) ++wrong;
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
      }
      return std::string();
    });
    CHECK(seen > 0);
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace dsv32::test

#endif
