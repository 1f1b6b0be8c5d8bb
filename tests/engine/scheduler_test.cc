// The scheduler on fake passes and a fake clock: what its users judge, in numbers.
#include "lib/engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/engine/fake_world.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/resident_bytes.h"
#include "tests/support/sanitized.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

using conformance::Random;

constexpr double kTarget = 0.2;  // seconds
constexpr std::size_t kRows = 2048;

SchedulerOptions options(int max_sequences = 16) {
  return {.max_sequences = max_sequences, .max_rows = kRows, .step_seconds = kTarget};
}

TEST_CASE("the cost model finds what steps of a line take, and does not forget prompts") {
  Random random{new_seed()};
  CostModel model;
  const auto seconds = [](const StepWork& work) {
    return 0.01 + 0.002 * work.rows + 0.0004 * work.prompt + 2e-8 * work.attended;
  };
  const auto observe = [&](bool prompts) {
    StepWork work;
    const std::size_t answers = random.below(20);
    for (std::size_t i = 0; i <= answers; ++i) work.add(random.below(20000), 1);
    if (prompts) work.add(random.below(20000), 2 + random.below(500));
    model.observe(work, seconds(work));
  };
  for (int i = 0; i < 100; ++i) observe(i % 2 == 0);
  const auto check = [&] {
    StepWork work;
    work.add(9000, 1);
    work.add(9000, 300);
    CHECK(model.seconds(work) == Approx(seconds(work)).epsilon(0.01));
    const std::size_t count = model.prompt_tokens(0.1, 5000);
    CHECK(model.prompt_seconds(5000, count) == Approx(0.1).epsilon(0.02));
    CHECK(model.prompt_tokens(0.0, 5000) == 0);
  };
  check();
  for (int i = 0; i < 2000; ++i) observe(false);
  check();
}

TEST_CASE("the cost model of equal steps has no negative factors and a limit that doubles") {
  CostModel model;
  CHECK(model.seconds({.rows = 4, .prompt = 100, .attended = 1000}) == 0.0);
  CHECK(model.prompt_limit() == 64);
  for (int i = 0; i < 50; ++i) model.observe({.rows = 4, .attended = 4000.0 + i}, 0.05 - i * 1e-5);
  CHECK(model.seconds({.rows = 4, .attended = 4000}) == Approx(0.05).epsilon(0.02));
  CHECK(model.seconds({.rows = 8, .attended = 8000}) >= 0.049);
  model.observe({.rows = 4, .prompt = 64, .attended = 4000}, 0.08);
  CHECK(model.prompt_limit() == 128);
}

// A stream beside prompts without end.
TEST_CASE("engine_E2 arriving prompts do not starve answers that run") {
  for (const double noise : {0.02, 0.1}) {
    for (const double attended : {1e-9, 2e-7}) {
      FakeWorld world(options(), 100000, {.attended = attended, .noise = noise}, new_seed());
      FakeJob& stream = world.submit(500, 3000);
      while (!stream.done) {
        std::size_t waiting = world.scheduler.waiting().size();
        for (; waiting < 3; ++waiting) world.submit(4096, 50);
        REQUIRE(world.step());
      }
      INFO("noise " << noise << ", attended " << attended);
      CHECK(world.faults == 0);
      CHECK(percentile(stream.gaps, 0.5) <= 1.1 * kTarget);
      CHECK(percentile(stream.gaps, 0.5) >= 0.7 * kTarget);  // the time is used
      CHECK(percentile(stream.gaps, 0.99) <= 1.5 * kTarget);
      CHECK(percentile(stream.gaps, 1.0) <= 2.5 * kTarget);
    }
  }
}

TEST_CASE(
    "engine_E2 where answers alone take longer than a step should, a step takes a third more") {
  FakeWorld world(options(), 100000, {.row = 0.03, .noise = 0.02}, new_seed());
  std::vector<FakeJob*> streams;
  for (int i = 0; i < 12; ++i) streams.push_back(&world.submit(64, 1500));
  while (!streams.back()->done) {
    if (world.scheduler.waiting().size() < 2) world.submit(4096, 1);
    REQUIRE(world.step());
  }
  const double answers = 0.010 + 12 * 0.03;
  CHECK(percentile(streams[0]->gaps, 0.5) <= 1.1 * answers / 0.75);
  CHECK(percentile(streams[0]->gaps, 0.99) <= 1.5 * answers / 0.75);
}

