// BackendOptions as a model sees them: threads, executors, fork(), idleness, and what is refused.
#include <chrono>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "lib/base/format.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using namespace std::chrono_literals;

Model load(const BackendOptions& backend) {
  return Model::load(golden("fp8"), {.backend = backend, .kv_cache_tokens = 1024});
}

Tokens some_tokens() {
  Tokens tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % 90);
  return tokens;
}

Bits logits_of(const Model& model) {
  Session session(model);
  return copy(session.append(some_tokens()));
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TEST_CASE("an idle model takes no time") {
  const Model model = load({.num_threads = 4});
  Session session(model);
  session.append(some_tokens());
  std::this_thread::sleep_for(20ms);  // its workers fall asleep
  const double before = cpu_seconds();
  std::this_thread::sleep_for(300ms);
  CHECK(cpu_seconds() - before < 0.005);
}

TEST_CASE("a child of fork() may destroy models and sessions, all else throws") {
  if (kSanitized) return;
  for (const int threads : {1, 3}) {
    std::optional<Model> model = load({.num_threads = threads});
    std::optional<Session> session(std::in_place, *model);
    session->append(some_tokens());
    const pid_t child = ::fork();
    if (child == 0) {
      int refused = 0;
      const auto expect_state = [&](auto&& call) {
        try {
          call();
        } catch (const Error& error) {
          refused += error.code() == ErrorCode::state ? 1 : 0;
        } catch (...) {
        }
      };
      expect_state([&] { session->append(1); });
      expect_state([&] { session->sync(some_tokens()); });
      expect_state([&] { session->truncate(1); });
      expect_state([&] { session->generate(some_tokens(), {}); });
      expect_state([&] { static_cast<void>(session->fork()); });
      expect_state([&] { const Session another(*model); });
      expect_state([&] { static_cast<void>(model->config()); });
      expect_state([&] { static_cast<void>(model->tokenizer()); });
      expect_state([&] { static_cast<void>(model->chat_template()); });
      expect_state([&] { static_cast<void>(model->default_sampling()); });
      session.reset();
      model.reset();
      _exit(refused);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 10);
    CHECK_NOTHROW(session->append(1));  // the parent's goes on
  }
}

class Backwards final : public Executor {
 public:
  int concurrency() const noexcept override { return 3; }
  void run(int count, const std::function<void(int)>& part) override {
    ++runs;
    for (int i = count - 1; i >= 0; --i) part(i);
  }
  int runs = 0;
};

TEST_CASE("an executor runs a model's parts, with the same bits") {
  const auto executor = std::make_shared<Backwards>();
  CHECK(logits_of(load({.executor = executor})) == logits_of(load({.num_threads = 2})));
  CHECK(executor->runs > 10);
}

TEST_CASE("a plan counts the scratch of an executor's parts") {
  class Wide final : public Executor {
    int concurrency() const noexcept override { return 5000; }  // of which a pool takes 1,024
    void run(int, const std::function<void(int)>&) override {}
  };
  constexpr std::size_t kTooMany = std::size_t{1} << 35;
  const Plan plan =
      Checkpoint::open(golden("fp8")).plan({.kv_cache_tokens = kTooMany, .num_threads = 1024});
  check_error(ErrorCode::out_of_memory, "activations " + human_bytes(plan.activation_bytes), [] {
    Model::load(golden("fp8"),
                {.backend = {.executor = std::make_shared<Wide>()}, .kv_cache_tokens = kTooMany});
  });
}

TEST_CASE("a plan for a number of threads that no pool has is refused") {
  const Checkpoint checkpoint = Checkpoint::open(golden("fp8"));
  for (const int threads : {-1, 1025}) {
    check_error(ErrorCode::invalid_argument, "num_threads is " + std::to_string(threads),
                [&] { static_cast<void>(checkpoint.plan({.num_threads = threads})); });
  }
}

TEST_CASE("pinned workers and long spins change no bit") {
  const Bits want = logits_of(load({.num_threads = 1}));
  CHECK(logits_of(load({.num_threads = 3, .pin_threads = true})) == want);
  CHECK(logits_of(load({.num_threads = 2, .spin_us = 0})) == want);
}

TEST_CASE("options that no machine has are refused, and the error names them") {
  check_error(ErrorCode::invalid_argument, "num_threads is -3", [] { load({.num_threads = -3}); });
  check_error(ErrorCode::invalid_argument, "num_threads is 1025",
              [] { load({.num_threads = 1025}); });
  const std::string message = check_error(ErrorCode::unsupported, "kernel set \"mips\"",
                                          [] { load({.kernel_set = "mips"}); });
  for (const std::string& name : kernel_sets()) CHECK(message.find(name) != std::string::npos);
  const std::string memory = check_error(ErrorCode::out_of_memory, "weights", [] {
    Model::load(golden("fp8"), {.kv_cache_tokens = std::size_t{1} << 34});
  });
  for (const char* part : {"needs ", "cache ", "activations ", "are available", "too few"})
    CHECK(memory.find(part) != std::string::npos);
}

}  // namespace
}  // namespace dsv32::test
