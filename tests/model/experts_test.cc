// Of the routed experts a step touches those that its tokens chose, and no other.
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

const Tokens kText = {3, 1};
const std::string kName = "f32";

struct Run {
  Bits logits;
  std::vector<std::set<int>> chosen;  // of each MoE layer
};

Run run(const std::filesystem::path& folder, const std::string& kernels) {
  LoadOptions options{.numerics = Numerics::native, .kv_cache_tokens = 256};
  options.backend.kernel_set = kernels;
  Run result;
  Session session(Model::load(folder, options));
  session.observe({.experts = true}, [&](const Trace& trace) {
    const std::size_t layers =
        trace.experts.size() / kText.size() /
        static_cast<std::size_t>(session.model().config().num_experts_per_tok);
    const std::size_t each = trace.experts.size() / layers;
    for (std::size_t i = 0; i < layers; ++i) {
      const auto ids = trace.experts.subspan(i * each, each);
      result.chosen.emplace_back(ids.begin(), ids.end());
    }
  });
  result.logits = copy(session.append(kText));
  return result;
}

// The checkpoint with NaN for every weight of an expert of the first MoE layer.
void write_without(const std::filesystem::path& folder, int layer, int expert) {
  Tensors tensors = tensors_of(golden_model(kName));
  const std::string prefix =
      "model.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(expert) + ".";
  int spoiled = 0;
  for (auto& [name, tensor] : tensors) {
    if (!name.starts_with(prefix)) continue;
    REQUIRE(tensor.dtype == "F32");
    const float nan = std::nanf("");
    for (std::size_t i = 0; i < tensor.data.size(); i += sizeof nan) {
      std::memcpy(tensor.data.data() + i, &nan, sizeof nan);
    }
    ++spoiled;
  }
  REQUIRE(spoiled == 3);
  write_shard(folder / "model.safetensors", tensors);
  write_text(folder / "config.json", conformance::read_file(golden_model(kName) / "config.json"));
}

TEST_CASE("experts that no token chose are not touched") {
  for (const std::string& kernels : kernel_sets()) {
    INFO(kernels);
    const Run whole = run(golden_model(kName), kernels);
    REQUIRE(!whole.chosen.empty());
    const std::set<int>& chosen = whole.chosen.front();
    int idle = 0;
    while (chosen.contains(idle)) ++idle;
    const Model model = load(kName, Numerics::native);
    REQUIRE(idle < model.config().n_routed_experts);
    const TempFolder without_idle, without_chosen;
    write_without(without_idle.path(), model.config().first_k_dense_replace, idle);
    write_without(without_chosen.path(), model.config().first_k_dense_replace, *chosen.begin());
    CHECK(equal(whole.logits, run(without_idle.path(), kernels).logits));
    CHECK(std::isnan(run(without_chosen.path(), kernels).logits[0]));
  }
}

}  // namespace
}  // namespace dsv32::test
