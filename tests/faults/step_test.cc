// Allocations of one step: each of them may fail, and their number does not grow with the context.
#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "dsv32/model.h"
#include "dsv32/session.h"

#include "tests/faults/seams.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

using Which = FailAllocation::Which;

Model load(const std::string& name, const std::string& kernels, std::size_t cache_tokens = 512,
           int batch = 16) {
  LoadOptions options;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = batch;
  options.backend.num_threads = 1;
  options.backend.kernel_set = kernels;
  options.mtp = name == "fp8";
  return Model::load(golden_model(name), options);
}

bool same(const SparseStats& x, const SparseStats& y) {
  return x.keys_visible == y.keys_visible && x.keys_scored == y.keys_scored &&
         x.keys_read == y.keys_read;
}

// Appends `next` with every allocation failing in turn, alone or with all that follow. Each time
// the error is one of memory, and the session has its tokens, pages and statistics; in the end the
// logits are `want`.
void check_step(const Model& model, Session& session, std::span<const TokenId> next,
                const Bits& want) {
  const Tokens tokens(session.tokens().begin(), session.tokens().end());
  const std::size_t free = model.free_cache_tokens();
  for (const Which which : {Which::one, Which::all}) {
    const SparseStats stats = session.sparse_stats();
    long number = 0, failures = 0;
    for (bool done = false; !done; ++number) {
      bool typed = true;
      {
        const FailAllocation fail(number, which);
        try {
          session.append(next);
          done = true;
        } catch (const std::bad_alloc&) {
          ++failures;
        } catch (const Error& error) {
          typed = error.code() == ErrorCode::out_of_memory;
          ++failures;
        }
      }
      INFO("allocation " << number << (which == Which::one ? "" : " and all behind it"));
      REQUIRE(typed);
      if (done) break;
      REQUIRE(std::ranges::equal(session.tokens(), tokens));
      REQUIRE(same(session.sparse_stats(), stats));
      REQUIRE(model.free_cache_tokens() == free);
    }
    CHECK(failures > 5);
    session.truncate(tokens.size());
    CHECK(copy(session.append(next)) == want);
    session.truncate(tokens.size());
  }
}

TEST_CASE("RS-01 any allocation of a step may fail, with every kernel set") {
  const Tokens text = some_tokens(128, 12);
  for (const std::string& kernels : kernel_sets()) {
    if (kernels == "reference") continue;  // the oracle has vectors of its own
    for (const std::string name : {"fp8", "v3-dense"}) {
      if (kSanitized && (name == "fp8") != (kernels == "generic")) continue;  // each once
      INFO(name << ", " << kernels);
      const Model model = load(name, kernels);
      const auto part = [&](std::size_t first, std::size_t count) {
        return std::span(text).subspan(first, count);
      };
      Session session(model), fresh(model);
      fresh.append(part(0, 127));
      session.append(part(0, 127));
      check_step(model, session, part(127, 1), copy(fresh.append(text[127])));  // beyond index_topk
      session.truncate(60);
      fresh.truncate(60);
      check_step(model, session, part(60, 20), copy(fresh.append(part(60, 20))));  // a new page
    }
  }
}

TEST_CASE("RS-01 any allocation of an observed step may fail") {
  const Tokens text = some_tokens(80, 12);
  const Model model = load("fp8", "");
  const auto want = [&] {
    Session fresh(model);
    return copy(fresh.append(text));
  }();
  Session session(model);
  session.append(std::span(text).first(60));
  session.observe({.logits = true, .selection = true, .experts = true, .mtp_logits = true},
                  [](const Trace&) {});
  check_step(model, session, std::span(text).subspan(60), want);
}

// Tokens, logits and statistics of sessions, and the pages that are left.
struct AllOf {
  std::vector<Tokens> tokens;
  std::vector<Bits> logits;
  std::vector<SparseStats> stats;
  std::size_t free = 0;