TEST_CASE("engine_E2 the first prompt beside a stream comes in short pieces, then in longer ones") {
  FakeWorld world(options(), 1000, {.prompt = 0.004}, 1);
  FakeJob& stream = world.submit(1, 1000);
  for (int i = 0; i < 20; ++i) world.step();
  const FakeJob& prompt = world.submit(4096, 1);
  REQUIRE(world.step());
  CHECK(prompt.cached == 64);  // nobody knows yet how long that takes
  stream.gaps.clear();
  while (!prompt.done) REQUIRE(world.step());
  CHECK(percentile(stream.gaps, 1.0) <= 1.5 * kTarget);
  CHECK(percentile(stream.gaps, 0.5) >= 0.8 * kTarget);
}

TEST_CASE("engine_E3 prompts get a quarter of the time while they wait") {
  for (const double row : {0.002, 0.012, 0.03}) {
    FakeWorld world(options(), 100000, {.row = row, .noise = 0.02}, new_seed());
    for (int i = 0; i < 12; ++i) world.submit(64, 1 << 20);
    for (int i = 0; i < 100; ++i) world.step();
    double all = 0.0;
    world.prompt_seconds = 0.0;
    for (int i = 0; i < 1000; ++i) {
      if (world.scheduler.waiting().empty()) world.submit(4096, 1);
      REQUIRE(world.step());
      all += world.last_seconds;
    }
    INFO("a row takes " << row);
    CHECK(world.prompt_seconds / all >= 0.22);
  }
}

TEST_CASE("engine_E4 a short prompt does not wait for a long one") {
  for (const double prompt : {0.0005, 0.004}) {  // seconds a token: 400, or 50 of them a step
    for (const int running : {0, 4}) {
      const FakeCosts costs{.prompt = prompt};
      FakeWorld alone(options(), 100000, costs, 1);
      FakeJob& own = alone.submit(64, 2);
      alone.run();
      FakeWorld world(options(), 100000, costs, new_seed());
      for (int i = 0; i < running; ++i) world.submit(100, 10000);
      for (int i = 0; i < 20; ++i) world.step();
      world.submit(100000, 10);
      for (int i = 0; i < 10; ++i) REQUIRE(world.step());
      FakeJob& late = world.submit(64, 2);
      while (late.first < 0.0) REQUIRE(world.step());
      INFO(prompt << " seconds a token, " << running << " answers run");
      CHECK(late.first_step - late.arrived_step <= own.first_step + 3);
    }
  }
}

TEST_CASE("engine_E5 nobody is overtaken more than max_sequences times") {
  for (const int slots : {1, 4, 16}) {
    FakeWorld world(options(slots), 128, {.noise = 0.02}, new_seed());
    // Hot ones, of which a hit makes half, never end to arrive; the cold one needs the whole pool.
    const auto keep_hot = [&] {
      while (world.scheduler.waiting().size() < 8) world.submit(256, 20, 0, 128);
    };
    for (int i = 0; i < 50; ++i) {
      keep_hot();
      REQUIRE(world.step());
    }
    FakeJob& cold = world.submit(64 * 120, 10);
    while (cold.first < 0.0) {
      keep_hot();
      REQUIRE(world.step());
      REQUIRE(world.steps < 100000);
    }
    int overtook = 0;
    for (const FakeJob& job : world.jobs)
      overtook +=
          job.arrival > cold.arrival && job.ran > 0 && job.began_step < cold.began_step ? 1 : 0;
    INFO(slots << " slots");
    CHECK(overtook <= slots);
    CHECK(world.faults == 0);
  }
}

TEST_CASE("engine_E5 higher priorities go first, and take the slot of a lower one") {
  FakeWorld world(options(2), 1000, {}, new_seed());
  FakeJob& low = world.submit(100, 1000);
  FakeJob& older = world.submit(100, 1000);
  for (int i = 0; i < 20; ++i) world.step();
  FakeJob& waits = world.submit(100, 10);
  FakeJob& high = world.submit(100, 10, 1);
  world.step();
  CHECK(high.place == Job::Place::running);
  CHECK(older.place == Job::Place::waiting);  // the youngest of the lowest priority
  CHECK(older.preemptions == 1);
  CHECK(low.place == Job::Place::running);
  CHECK(waits.place == Job::Place::waiting);
  world.run();
  CHECK(world.faults == 0);
  CHECK((high.done && low.done && older.done && waits.done));
  CHECK(high.last < older.last);
  CHECK(older.drawn == 1000);
}

