// How many drafts pay: found out, kept up to date, at a small price.
#include "lib/engine/draft_policy.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// A machine and a text: what drafts cost, and how often they are right.
struct World {
  double draft = 0.05, row = 0.5,
         accepted = 0.8;  // seconds of a draft and of a row beside the first
  double seconds = 0.0, tokens = 0.0;
  std::uint64_t state = 1;

  double chance() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
  }
  void step(DraftPolicy& policy, double noise) {
    const int drafts = policy.next();
    double time = 1.0 + drafts * (draft + row), got = 1.0;
    time *= 1.0 + noise * (chance() - 0.5);
    for (int i = 0; i < drafts && chance() < accepted; ++i) got += 1.0;
    seconds += time;
    tokens += got;
    policy.observe(drafts, time, got);
  }
  double run(DraftPolicy& policy, int steps, double noise = 0.1) {
    seconds = tokens = 0.0;
    for (int i = 0; i < steps; ++i) step(policy, noise);
    return tokens / seconds;
  }
  // Of as many drafts each time.
  double rate(int drafts) const {
    double expected = 1.0;
    for (int i = 1; i <= drafts; ++i) expected += std::pow(accepted, i);
    return expected / (1.0 + drafts * (draft + row));
  }
};

TEST_CASE("drafts that do not pay cost next to nothing, from the first step on") {
  for (const double accepted : {0.0, 0.1, 0.3}) {
    for (const double row : {0.6, 1.0, 3.0}) {
      World world{.row = row, .accepted = accepted};
      for (const int steps : {64, 256, 4096}) {
        DraftPolicy policy(4);
        INFO(accepted << " accepted, a row costs " << row << ", " << steps << " steps");
        CHECK(world.run(policy, steps) >= (steps < 100 ? 0.95 : 0.98) * world.rate(0));
      }
    }
  }
}

TEST_CASE("drafts that pay are made, as many as are best") {
  struct Case {
    double draft, row, accepted;
    int best;
  };
  const Case cases[] = {
      {0.02, 0.1, 0.9, 4}, {0.05, 0.4, 0.95, 4}, {0.02, 0.4, 0.8, 2}, {0.02, 0.05, 0.3, 2}};
  for (const Case& c : cases) {
    World world{.draft = c.draft, .row = c.row, .accepted = c.accepted};
    double best = 0.0;
    for (int i = 0; i <= 4; ++i) best = std::max(best, world.rate(i));
    INFO("draft " << c.draft << ", row " << c.row << ", accepted " << c.accepted);
    REQUIRE(world.rate(c.best) > 0.97 * best);
    DraftPolicy policy(4);
    world.run(policy, 400);
    CHECK(world.run(policy, 4000) > 0.93 * best);
    DraftPolicy one(1);
    world.run(one, 400);
    CHECK(world.run(one, 4000) > 0.95 * std::max(world.rate(0), world.rate(1)));
  }
}

TEST_CASE("what pays may change") {
  World world{.draft = 0.02, .row = 0.3, .accepted = 0.9};
  DraftPolicy policy(4);
  world.run(policy, 1000);
  world.accepted = 0.0;
  CHECK(world.run(policy, 2000) >= 0.95 * world.rate(0));
  world.accepted = 0.95;
  world.run(policy, 2000);
  CHECK(world.run(policy, 2000) > 1.2 * world.rate(0));
}

TEST_CASE("no drafts where none are wanted, and none before a step was seen") {
  DraftPolicy none(0), four(4);
  for (int i = 0; i < 100; ++i) {
    CHECK(none.next() == 0);
    none.observe(0, 1.0, 1.0);
  }
  CHECK(four.next() == 0);
  four.observe(0, 0.0, 1.0);  // a clock that stands says nothing
  CHECK(four.next() == 0);
}

}  // namespace
}  // namespace dsv32::test