  explicit AllOf(const std::vector<Session>& sessions)
      : free(sessions.front().model().free_cache_tokens()) {
    for (const Session& session : sessions) {
      tokens.emplace_back(session.tokens().begin(), session.tokens().end());
      logits.push_back(copy(session.logits()));
      stats.push_back(session.sparse_stats());
    }
  }
  friend bool operator==(const AllOf& x, const AllOf& y) {
    return x.tokens == y.tokens && x.logits == y.logits && x.free == y.free &&
           std::ranges::equal(x.stats, y.stats, same);
  }
};

// append_together with every allocation failing in turn, alone or with all that follow.
void check_together(std::vector<Session>& sessions, std::span<const SessionTokens> list,
                    Which which) {
  const AllOf before(sessions);
  long number = 0, failures = 0;
  for (bool done = false; !done; ++number) {
    bool typed = true;
    {
      const FailAllocation fail(number, which);
      try {
        append_together(list);
        done = true;
      } catch (const std::bad_alloc&) {
        ++failures;
      } catch (const Error& error) {
        typed = error.code() == ErrorCode::out_of_memory;
        ++failures;
      }
    }
    INFO("allocation " << number << (which == Which::one ? "" : " and all behind it"));
    REQUIRE(typed);
    if (!done) REQUIRE(AllOf(sessions) == before);
  }
  CHECK(failures > 20);
}

TEST_CASE("RS-01 any allocation of append_together may fail, and every session is as before") {
  const Model model = load("fp8", "", 1024);
  const Tokens text = some_tokens(160, 12);
  const auto part = [&](std::size_t first, std::size_t count) {
    return std::span(text).subspan(first, count);
  };
  // Two of the three share pages, in which both go on.
  const auto with_a_past = [&] {
    std::vector<Session> sessions;
    sessions.emplace_back(model).append(part(0, 100));
    sessions.push_back(sessions[0].fork());
    sessions.emplace_back(model).append(part(100, 30));
    return sessions;
  };
  const Tokens next[] = {some_tokens(30, 1), some_tokens(1, 2), some_tokens(9, 3)};
  for (const Which which : {Which::one, Which::all}) {
    std::vector<Session> sessions = with_a_past();
    std::vector<SessionTokens> list;
    for (std::size_t i = 0; i < 3; ++i)
      list.push_back({.session = &sessions[i], .tokens = next[i]});
    check_together(sessions, list, which);
    std::vector<Session> alone = with_a_past();
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(equal(copy(alone[i].append(next[i])), sessions[i].logits()));
      CHECK(sessions[i].tokens().size() == alone[i].tokens().size());
    }
  }
  CHECK(model.free_cache_tokens() == 1024);
}

TEST_CASE("what a step allocates does not grow with the context") {
  const Model model = load("fp8", "", 2048, 64);
  const std::size_t scratch = model.memory_usage().activation_bytes;
  const Tokens text = some_tokens(2048, 12);
  Session session(model);
  const auto append = [&](std::size_t count) {
    session.append(std::span(text).subspan(session.tokens().size(), count));
  };
  // The least of some steps of `count` tokens: now and then the list of tokens itself grows.
  const auto measure = [&](std::size_t count) {
    long calls = 1 << 30;
    std::size_t bytes = std::size_t{1} << 40;
    for (int i = 0; i < 4; ++i) {
      const CountAllocations allocations;
      append(count);
      calls = std::min(calls, allocations.calls());
      bytes = std::min(bytes, allocations.bytes());
    }
    return std::pair{calls, bytes};
  };
  append(100);
  const auto [one, one_bytes] = measure(1);
  const auto [some, some_bytes] = measure(16);
  append(1600);
  const auto [late_one, late_one_bytes] = measure(1);
  const auto [late_some, late_some_bytes] = measure(16);
  CHECK(late_one == one);
  CHECK(late_some == some);
  CHECK(one_bytes < 16384);
  CHECK(some_bytes < 65536);
  const std::size_t pages = 1700 / 64 * sizeof(std::int32_t);  // lists of them, a few of each
  CHECK(late_one_bytes <= one_bytes + 4 * pages);
  CHECK(late_some_bytes <= some_bytes + 4 * pages);
  CHECK(model.memory_usage().activation_bytes == scratch);
}

}  // namespace
}  // namespace dsv32::test
