// fork() of the process at any moment: the child may destroy what it has, all else is refused, and
// nothing hangs.
#include <atomic>
#include <memory>
#include <optional>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/sanitized.h"
#include "tests/waiting/passes.h"

namespace dsv32::test {
namespace {

// A model with sessions that a child can destroy, whoever uses them at that moment.
struct Inherited {
  std::optional<Model> model = load_hooked();
  std::optional<Session> idle, runs, waits;

  Inherited() {
    for (std::optional<Session>* session : {&idle, &runs, &waits}) {
      session->emplace(*model);
      (*session)->append(some_tokens(70, 6));
    }
  }
};

constexpr int kCallsOfOne = 13;

// Of kCallsOfOne calls, those that throw state.
int refused_calls(Session& session) {
  const Tokens text = {1, 2};
  int refused = 0;
  const auto expect_state = [&](auto&& call) {
    refused += code_of(call) == ErrorCode::state ? 1 : 0;
  };
  expect_state([&] { session.append(text); });
  expect_state([&] { session.append(1); });
  expect_state([&] { session.sync(text); });
  expect_state([&] { session.truncate(1); });
  expect_state([&] { session.generate(text); });
  expect_state([&] { static_cast<void>(session.fork()); });
  expect_state([&] { static_cast<void>(session.tokens()); });
  expect_state([&] { static_cast<void>(session.logits()); });
  expect_state([&] { static_cast<void>(session.model()); });
  expect_state([&] { session.observe({}, {}); });
  const SessionTokens one{.session = &session, .tokens = text};
  expect_state([&] { append_together(std::span(&one, 1)); });
  expect_state([&] { session.save("/dev/null"); });
  const Reuse reuse = session.last_reuse();
  const SparseStats stats = session.sparse_stats();
  refused += reuse.matched == 0 && stats.keys_visible == 0 ? 1 : 0;
  return refused;
}

// What the child of a fork() at this moment can do with everything: 0, or what went wrong.
int run_child(Inherited& all) {
  const pid_t child = ::fork();
  if (child == 0) {
    alarm(20);  // a child that hangs dies
    int wrong = all.model->free_cache_tokens() == 0 ? 0 : 1;
    wrong |= code_of([&] { const Session made(*all.model); }) == ErrorCode::state ? 0 : 2;
    wrong |= code_of([&] { Session::load(*all.model, "/dev/null"); }) == ErrorCode::state ? 0 : 4;
    int shift = 3;
    for (std::optional<Session>* session : {&all.idle, &all.runs, &all.waits}) {
      wrong |= (refused_calls(**session) == kCallsOfOne ? 0 : 1) << shift++;
      session->reset();
    }
    all.model.reset();
    _exit(wrong);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST_CASE("a child of fork() may only destroy: while the model is idle") {
  if (kSanitized) return;
  Inherited all;
  CHECK(run_child(all) == 0);
  CHECK_NOTHROW(all.idle->append(1));  // the parent's goes on
}

TEST_CASE("a child of fork() may only destroy: while a pass runs") {
  if (kSanitized) return;
  const Watchdog watchdog(60s);
  Inherited all;
  HeldPass pass(*all.runs, some_tokens(3, 7), 60s);
  CHECK(run_child(all) == 0);
  CHECK(pass.holds());
  pass.let_go();
  pass.join();
  CHECK(all.runs->tokens().size() == 73);
}

TEST_CASE("a child of fork() may only destroy: while a thread waits for its turn") {
  if (kSanitized) return;
  const Watchdog watchdog(60s);
  Inherited all;
  HeldPass pass(*all.runs, some_tokens(3, 7), 60s);
  Sleeper waiter([&] { all.waits->append(some_tokens(3, 7)); });
  waiter.wait_asleep();
  CHECK(run_child(all) == 0);
  CHECK(!waiter.ended());
  pass.let_go();
  waiter.join();
  CHECK(all.waits->tokens().size() == 73);
}

TEST_CASE("a child of fork() may only destroy: while threads use pages and counts") {
  if (kSanitized) return;
  const Watchdog watchdog(120s);
  Inherited all;
  std::atomic<bool> stop{false};
  {
    Sleeper pages([&] {
      while (!stop) {
        Session copy = all.idle->fork();
        copy.truncate(3);
        static_cast<void>(all.model->free_cache_tokens());
      }
    });
    Sleeper counts([&] {
      while (!stop) {
        all.runs->sync(some_tokens(2, 8));
        all.runs->sync(some_tokens(2, 9));
      }
    });
    Sleeper reads([&] {
      while (!stop) {
        static_cast<void>(all.runs->last_reuse());
        static_cast<void>(all.runs->sparse_stats());
      }
    });
    int bad = 0;
    for (int i = 0; i < 100; ++i) bad += run_child(all) == 0 ? 0 : 1;
    stop = true;
    CHECK(bad == 0);
  }
}

TEST_CASE("reports_D1 Session: a moved-from one throws state, or returns what is empty") {
  const Model model = load_hooked();
  Session session(model);
  const Tokens text = some_tokens(70, 6);
  session.sync(text);
  session.sync(text);
  const Session to(std::move(session));
  CHECK(to.last_reuse().matched == 70);
  CHECK(refused_calls(session) == kCallsOfOne);  // NOLINT(bugprone-use-after-move)
  CHECK(to.tokens().size() == 70);
  Session assigned(model);
  assigned = Session(model);
  Session other(model);
  other = std::move(assigned);
  CHECK(refused_calls(assigned) == kCallsOfOne);  // NOLINT(bugprone-use-after-move)
  assigned = to.fork();
  CHECK(assigned.tokens().size() == 70);
  CHECK(equal(copy(assigned.logits()), to.logits()));
  CHECK(model.free_cache_tokens() == 4096 - 128);
}

}  // namespace
}  // namespace dsv32::test
