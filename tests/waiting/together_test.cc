// append_together: all of it or nothing, whatever is wrong with one part; and how many it may be.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"

#include "lib/base/format.h"
#include "tests/support/catch.h"
#include "tests/waiting/passes.h"

namespace dsv32::test {
namespace {

constexpr std::size_t kMost = 4;

LoadOptions options(std::size_t cache_tokens) {
  LoadOptions options;
  options.backend.num_threads = 1;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = 32;
  options.max_sequences = static_cast<int>(kMost);
  options.mtp = true;
  return options;
}

// Three sessions with a past, two of which share pages.
struct Three {
  explicit Three(std::size_t cache_tokens = 1024)
      : model(Model::load(golden("fp8"), options(cache_tokens))) {
    Session& first = sessions.emplace_back(model);
    first.append(some_tokens(70, 1));
    Session& fork = sessions.emplace_back(first.fork());
    fork.append(some_tokens(3, 2));
    sessions.emplace_back(model).append(some_tokens(20, 3));
    for (Session& session : sessions) before.emplace_back(session);
  }

  Session& at(std::size_t i) { return *std::next(sessions.begin(), static_cast<long>(i)); }
  std::vector<SessionTokens> parts(std::size_t tokens) {
    std::vector<SessionTokens> list;
    for (Session& session : sessions) {
      texts.push_back(some_tokens(tokens, 10 + list.size()));
      list.push_back({.session = &session, .tokens = texts.back()});
    }
    return list;
  }
  bool as_before() const {
    return std::equal(
        sessions.begin(), sessions.end(), before.begin(),
        [](const Session& session, const Shown& shown) { return Shown(session) == shown; });
  }
  // Each session alone, on a model of its own.
  std::vector<Bits> alone(const std::vector<SessionTokens>& list) const {
    const Model other = Model::load(golden("fp8"), options(1024));
    std::vector<Bits> rows;
    std::size_t i = 0;
    for (const SessionTokens& part : list) {
      Session session(other);
      session.append(before[i++].tokens);
      rows.push_back(copy(session.append(part.tokens)));
    }
    return rows;
  }

