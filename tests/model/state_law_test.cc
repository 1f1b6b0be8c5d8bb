// The state law on random schedules: a token's logits have the same bits however it was fed, for
// every kernel set and number of threads.
#include <memory>
#include <utility>

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// Sessions that append, truncate, fork, sync and interleave at random: after every step the logits
// are `want`, those of the same tokens fed one by one.
void check_schedules(const Model& model, const Model& other, const Tokens& text,
                     const std::vector<Bits>& want, conformance::Random& random) {
  std::vector<std::unique_ptr<Session>> sessions;
  sessions.push_back(std::make_unique<Session>(model));
  sessions.push_back(std::make_unique<Session>(other));
  std::size_t compared = 0, wrong = 0;
  const auto compare = [&](std::size_t length, std::span<const float> logits) {
    wrong += equal(want[length - 1], logits) ? 0 : 1;
    ++compared;
  };
  const int steps = is_slow() ? 25 : 50;
  for (int step = 0; step < steps; ++step) {
    Session& session = *sessions[random.below(sessions.size())];
    const std::size_t length = session.tokens().size();
    switch (random.below(5)) {
      case 0:
        session.truncate(random.below(length + 1));
        break;
      case 1:
        if (sessions.size() < 5) sessions.push_back(std::make_unique<Session>(session.fork()));
        break;
      case 2:
        if (sessions.size() > 2) sessions.pop_back();
        break;
      case 3: {
        const std::size_t to = 1 + random.below(text.size());
        compare(to, session.sync(std::span(text).first(to)));
        break;
      }
      default: {
        if (length == text.size()) break;
        const std::size_t n = 1 + random.below(std::min<std::size_t>(text.size() - length, 70));
        compare(length + n, session.append(std::span(text).subspan(length, n)));
      }
    }
  }
  CHECK(compared > 4);
  CHECK(wrong == 0);
}

Model load_with(const std::string& name, Numerics numerics, const std::string& kernels, int threads,
                int batch, IndexerKeys keys = IndexerKeys::fp8) {
  LoadOptions options;
  options.numerics = numerics;
  options.indexer_keys = keys;
  options.kv_cache_tokens = 4096;
  options.max_batch_tokens = batch;
  options.backend.num_threads = threads;
  options.backend.kernel_set = kernels;
  return Model::load(golden(name), options);
}

void check_law(const std::string& name, std::uint64_t seed, IndexerKeys keys = IndexerKeys::fp8) {
  conformance::Random random{seed};
  for (const std::string& kernels : kernel_sets()) {
    for (const Numerics numerics : {Numerics::native, Numerics::exact}) {
      if (numerics == Numerics::exact && keys == IndexerKeys::int8) continue;  // refused
      const Model one = load_with(name, numerics, kernels, 1, 96, keys);
      CHECK(one.kernel_set() == kernels);
      REQUIRE((one.config().index_topk == 0 || one.config().index_topk < 100));
      const Tokens text = random_tokens(random, one, 150);  // well beyond index_topk
      const std::vector<Bits> want = one_by_one(one, text);
      for (const auto& [threads, batch] : {std::pair{3, 17}, {2, 64}, {8, 5}}) {
        if (is_slow() && threads != 3) continue;
        INFO(kernels << ", threads " << threads);
        check_schedules(one, load_with(name, numerics, kernels, threads, batch, keys), text, want,
                        random);
      }
    }
  }
}

// One case for each checkpoint, so that they run side by side.
TEST_CASE("the state law holds on random schedules: FP8") { check_law("fp8", 1); }
TEST_CASE("the state law holds on random schedules: FP8 with odd scales") {
  check_law("fp8-odd-scales", 2);
}
TEST_CASE("the state law holds on random schedules: BF16") { check_law("bf16", 3); }
TEST_CASE("the state law holds on random schedules: no indexer") { check_law("v3-dense", 4); }

TEST_CASE("the state law holds on random schedules: INT8 indexer keys") {
  check_law("fp8", 5, IndexerKeys::int8);
}

}  // namespace
}  // namespace dsv32::test