TEST_CASE("engine_E6 a pool of three fifths of the demand: few preemptions, little is run again") {
  const std::uint64_t seed = new_seed();
  INFO("DSV32_TEST_SEED=" << seed);
  Random random{seed};
  std::uint64_t met[3] = {};  // preemptions, by the slots
  const auto run = [&](int round) {
    const int which = round % 3, slots = 8 << which;
    const std::size_t demand = static_cast<std::size_t>(slots) * pages_for(256 + 1024);
    FakeWorld world(options(slots), demand * 6 / 10, {.noise = 0.05}, random.next());
    for (int i = 0; i < 30 * slots; ++i) {  // so many that chance decides nothing
      world.submit(64 + random.below(384), 256 + random.below(1536));
      if (i >= slots && random.below(2) == 0)
        for (int steps = 0; steps < 20; ++steps) world.step();
    }
    world.run();
    std::vector<double> preemptions;
    double again = 0.0, ran = 0.0;
    for (const FakeJob& job : world.jobs) {
      REQUIRE(job.done);
      preemptions.push_back(job.preemptions);
      again += static_cast<double>(job.again_ran);
      ran += static_cast<double>(job.ran);
    }
    INFO(slots << " slots, " << world.scheduler.preemptions() << " preemptions");
    met[which] += world.scheduler.preemptions();
    CHECK(percentile(preemptions, 0.95) <= 1.0);
    CHECK(percentile(preemptions, 1.0) <= 4.0);
    CHECK(again / ran <= 0.15);
    CHECK(world.used == 0);
    CHECK(world.faults == 0);
  };
  CHECK(run_until_met(3, run, [&] { return met[0] > 0 && met[1] > 0 && met[2] > 0; }));
}

// Whatever the state: what is planned fits, something is planned if anything can run, all ends.
void random_states(std::size_t states, std::uint64_t seed) {
  INFO("DSV32_TEST_SEED=" << seed);
  Random random{seed};
  for (std::size_t done = 0; done < states;) {
    const int slots = 1 + static_cast<int>(random.below(12));
    const std::size_t rows = random.below(3) == 0 ? 1 + random.below(8) : 16 + random.below(512);
    const std::size_t pages = 4 + random.below(60);
    FakeWorld world(
        {.max_sequences = slots,
         .max_rows = rows,
         .step_seconds = random.below(4) == 0 ? 0.0 : 0.02 + 0.2 * double(random.below(4))},
        pages, {.prompt = 0.0005 * double(1 + random.below(20)), .noise = 0.3}, random.next());
    for (std::size_t round = 0; round < 100 && done < states; ++round, ++done) {
      for (std::size_t i = random.below(4); i > 0; --i) {
        const std::size_t prompt = 1 + random.below(std::min<std::size_t>(64 * pages, 1500));
        const std::size_t output =
            1 + random.below(std::min<std::size_t>(64 * pages - prompt + 1, 300));
        world.submit(prompt, output, static_cast<int>(random.below(3)), random.below(prompt));
      }
      if (random.below(5) == 0) {  // Sessions come and go
        const std::size_t free = world.total - world.used;
        world.pinned = random.below(2) == 0 ? 0 : random.below(free + 1);
      }
      for (FakeJob& job : world.jobs) {
        if (!job.done && random.below(100) == 0) world.cancel(job);
      }
      world.step();
      bool could = false;
      for (const Job* job : world.scheduler.running()) could = could || job->tokens > job->cached;
      if (could && world.pinned == 0) REQUIRE(world.step());
      REQUIRE(world.faults == 0);
    }
    world.pinned = 0;
    world.run();
    for (const FakeJob& job : world.jobs) REQUIRE(job.done);
    REQUIRE(world.faults == 0);
    REQUIRE(world.used == 0);
    REQUIRE(world.scheduler.running().empty());
    REQUIRE(world.scheduler.waiting().empty());
  }
}