  Model model;
  std::list<Session> sessions;
  std::vector<Shown> before;
  std::list<Tokens> texts;
};

TEST_CASE("append_together refuses a list that is wrong, and changes no session") {
  const Watchdog watchdog(60s);
  Three three;
  const Tokens text = some_tokens(3, 4), foreign = {1, three.model.config().vocab_size},
               negative = {-1};
  const auto refuse = [&](const char* what, ErrorCode code, const std::string& part,
                          const std::function<void(std::vector<SessionTokens>&)>& spoil) {
    INFO(what);
    std::vector<SessionTokens> list = three.parts(5);
    spoil(list);
    check_error(code, part, [&] { append_together(list); });
    CHECK(three.as_before());
  };
  using Parts = std::vector<SessionTokens>;
  for (const std::size_t i : {0u, 1u, 2u}) {
    INFO("part " << i);
    refuse("null", ErrorCode::invalid_argument, "null", [&](Parts& p) { p[i].session = nullptr; });
    refuse("no tokens", ErrorCode::invalid_argument, "no tokens",
           [&](Parts& p) { p[i].tokens = {}; });
    refuse("a foreign id", ErrorCode::invalid_argument, "token 256",
           [&](Parts& p) { p[i].tokens = foreign; });
    refuse("a negative id", ErrorCode::invalid_argument, "token -1",
           [&](Parts& p) { p[i].tokens = negative; });
    refuse("twice", ErrorCode::invalid_argument, "twice",
           [&](Parts& p) { p.push_back({.session = &three.at(i), .tokens = text}); });
  }
  const Model elsewhere = Model::load(golden("fp8"), options(1024));
  Session stranger(elsewhere);
  refuse("two Models", ErrorCode::invalid_argument, "two Models",
         [&](Parts& p) { p[1].session = &stranger; });
  CHECK(stranger.tokens().empty());
  std::list<Session> more;
  refuse("too many", ErrorCode::invalid_argument, "max_sequences 4", [&](Parts& p) {
    while (p.size() <= kMost)
      p.push_back({.session = &more.emplace_back(three.model), .tokens = text});
  });
  const Session moved = std::move(stranger);
  refuse("moved from", ErrorCode::state, "moved from",
         [&](Parts& p) { p[2].session = &stranger; });  // NOLINT(bugprone-use-after-move)
  std::vector<SessionTokens> list = three.parts(40);
  const std::vector<Bits> want = three.alone(list);
  append_together({});
  CHECK(three.as_before());
  append_together(list);
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(equal(want[i], three.at(i).logits()));
}

TEST_CASE("append_together of too many tokens changes no session") {
  const Watchdog watchdog(60s);
  Three three;
  const auto most = static_cast<std::size_t>(three.model.config().max_position_embeddings);
  const Tokens long_text(most - 20 + 1, 5);
  for (const std::size_t i : {0u, 2u}) {
    std::vector<SessionTokens> list = three.parts(5);
    list[i].tokens = long_text;
    check_error(ErrorCode::context_length, "", [&] { append_together(list); });
    CHECK(three.as_before());
  }
}

TEST_CASE("append_together that the pool has no pages for changes no session") {
  const Watchdog watchdog(60s);
  Three three(64 * 8);  // of 8 pages 4 are used: the first's 2, the fork's own last, the third's
  REQUIRE(three.model.free_cache_tokens() == 64 * 4);
  // Each part alone would fit: they need one, two and two.
  std::vector<SessionTokens> list = three.parts(120);
  check_error(ErrorCode::capacity, "", [&] { append_together(list); });
  CHECK(three.as_before());
  list = three.parts(40);
  const std::vector<Bits> want = three.alone(list);
  append_together(list);
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(equal(want[i], three.at(i).logits()));
}

TEST_CASE("append_together of a session that is in use changes no other") {
  const Watchdog watchdog(60s);
  Three three;
  Session busy(three.model);
  const Tokens text = some_tokens(3, 4);
  {
    HeldPass pass(busy, text, 60s);
    for (const std::size_t i : {0u, 3u}) {
      std::vector<SessionTokens> list = three.parts(5);
      list.insert(list.begin() + static_cast<long>(i), {.session = &busy, .tokens = text});
      check_error(ErrorCode::busy, "", [&] { append_together(list); });
    }
  }
  busy.truncate(0);
  CHECK(three.as_before());
}

TEST_CASE(
    "append_together is cancelled between its passes and while it waits, and changes nothing") {
  const Watchdog watchdog(60s);
  Three three;
  std::vector<SessionTokens> list = three.parts(100);  // ten passes of 32 rows
  const std::vector<Bits> want = three.alone(list);
  for (const int at : {1, 2, 5, 10}) {
    INFO("pass " << at);
    std::stop_source stop;
    int passes = 0;
    const PassHook hook([&] {
      if (++passes == at) stop.request_stop();
    });
    check_error(ErrorCode::cancelled, "", [&] { append_together(list, stop.get_token()); });
    CHECK(passes == at);
    CHECK(three.as_before());
  }
  Session runs(three.model);
  {
    HeldPass pass(runs, some_tokens(1, 5), 60s);
    std::stop_source stop;
    std::optional<ErrorCode> code;
    Sleeper waiter([&] { code = code_of([&] { append_together(list, stop.get_token()); }); });
    waiter.wait_asleep();
    CHECK(!waiter.ended());
    stop.request_stop();
    waiter.join();
    CHECK(code == ErrorCode::cancelled);
  }
  runs.truncate(0);
  CHECK(three.as_before());
  append_together(list);
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(equal(want[i], three.at(i).logits()));
}

TEST_CASE("max_sequences is from 1 to 4,096, for a plan as for a load") {
  const Checkpoint checkpoint = Checkpoint::open(golden("fp8"));
  for (const int count : {0, -1, 4097}) {
    const std::string part = "max_sequences is " + std::to_string(count);
    check_error(ErrorCode::invalid_argument, part,
                [&] { static_cast<void>(checkpoint.plan({.max_sequences = count})); });
    check_error(ErrorCode::invalid_argument, part, [&] {
      Model::load(golden("fp8"), {.kv_cache_tokens = 64, .max_sequences = count});
    });
  }
  for (const int count : {1, 16, 4096}) {
    INFO(count << " sequences");
    const Plan plan = checkpoint.plan({.kv_cache_tokens = 4096,
                                       .max_batch_tokens = 64,
                                       .max_sequences = count,
                                       .num_threads = 2});
    const Model model = Model::load(golden("fp8"), {.backend = {.num_threads = 2},
                                                    .kv_cache_tokens = 4096,
                                                    .max_batch_tokens = 64,
                                                    .max_sequences = count});
    CHECK(model.memory_usage().activation_bytes == plan.activation_bytes);
    CHECK(model.memory_usage().kv_cache_bytes == plan.kv_cache_bytes);
  }
  // What so many page tables take may be what does not fit, and both count it.
  const auto plan = [&](int count, std::size_t cache_tokens, std::size_t memory) {
    return checkpoint.plan({.kv_cache_tokens = cache_tokens,
                            .max_batch_tokens = 64,
                            .max_sequences = count,
                            .num_threads = 1,
                            .memory_bytes = memory});
  };
  const Plan one = plan(1, 4096, 0), many = plan(4096, 4096, 0);
  CHECK(many.activation_bytes - one.activation_bytes >=
        std::size_t{4095} * (4096 / 64) * sizeof(std::int32_t));
  const std::size_t need = one.weight_bytes + one.kv_cache_bytes + one.activation_bytes;
  CHECK(plan(1, 4096, need).fits);
  CHECK(!plan(2, 4096, need).fits);
  constexpr std::size_t kTooMany = std::size_t{1} << 35;
  const std::size_t activations = plan(4096, kTooMany, 0).activation_bytes;
  CHECK(activations > one.activation_bytes);
  check_error(ErrorCode::out_of_memory, "activations " + human_bytes(activations), [&] {
    Model::load(golden("fp8"), {.backend = {.num_threads = 1},
                                .kv_cache_tokens = kTooMany,
                                .max_batch_tokens = 64,
                                .max_sequences = 4096});
  });
}

}  // namespace
}  // namespace dsv32::test
