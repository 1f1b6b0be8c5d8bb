// One session, two threads: what is refused while a pass of it runs, and what is not.
#include <atomic>
#include <filesystem>
#include <optional>
#include <set>
#include <stop_token>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"
#include "tests/waiting/passes.h"

namespace dsv32::test {
namespace {

TEST_CASE("reports_D2 a session in a pass is busy, for all but its snapshots") {
  const Watchdog watchdog(60s);
  const Model model = load_hooked();
  Session session(model), other(model);
  const Tokens text = some_tokens(70, 1), more = some_tokens(3, 2);
  const Bits want = [&] {
    Session alone(model);
    alone.append(text);
    return copy(alone.append(more));
  }();
  session.sync(text);
  const SparseStats stats = session.sparse_stats();
  const auto expect_busy = [](const char* what, auto&& call) {
    INFO(what);
    CHECK(code_of(call) == ErrorCode::busy);
  };
  HeldPass pass(session, more, 60s);
  expect_busy("tokens", [&] { static_cast<void>(session.tokens()); });
  expect_busy("logits", [&] { static_cast<void>(session.logits()); });
  expect_busy("truncate", [&] { session.truncate(1); });
  expect_busy("truncate to more", [&] { session.truncate(100); });
  expect_busy("fork", [&] { static_cast<void>(session.fork()); });
  expect_busy("observe", [&] { session.observe({}, {}); });
  expect_busy("save", [&] { session.save("/dev/null"); });
  expect_busy("append", [&] { session.append(1); });
  expect_busy("sync", [&] { session.sync(text); });
  expect_busy("generate", [&] { session.generate(text); });
  const SessionTokens both[] = {{.session = &other, .tokens = text},
                                {.session = &session, .tokens = text}};
  expect_busy("append_together", [&] { append_together(both); });
  CHECK(other.tokens().empty());  // and is not busy
  CHECK(session.model().free_cache_tokens() == 4096 - 128);
  CHECK(session.last_reuse().first_difference == 0);
  CHECK(session.sparse_stats().keys_visible == stats.keys_visible);
  CHECK(pass.holds());
  pass.let_go();
  pass.join();
  CHECK(equal(want, session.logits()));
  CHECK(session.tokens().size() == 73);
}

TEST_CASE("a save waits for its turn, and can be given up meanwhile") {
  const Watchdog watchdog(60s);
  const Model model = load_hooked();
  const TempFolder folder;
  const std::filesystem::path file = folder.path() / "s";
  Session session(model), other(model);
  session.append(some_tokens(70, 1));
  other.append(some_tokens(5, 2));
  HeldPass pass(other, some_tokens(3, 2), 60s);
  std::stop_source stop;
  std::optional<ErrorCode> code;
  {
    Sleeper saver([&] { code = code_of([&] { session.save(file, stop.get_token()); }); });
    saver.wait_asleep();
    CHECK(!saver.ended());
    stop.request_stop();
  }
  CHECK(code == ErrorCode::cancelled);
  CHECK(pass.holds());
  CHECK(std::filesystem::is_empty(folder.path()));
  pass.let_go();
  pass.join();
  session.save(file);
  CHECK(std::filesystem::exists(file));
}

using Triple = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;

Triple triple(const SparseStats& s) { return {s.keys_visible, s.keys_scored, s.keys_read}; }

TEST_CASE("reports_D2 last_reuse and sparse_stats are whole at any moment") {
  const Watchdog watchdog(300s);
  constexpr int kRounds = kSanitized ? 30 : 100;
  const Model model = load_hooked();
  Tokens one = some_tokens(40, 1), two = one;
  two[30] = (two[30] + 1) % 90;
  two.resize(35);
  // What they may be, from a session alone: keys after each pass, and the two kinds of reuse.
  std::set<Triple> known = {triple({})};
  std::set<std::pair<std::size_t, std::size_t>> reuses = {{0, 0}};
  {
    Session alone(model);
    for (int i = 0; i < kRounds; ++i) {
      for (const Tokens* text : {&one, &two}) {
        alone.sync(*text);
        known.insert(triple(alone.sparse_stats()));
        const Reuse reuse = alone.last_reuse();
        reuses.insert({reuse.matched, reuse.first_difference});
      }
      alone.truncate(40);
      alone.sync(std::span(one).first(20));  // the last token runs again: matched is one less
      known.insert(triple(alone.sparse_stats()));
      reuses.insert({alone.last_reuse().matched, alone.last_reuse().first_difference});
    }
  }
  REQUIRE(known.size() == 3 * kRounds + 1);
  REQUIRE(reuses.size() >= 4);
  Session session(model);
  std::atomic<bool> stop{false};
  std::atomic<long> torn{0}, seen{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!stop) {
        torn += known.contains(triple(session.sparse_stats())) ? 0 : 1;
        const Reuse reuse = session.last_reuse();
        torn += reuses.contains({reuse.matched, reuse.first_difference}) ? 0 : 1;
        ++seen;
      }
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    session.sync(one);
    session.sync(two);
    session.truncate(40);
    session.sync(std::span(one).first(20));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(torn == 0);
  CHECK(seen > kRounds);
}

}  // namespace
}  // namespace dsv32::test