TEST_CASE("engine_E3 in every state something runs that can, and all ends") {
  random_states(5000, new_seed());
}
TEST_CASE("engine_E3 a million states", "[.long]") { random_states(1000000, new_seed()); }

// Requests that come as fast as they end, and of which nobody keeps anything.
void memory_of(std::size_t requests) {
  const std::uint64_t seed = new_seed();
  INFO("DSV32_TEST_SEED=" << seed);
  FakeWorld world(options(32), 400, {}, seed);
  const auto serve = [&](std::size_t count) {
    for (std::size_t come = 0; come < count || !world.jobs.empty();) {
      for (; come < count && world.jobs.size() < 64; ++come)
        world.submit(1 + world.random.below(300), 1 + world.random.below(20));
      REQUIRE(world.step());
      world.jobs.remove_if([](const FakeJob& job) { return job.done; });
    }
  };
  serve(requests / 10);
  const std::size_t before = resident_bytes();
  serve(requests);
  REQUIRE(world.faults == 0);
  CHECK(world.used == 0);
  if (kSanitized) return;
  CHECK(resident_bytes() <= before + requests + 64 * 1024);  // a byte each, and the heap's pages
}

TEST_CASE("engine_E9 a scheduler does not grow with the requests that have been") {
  memory_of(kSanitized ? 1000 : 20000);
}
TEST_CASE("engine_E9 a million requests", "[.long]") { memory_of(1000000); }

TEST_CASE("engine_E20 equal answers get equal parts, and slots do not stand empty") {
  for (const std::size_t rows : {2048, 12}) {  // 12: fewer than there are slots
    FakeWorld world({.max_sequences = 16, .max_rows = rows, .step_seconds = kTarget}, 4000, {},
                    new_seed());
    for (int i = 0; i < 1000; ++i) world.submit(100, 100);
    std::size_t used = 0, all = 0;
    while (world.step()) {
      if (world.scheduler.waiting().empty()) continue;
      used += world.scheduler.running().size();
      all += 16;
    }
    double sum = 0.0, squares = 0.0;
    for (const FakeJob& job : world.jobs) {
      REQUIRE(job.done);
      const double speed = static_cast<double>(job.drawn) / (job.last - job.first);
      sum += speed;
      squares += speed * speed;
    }
    INFO(rows << " rows");
    CHECK(sum * sum / (1000.0 * squares) >= 0.98);
    CHECK(static_cast<double>(used) / static_cast<double>(all) >= 0.9);
  }
}

TEST_CASE("engine_E3 with room for one row a step prompts and answers take turns") {
  FakeWorld world({.max_sequences = 3, .max_rows = 1, .step_seconds = kTarget}, 100, {}, 1);
  FakeJob& stream = world.submit(1, 200);
  world.step();
  FakeJob& prompt = world.submit(100, 1);
  while (!prompt.done) {
    REQUIRE(world.step());
    REQUIRE(world.steps < 300);
  }
  CHECK(stream.drawn > 50);
  CHECK(world.faults == 0);
}

TEST_CASE("what a Session holds keeps only those waiting that it keeps out") {
  FakeWorld world(options(4), 100, {}, 1);
  world.pinned = 90;
  FakeJob& large = world.submit(64 * 50, 5);
  std::vector<FakeJob*> small;
  for (int i = 0; i < 20; ++i) small.push_back(&world.submit(100, 5));
  world.run();
  for (const FakeJob* job : small) CHECK(job->done);
  CHECK(large.place == Job::Place::waiting);
  world.pinned = 0;
  world.run();
  CHECK(large.done);
}

TEST_CASE("an answer comes back only when all it had fits") {
  FakeWorld world(options(2), 30, {.noise = 0.0}, 1);
  FakeJob& older = world.submit(64 * 8, 64 * 20);
  FakeJob& younger = world.submit(64 * 8, 64 * 20);
  while (younger.preemptions == 0) REQUIRE(world.step());
  const std::size_t had = younger.tokens;
  while (younger.place == Job::Place::waiting) {
    REQUIRE(world.step());
    if (younger.place == Job::Place::running) CHECK(older.done);
  }
  CHECK(world.free() + younger.held >= pages_for(had) + 1);
  world.run();
  CHECK(younger.preemptions == 1);
  CHECK((older.done && younger.done));
}

}  // namespace
}  // namespace dsv32::test
