// Pages of preempted answers in host memory: the same bits, within what is allowed, where it pays.
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "lib/engine/swap_space.h"
#include "tests/engine/engines.h"
#include "tests/faults/seams.h"
#include "tests/model/forced_drafts.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

constexpr std::size_t kAlways = std::size_t{64} << 20;

// An answer that only its length ends.
Request request(const Model& model, std::size_t prompt, std::size_t length, std::uint64_t seed) {
  Request request{.prompt = some_tokens(prompt, seed)};
  request.options.sampling = SamplingParams{.seed = seed};
  for (const TokenId end : model.end_tokens())
    request.options.sampling->logit_bias.push_back(
        {.token = end, .bias = -std::numeric_limits<float>::infinity()});
  request.options.max_tokens = length;
  return request;
}

constexpr std::size_t kPool = 6 * 64;

// An answer that others of higher priority twice take the pages from.
struct Interrupted {
  explicit Interrupted(const Model& model) {
    asked[0] = request(model, 130, 90, 1);
    asked[0].prompt_logprobs = true;
    asked[1] = request(model, 200, 40, 2);
    asked[2] = request(model, 250, 70, 3);
    asked[1].priority = asked[2].priority = 1;
  }
  // Up to the first of its steps behind which it has lost its pages.
  void begin(Engine& engine) {
    ids[0] = engine.submit(asked[0]);
    for (int i = 0; i < 20; ++i) take(all, engine.step());
    ids[1] = engine.submit(asked[1]);
    while (engine.stats().preemptions == 0) take(all, engine.step());
  }
  void end(Engine& engine) {
    while (all[{ids[1], 0}].lasts == 0) take(all, engine.step());
    for (int i = 0; i < 20; ++i) take(all, engine.step());
    ids[2] = engine.submit(asked[2]);
    all = run(engine, std::move(all));
  }
  void check(const Model& roomy) {
    for (const std::size_t i : {0u, 1u, 2u})
      check_same(all.at({ids[i], 0}), alone(roomy, asked[i], *asked[i].options.sampling->seed));
  }

  Request asked[3];
  RequestId ids[3] = {};
  All all{};
};

EngineStats run_interrupted(const Format& format, const EngineOptions& options) {
  const Model roomy = load(format, 4096, 96), model = load(format, kPool, 96);
  Engine engine(model, options);
  Interrupted world(model);
  world.begin(engine);
  world.end(engine);
  world.check(roomy);
  CHECK(model.free_cache_tokens() == kPool);
  const EngineStats stats = engine.stats();
  CHECK(stats.preemptions == 2);
  CHECK(stats.prompt_tokens == stats.reused_tokens + stats.computed_tokens);
  return stats;
}

TEST_CASE("engine_E12 answers whose pages were swapped are those of a Session alone") {
  const Format formats[] = {{},
                            {.mtp = true},
                            {.kv = KvFormat::bf16, .mtp = true},
                            {.name = "f32", .numerics = Numerics::exact, .mtp = true}};
  for (const Format& format : formats) {
    for (const bool reuse : {false, true}) {
      if (is_slow() && reuse != format.mtp) continue;
      INFO(format.name << (format.mtp ? ", MTP" : "") << (reuse ? ", cached" : ""));
      const ForcedDrafts forced([] { return 2; });
      EngineOptions options{.reuse_prefixes = reuse, .draft_tokens = format.mtp ? 2 : 0};
      options.swap_bytes = kAlways;
      const EngineStats swapped = run_interrupted(format, options);
      CHECK(swapped.swapped_tokens > 0);
      if (reuse) continue;  // then some of it is still cached
      CHECK(swapped.recomputed_tokens == 0);
      options.swap_bytes = 0;
      const EngineStats computed = run_interrupted(format, options);
      CHECK(computed.swapped_tokens == 0);
      CHECK(computed.recomputed_tokens > 0);
    }
  }
}

TEST_CASE("pages that find no room in the swap are computed again") {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{1} << 14}) {  // less than two pages
    const EngineStats stats = run_interrupted({}, {.reuse_prefixes = false, .swap_bytes = bytes});
    CHECK(stats.swapped_tokens == 0);
    CHECK(stats.recomputed_tokens > 0);
  }
}

