// The state law of the Engine: whatever runs beside an answer, however its prompt was cut, cached
// or preempted, its tokens and logprobs are those of Session::generate alone, bit for bit.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dsv32/engine.h"

#include "tests/engine/engines.h"
#include "tests/model/forced_drafts.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

using conformance::Random;

// A request that runs, and what has come of its answers.
struct Asked {
  Request request{};
  bool cancelled = false;
};

struct Counts {
  std::uint64_t whole = 0, tokens = 0, hit_tokens = 0, preemptions = 0, cancelled = 0;
  std::uint64_t several_rows = 0, drafted = 0, accepted = 0, swapped = 0;
};

class Schedule {
 public:
  Schedule(const Model& alone, const Model& model, bool drafts, std::uint64_t seed, Counts& counts)
      : random_{seed}, alone_(alone), model_(model), drafts_(drafts), counts_(counts) {
    for (int i = 0; i < 3; ++i) texts_.push_back(random_tokens(random_, model, 140));
  }

  void run() {
    EngineOptions options;
    options.max_sequences = 1 + static_cast<int>(random_.below(16));
    options.step_target = std::chrono::milliseconds(random_.below(3));
    options.reuse_prefixes = random_.below(5) > 0;
    options.swap_bytes = random_.below(3) > 0 ? random_.below(5) << 17 : 0;
    if (drafts_) options.draft_tokens = static_cast<int>(random_.below(5));
    const ForcedDrafts forced([this, most = static_cast<std::size_t>(options.draft_tokens)] {
      return static_cast<int>(random_.below(most + 1));
    });
    {
      Engine engine(model_, options);
      const std::size_t requests = 3 + random_.below(is_slow() ? 4 : 7);
      while (asked_.size() < requests || !engine.idle()) {
        if (asked_.size() < requests && random_.below(3) == 0) submit(engine, some_request());
        if (!asked_.empty() && random_.below(12) == 0) cancel(engine);
        if (!engine.idle()) take(engine.step());
      }
      // The same once more: what was cold is warm.
      const std::vector<Tokens> prompts = prompts_;
      for (const Tokens& prompt : prompts) {
        if (random_.below(2) == 0) submit(engine, some_request(prompt));
      }
      while (!engine.idle()) take(engine.step());
      const EngineStats stats = engine.stats();
      counts_.preemptions += stats.preemptions;
      counts_.swapped += stats.swapped_tokens;
      for (std::size_t i = 0; i < 4; ++i) {
        CHECK(stats.accepted[i] <= stats.drafted[i]);
        counts_.drafted += stats.drafted[i];
        counts_.accepted += stats.accepted[i];
      }
      CHECK(stats.running + stats.waiting == 0);
      CHECK(stats.cache_tokens_used == 0);
      if (!options.reuse_prefixes) CHECK(stats.reused_tokens == 0);
    }
    CHECK(model_.free_cache_tokens() == total_);
    compare();
  }

 private:
  Tokens some_prompt() {
    const Tokens& text = texts_[random_.below(texts_.size())];
    Tokens prompt(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(1 + random_.below(140)));
    if (random_.below(3) == 0)
      prompt.resize(std::min<std::size_t>(140, 64 * (1 + random_.below(2))), 5);
    if (random_.below(3) == 0) {
      const Tokens tail = random_tokens(random_, model_, 1 + random_.below(20));
      prompt.insert(prompt.end(), tail.begin(), tail.end());
    }
    return prompt;
  }

  Request some_request() { return some_request(some_prompt()); }

  Request some_request(Tokens prompt) {
    Request request{.prompt = std::move(prompt)};
    SamplingParams sampling;
    sampling.temperature = random_.below(3) == 0 ? 0.0f : 1.0f;
    sampling.top_k = random_.below(3) == 0 ? 20 : 0;
    sampling.repetition_penalty = random_.below(3) == 0 ? 1.3f : 1.0f;
    sampling.presence_penalty = random_.below(3) == 0 ? 0.5f : 0.0f;
    sampling.top_logprobs = static_cast<int>(random_.below(4));
    if (random_.below(4) > 0) sampling.seed = random_.next();
    request.options.sampling = sampling;
    request.options.max_tokens = random_.below(8) == 0 ? 0 : 1 + random_.below(14);
    if (random_.below(4) == 0) request.options.stop_token_ids = {3, 7, 11, 19, 40, 77};
    if (random_.below(3) == 0)
      request.options.allowed = FewTokens(random_.next(), 1 + random_.below(3));
    request.n = random_.below(3) == 0 ? 1 + static_cast<int>(random_.below(4)) : 1;
    request.priority = static_cast<int>(random_.below(2) * random_.below(3));
    request.cache_scope = random_.below(6) == 0 ? "other" : "";
    request.tag = random_.next();
    return request;
  }

  void submit(Engine& engine, Request request) {
    prompts_.push_back(request.prompt);
    const RequestId id = engine.submit(request);
    asked_.emplace(id, Asked{.request = std::move(request)});
  }

