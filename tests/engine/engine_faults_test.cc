// Engine: any allocation may fail, and one answer's numbers may be none; nothing is lost.
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "lib/engine/scheduler.h"
#include "tests/conformance/conformance.h"
#include "tests/engine/engines.h"
#include "tests/engine/fake_world.h"
#include "tests/faults/seams.h"
#include "tests/model/forced_drafts.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

using Which = FailAllocation::Which;

Model small(bool mtp, std::size_t cache_tokens = 1024) {
  LoadOptions options;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = 48;
  options.mtp = mtp;
  options.backend.num_threads = 1;
  return Model::load(golden("fp8"), options);
}

Request request(std::size_t prompt, std::uint64_t seed, int n = 1) {
  Request request;
  request.prompt = some_tokens(prompt, seed);
  request.options.sampling = SamplingParams{.top_logprobs = 2, .seed = seed};
  request.options.max_tokens = 6;
  request.n = n;
  return request;
}

bool is_of_memory(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const Error& found) {
    return found.code() == ErrorCode::out_of_memory;
  } catch (...) {
    return false;
  }
}

// `call` with allocation number `number` failing; whether it was reached.
template <class Call>
bool with_fault(long number, Which which, Call&& call) {
  const FailAllocation fail(number, which);
  try {
    call();
  } catch (const std::bad_alloc&) {
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
  }
  return FailAllocation::happened();
}

TEST_CASE("any allocation of submit may fail, and the engine is as before") {
  const Model model = small(false);
  Engine engine(model);
  const Request asked = request(70, 1, 3);
  for (const Which which : {Which::one, Which::all}) {
    long number = 0;
    for (bool failed = true; failed; ++number) {
      Request one = asked;
      RequestId id = 0;
      failed = with_fault(number, which, [&] { id = engine.submit(std::move(one)); });
      if (id == 0) {
        REQUIRE(failed);
        REQUIRE(engine.idle());
        REQUIRE(engine.stats().waiting == 0);
      }
      const All all = run(engine);
      REQUIRE(all.size() == (id == 0 ? 0u : 3u));
    }
    CHECK(number > 20);
  }
  CHECK(model.free_cache_tokens() == 1024);
}

// A run in which the allocation of that number in one of the steps fails: each answer ends once, as
// alone or with the failure; and whether there was one.
bool run_with_fault(const Model& model, const std::vector<Request>& asked,
                    const std::vector<std::vector<Generation>>& want, int at_step, long number,
                    Which which, int drafts) {
  const ForcedDrafts forced([] { return 2; });
  Engine engine(model, {.draft_tokens = drafts});
  std::vector<RequestId> ids;
  for (const Request& one : asked) ids.push_back(engine.submit(one));
  All all;
  bool happened = false;
  for (int step = 0; !engine.idle(); ++step) {
    std::vector<RequestUpdate> updates;
    if (step == at_step) {
      happened = with_fault(number, which, [&] { updates = engine.step(); });
    } else {
      updates = engine.step();
    }
    take(all, updates);
    REQUIRE(step < 1000);
  }
  std::size_t answers = 0;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    for (int index = 0; index < asked[i].n; ++index, ++answers) {
      REQUIRE(all.count({ids[i], index}) == 1);
      const Heard& told = all.at({ids[i], index});
      REQUIRE(told.lasts == 1);
      if (told.last->finish_reason == FinishReason::error) {
        REQUIRE(is_of_memory(told.last->error));
        continue;
      }
      check_same(told, want[i][static_cast<std::size_t>(index)]);
    }
  }
  REQUIRE(all.size() == answers);
  return happened;
}

