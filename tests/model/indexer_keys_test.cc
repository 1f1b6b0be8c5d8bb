// INT8 indexer keys: what refuses them, what they cost, and which keys they choose.
#include <algorithm>
#include <iostream>

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

Model load_keys(const std::string& name, IndexerKeys keys, const std::string& kernels = "") {
  LoadOptions options;
  options.backend = {.num_threads = 1, .kernel_set = kernels};
  options.indexer_keys = keys;
  options.kv_cache_tokens = 512;
  options.max_batch_tokens = 96;
  return Model::load(golden(name), options);
}

// Positions that each layer and query reads, in rows of index_topk.
std::vector<std::int32_t> selection(const Model& model, const Tokens& text) {
  std::vector<std::int32_t> chosen;
  Session session(model);
  session.observe({.selection = true}, [&](const Trace& trace) {
    chosen.insert(chosen.end(), trace.selection.begin(), trace.selection.end());
  });
  session.append(text);
  return chosen;
}

// The part of `want` that `got` holds, over rows that had to choose.
double recall(const std::vector<std::int32_t>& got, const std::vector<std::int32_t>& want,
              std::size_t top) {
  REQUIRE(got.size() == want.size());
  std::size_t found = 0, all = 0;
  for (std::size_t i = 0; i < want.size(); i += top) {
    const auto begin = want.begin() + static_cast<std::ptrdiff_t>(i);
    const auto end = begin + static_cast<std::ptrdiff_t>(top);
    // Without a choice a row is 0, 1, 2 ..
    if (end[-1] < static_cast<std::int32_t>(top)) continue;
    const auto other = got.begin() + static_cast<std::ptrdiff_t>(i);
    for (auto it = begin; it != end; ++it) {
      found += std::binary_search(other, other + static_cast<std::ptrdiff_t>(top), *it) ? 1 : 0;
    }
    all += top;
  }
  REQUIRE(all > 0);
  return static_cast<double>(found) / static_cast<double>(all);
}

TEST_CASE("INT8 indexer keys are refused where there is nothing to approximate") {
  const auto load_bad = [](const std::string& name, Numerics numerics) {
    LoadOptions options;
    options.numerics = numerics;
    options.indexer_keys = IndexerKeys::int8;
    Model::load(golden(name), options);
  };
  check_error(ErrorCode::unsupported, "no indexer",
              [&] { load_bad("v3-dense", Numerics::native); });
  check_error(ErrorCode::invalid_argument, "exact numerics",
              [&] { load_bad("fp8", Numerics::exact); });
  check_error(ErrorCode::unsupported, "no indexer", [&] {
    static_cast<void>(
        Checkpoint::open(golden("v3-dense")).plan({.indexer_keys = IndexerKeys::int8}));
  });
}

TEST_CASE("INT8 indexer keys take the memory of FP8 ones") {
  const MemoryUsage fp8 = load_keys("fp8", IndexerKeys::fp8).memory_usage();
  const MemoryUsage int8 = load_keys("fp8", IndexerKeys::int8).memory_usage();
  CHECK(int8.kv_cache_bytes == fp8.kv_cache_bytes);
  CHECK(int8.activation_bytes == fp8.activation_bytes);
}

// Random weights and tokens: scores close together, and later layers see what earlier ones chose.
// Known answers of this option do not exist; it must stay near those of FP8.
TEST_CASE("INT8 indexer keys choose nearly the keys of FP8, in every kernel set") {
  for (const std::string name : {"fp8", "fp8-odd-scales", "fp8-e8m0", "bf16", "f16", "f32"}) {
    conformance::Random random{7};
    for (const std::string& kernels : kernel_sets()) {
      const Model model = load_keys(name, IndexerKeys::fp8, kernels);
      const Tokens text = random_tokens(random, model, 150);
      const auto want = selection(model, text);
      const auto got = selection(load_keys(name, IndexerKeys::int8, kernels), text);
      const double part = recall(got, want, static_cast<std::size_t>(model.config().index_topk));
      std::cout << name << " [" << kernels << "]: recall of INT8 indexer keys " << part << '\n';
      CHECK(part > 0.9);
    }
  }
}

}  // namespace
}  // namespace dsv32::test