TEST_CASE("an answer that is cancelled while it is swapped takes its copy with it") {
  const Model model = load({.mtp = true}, kPool, 96);
  // Room for one copy at a time: what is not given back is missed.
  Engine engine(model, {.reuse_prefixes = false, .swap_bytes = std::size_t{200} << 10});
  int back = 0, gone = 0;  // before they were cancelled
  for (int steps = 0; steps < 80; steps += 7) {
    Interrupted world(model);
    const std::uint64_t before = engine.stats().preemptions,
                        swapped = engine.stats().swapped_tokens;
    world.ids[0] = engine.submit(world.asked[0]);
    for (int i = 0; i < 20; ++i) take(world.all, engine.step());
    world.ids[1] = engine.submit(world.asked[1]);
    while (engine.stats().preemptions == before) take(world.all, engine.step());
    for (int i = 0; i < steps; ++i) take(world.all, engine.step());
    engine.cancel(world.ids[0]);
    world.all = run(engine, std::move(world.all));
    CHECK(world.all.at({world.ids[0], 0}).last->finish_reason == FinishReason::cancelled);
    ++(engine.stats().swapped_tokens > swapped ? back : gone);
    CHECK(model.free_cache_tokens() == kPool);
  }
  CHECK(back > 0);
  CHECK(gone > 0);
}

TEST_CASE("any allocation may fail while pages are swapped") {
  const Model roomy = load({.mtp = true}, 4096, 96), model = load({.mtp = true}, kPool, 96);
  std::uint64_t swapped = 0;
  for (long number = 0; number < (is_slow() ? 3 : 24); ++number) {
    Engine engine(model, {.reuse_prefixes = false, .swap_bytes = kAlways});
    Interrupted world(model);
    world.ids[0] = engine.submit(world.asked[0]);
    for (int i = 0; i < 20; ++i) take(world.all, engine.step());
    world.ids[1] = engine.submit(world.asked[1]);
    while (!engine.idle()) {
      std::vector<RequestUpdate> updates;
      try {
        const FailAllocation fail(number, FailAllocation::Which::one);
        updates = engine.step();
      } catch (const std::bad_alloc&) {
        updates = engine.step();
      }
      take(world.all, updates);
    }
    for (const std::size_t i : {0u, 1u}) {
      const Heard& told = world.all.at({world.ids[i], 0});
      REQUIRE(told.lasts == 1);
      if (told.last->finish_reason == FinishReason::error) continue;
      check_same(told, alone(roomy, world.asked[i], *world.asked[i].options.sampling->seed));
    }
    swapped += engine.stats().swapped_tokens;
    CHECK(model.free_cache_tokens() == kPool);
  }
  CHECK(swapped > 0);
}

TEST_CASE("to copy pays where it takes less time both ways than to compute") {
  SwapSpace space(1000);
  CHECK(space.pays(1 << 30, 1e-6));  // nothing is known yet
  CHECK_FALSE(space.pays(1 << 30, 0.0));
  space.observe(100, 1.0);
  CHECK(space.pays(100, 2.1));
  CHECK_FALSE(space.pays(100, 1.9));
  for (int i = 0; i < 100; ++i) space.observe(100, 0.1);
  CHECK(space.pays(100, 0.21));
  CHECK_FALSE(space.pays(100, 0.19));
}

TEST_CASE("the swap's memory goes back where it came from") {
  SwapSpace space(1000);
  {
    SwapSpace::Memory some(space, 600);
    CHECK(some.bytes().size() == 600);
    CHECK(space.has_room(400));
    CHECK_FALSE(space.has_room(401));
    SwapSpace::Memory other(std::move(some));
    CHECK_FALSE(space.has_room(401));
    other = SwapSpace::Memory(space, 300);
    CHECK(space.has_room(700));
    CHECK_FALSE(space.has_room(701));
  }
  CHECK(space.has_room(1000));
}

}  // namespace
}  // namespace dsv32::test