TEST_CASE("any allocation of a step may fail: no update is lost, and answers are what they are") {
  for (const bool mtp : {false, true}) {
    const Model model = small(mtp);
    const std::vector<Request> asked = {request(70, 1), request(30, 2, 2), request(1, 3)};
    std::vector<std::vector<Generation>> want;
    for (const Request& one : asked) {
      std::vector<Generation>& answers = want.emplace_back();
      for (int i = 0; i < one.n; ++i)
        answers.push_back(
            alone(model, one, *one.options.sampling->seed + static_cast<std::uint64_t>(i)));
    }
    for (const Which which : {Which::one, Which::all}) {
      for (const int step : {0, 1, 2, 4, 7}) {
        long number = 0;
        const long stride = kSanitized ? 23 : which == Which::all || step > 2 ? 7 : 2;
        while (run_with_fault(model, asked, want, step, number, which, mtp ? 2 : 0))
          number += stride;
        INFO("step " << step << ", " << number << " allocations");
        CHECK(number > 10);
        CHECK(model.free_cache_tokens() == 1024);
      }
    }
  }
}

TEST_CASE("engine_E19 plan and commit allocate nothing while answers run") {
  FakeWorld world({.max_sequences = 64, .max_rows = 2048, .step_seconds = 0.2}, 10000, {}, 1);
  for (int i = 0; i < 64; ++i) world.submit(100, 1000);
  for (int i = 0; i < 50; ++i) world.step();
  const CountAllocations allocations;
  for (int i = 0; i < 50; ++i) {
    REQUIRE(world.scheduler.plan(world).size() == 64);
    world.scheduler.commit(0.05);
    for (Job* job : world.scheduler.running()) job->tokens = job->cached + 1;
  }
  CHECK(allocations.calls() == 0);
}

TEST_CASE("engine_E19 plan and commit of 64 answers take less than 300 microseconds") {
  using Clock = std::chrono::steady_clock;
  FakeWorld world({.max_sequences = 64, .max_rows = 2048, .step_seconds = 0.2}, 100000, {}, 1);
  for (int i = 0; i < 64; ++i) world.submit(100, 100000);
  for (int i = 0; i < 1000; ++i) world.submit(100, 10);  // that wait
  for (int i = 0; i < 50; ++i) world.step();
  double best = 1.0;
  for (int i = 0; i < 200; ++i) {
    const Clock::time_point start = Clock::now();
    REQUIRE(world.scheduler.plan(world).size() == 64);
    world.scheduler.commit(0.05);
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    for (Job* job : world.scheduler.running()) job->tokens = job->cached + 1;
  }
  if (!kSanitized) CHECK(best <= 300e-6);
}

TEST_CASE("an answer whose logits are no numbers ends with that error, alone") {
  // A token whose embedding is NaN.
  constexpr TokenId kSpoiled = 7;
  Tensors tensors = tensors_of(golden_model("bf16"));
  Tensor& embedding = tensors.at("model.embed_tokens.weight");
  const std::size_t row = embedding.data.size() / static_cast<std::size_t>(embedding.shape[0]);
  const std::uint32_t nan = 0x7FC07FC0;  // of BF16, twice
  for (std::size_t i = 0; i + 4 <= row; i += 4)
    std::memcpy(embedding.data.data() + kSpoiled * row + i, &nan, 4);
  const TempFolder folder;
  write_shard(folder.path() / "model.safetensors", tensors);
  write_text(folder.path() / "config.json",
             conformance::read_file(golden_model("bf16") / "config.json"));
  LoadOptions options;
  options.kv_cache_tokens = 1024;
  options.backend.num_threads = 1;
  const Model model = Model::load(folder.path(), options);
  Engine engine(model);
  Request bad = request(20, 1), good = request(20, 2);
  std::erase(bad.prompt, kSpoiled);
  std::erase(good.prompt, kSpoiled);
  good.options.sampling->logit_bias = {
      {.token = kSpoiled, .bias = -std::numeric_limits<float>::infinity()}};
  bad.prompt.push_back(kSpoiled);
  const RequestId bad_id = engine.submit(bad), good_id = engine.submit(good);
  const All all = run(engine);
  const Heard& told = all.at({bad_id, 0});
  REQUIRE(told.last->finish_reason == FinishReason::error);
  CHECK(told.tokens.empty());
  try {
    std::rethrow_exception(told.last->error);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::numeric);
  }
  check_same(all.at({good_id, 0}), alone(model, good, 2));
  CHECK(engine.stats().failed == 1);
  CHECK(engine.stats().cache_tokens_used == 0);
}

}  // namespace
}  // namespace dsv32::test