  void cancel(Engine& engine) {
    auto it = asked_.begin();
    std::advance(it, random_.below(asked_.size()));
    it->second.cancelled = true;
    engine.cancel(it->first);
  }

  void take(const std::vector<RequestUpdate>& updates) {
    test::take(heard_, updates);
    std::size_t rows = 0;
    for (const RequestUpdate& update : updates) {
      REQUIRE(update.tag == asked_.at(update.id).request.tag);
      REQUIRE(!update.error);
      rows += update.tokens.empty() ? 0 : 1;
    }
    counts_.several_rows += rows > 1 ? 1 : 0;
  }

  // Each answer and what it is alone.
  void compare() {
    for (const auto& [id, asked] : asked_) {
      for (int i = 0; i < asked.request.n; ++i) compare(asked, i, heard_.at({id, i}));
    }
  }

  void compare(const Asked& asked, int index, const Heard& got) {
    REQUIRE(got.lasts == 1);
    const RequestUpdate& last = *got.last;
    const std::optional<std::uint64_t> seed = asked.request.options.sampling->seed;
    if (seed) REQUIRE(last.seed == *seed + static_cast<std::uint64_t>(index));
    counts_.tokens += got.tokens.size();
    const bool cut = last.finish_reason == FinishReason::cancelled;
    if (cut) {
      ++counts_.cancelled;
      REQUIRE(asked.cancelled);
      if (got.tokens.empty()) return;
    }
    const Generation want = alone(alone_, asked.request, last.seed);
    if (!cut) {
      ++counts_.whole;
      counts_.hit_tokens += last.usage.cached_tokens;
      return check_same(got, want);
    }
    REQUIRE(got.tokens.size() <= want.samples.size());
    for (std::size_t i = 0; i < got.tokens.size(); ++i)
      REQUIRE(same(got.tokens[i].sample, want.samples[i]));
  }

  Random random_;
  const Model& alone_;
  const Model& model_;
  const bool drafts_;
  Counts& counts_;
  const std::size_t total_ = model_.free_cache_tokens();
  std::vector<Tokens> texts_, prompts_;
  std::map<RequestId, Asked> asked_;
  All heard_;
};

void check_law(const Format& format, int schedules) {
  const std::uint64_t seed = new_seed();
  std::printf("DSV32_TEST_SEED=%llu repeats these schedules\n",
              static_cast<unsigned long long>(seed));
  const Model reference = load(format, 1024, 96);
  // Little room, so that answers are preempted, and much; steps of few rows and of many.
  const Model models[] = {load(format, 640, 24), load(format, 4096, 96), load(format, 512, 64)};
  Counts counts;
  const auto step = [&](int i) {
    INFO("schedule " << i);
    Schedule(reference, models[i % 3], format.mtp, seed + static_cast<std::uint64_t>(i) * 1000,
             counts)
        .run();
  };
  const auto met = [&] {
    return counts.whole > 3u * static_cast<unsigned>(schedules) &&
           counts.tokens > 2 * counts.whole && counts.hit_tokens > 0 && counts.cancelled > 0 &&
           counts.several_rows > 0 &&
           (!format.mtp || (counts.accepted > 0 && counts.drafted > counts.accepted)) &&
           ((counts.preemptions > 0 && counts.swapped > 0) ||
            schedules <= 20);  // a few may well do without
  };
  CHECK(run_until_met(schedules, step, met));
}

int some(int schedules) { return is_slow() ? std::max(6, schedules / 5) : schedules; }

// One case a format, so that they run side by side; 204 schedules in all.
TEST_CASE("engine_E1 answers are what they are alone: FP8") { check_law({"fp8"}, some(36)); }
TEST_CASE("engine_E1 answers are what they are alone: FP8 and MTP") {
  check_law({.name = "fp8", .mtp = true}, some(36));
}
TEST_CASE("engine_E1 answers are what they are alone: exact") {
  check_law({.name = "f32", .numerics = Numerics::exact}, some(24));
}
TEST_CASE("engine_E1 answers are what they are alone: exact and MTP") {
  check_law({.name = "f32", .numerics = Numerics::exact, .mtp = true}, some(24));
}
TEST_CASE("engine_E1 answers are what they are alone: BF16 pages") {
  check_law({.name = "bf16", .kv = KvFormat::bf16}, some(30));
}
TEST_CASE("engine_E1 answers are what they are alone: INT8 indexer keys") {
  check_law({.name = "fp8", .keys = IndexerKeys::int8}, some(24));
}
TEST_CASE("engine_E1 answers are what they are alone: no indexer") {
  check_law({"v3-dense"}, some(30));
}

TEST_CASE("engine_E1 answers are what they are alone, ten thousand schedules", "[.long]") {
  check_law({"fp8"}, 3000);
  check_law({.name = "fp8", .mtp = true}, 3000);
  check_law({.name = "f32", .numerics = Numerics::exact, .mtp = true}, 2000);
  check_law({.name = "bf16", .kv = KvFormat::bf16}, 1000);
  check_law({.name = "v3-dense"}, 1000);
}

}  // namespace
}  // namespace dsv32::test
