// Values that are no numbers in the middle of a model, with every kernel set and in both numerics:
// no hang, no index out of range, the logits say so, and what does not depend on them keeps its
// bits.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One element of a tensor of a golden checkpoint, F32 or BF16, with another value.
class Spoiled {
 public:
  Spoiled(const std::string& name, const std::string& tensor, std::size_t element, float value) {
    Tensors tensors = tensors_of(golden_model(name));
    Tensor& t = tensors.at(tensor);
    REQUIRE((t.dtype == "F32" || t.dtype == "BF16"));
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const auto upper = static_cast<std::uint16_t>(bits >> 16);
    if (t.dtype == "F32") std::memcpy(t.data.data() + 4 * element, &bits, 4);
    if (t.dtype == "BF16") std::memcpy(t.data.data() + 2 * element, &upper, 2);
    write_shard(folder_.path() / "model.safetensors", tensors);
    write_text(folder_.path() / "config.json",
               conformance::read_file(golden_model(name) / "config.json"));
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

Model load(const std::filesystem::path& folder, const std::string& kernels, Numerics numerics) {
  LoadOptions options{.numerics = numerics, .kv_cache_tokens = 1024, .max_batch_tokens = 40};
  options.backend.num_threads = 2;
  options.backend.kernel_set = kernels;
  return Model::load(folder, options);
}

// Counts what no input may cause: lists of keys and experts that are not what they should be.
struct Lists {
  std::size_t top, experts, per_token;
  std::size_t seen = 0, wrong = 0;

  void check_keys(std::span<const std::int32_t> keys, std::int64_t position) {
    const auto visible = static_cast<std::size_t>(position) + 1;
    const std::size_t count = std::min(top, visible);
    for (std::size_t i = 0; i < top; ++i) {
      const bool ascending = i == 0 || i >= count || keys[i] > keys[i - 1];
      const bool in_range = i < count ? keys[i] >= 0 && keys[i] <= position : keys[i] == -1;
      wrong += ascending && in_range ? 0 : 1;
    }
    ++seen;
  }
  void check_experts(std::span<const std::int32_t> ids) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const bool in_range = ids[i] >= 0 && static_cast<std::size_t>(ids[i]) < experts;
      wrong += in_range && (i == 0 || ids[i] > ids[i - 1]) ? 0 : 1;
    }
    ++seen;
  }
  void check(const Trace& trace) {
    const auto n = static_cast<std::size_t>(trace.num_tokens);
    for (std::size_t i = 0; top > 0 && i * top < trace.selection.size(); ++i) {
      check_keys(trace.selection.subspan(i * top, top),
                 trace.first_position + static_cast<std::int64_t>(i % n));
    }
    for (std::size_t i = 0; i * per_token < trace.experts.size(); ++i)
      check_experts(trace.experts.subspan(i * per_token, per_token));
  }
};

// Logits after every token.
std::vector<Bits> rows_of(const Model& model, const Tokens& text) {
  const ModelConfig& c = model.config();
  Lists lists{.top = static_cast<std::size_t>(c.index_topk),
              .experts = static_cast<std::size_t>(c.n_routed_experts),
              .per_token = static_cast<std::size_t>(c.num_experts_per_tok)};
  const auto vocab = static_cast<std::size_t>(c.vocab_size);
  std::vector<Bits> rows;
  Session session(model);
  session.observe({.logits = true, .selection = true, .experts = true}, [&](const Trace& trace) {
    for (std::size_t i = 0; i < trace.logits.size(); i += vocab)
      rows.push_back(copy(trace.logits.subspan(i, vocab)));
    lists.check(trace);
  });
  session.append(text);
  CHECK(session.tokens().size() == text.size());
  CHECK(lists.seen > text.size());
  CHECK(lists.wrong == 0);
  return rows;
}

bool finite(const Bits& row) {
  return std::ranges::all_of(row, [](float x) { return std::isfinite(x); });
}

TEST_CASE("a weight that is not a number reaches the logits and harms nothing else") {
  conformance::Random random{11};
  for (const std::string& kernels : kernel_sets()) {
    for (const float bad : {kNaN, kInfinity}) {
      const Spoiled checkpoint("f32", "model.layers.0.self_attn.q_a_proj.weight", 0, bad);
      for (const Numerics numerics : {Numerics::native, Numerics::exact}) {
        INFO(kernels << ", " << bad << ", numerics " << static_cast<int>(numerics));
        const Model model = load(checkpoint.path(), kernels, numerics);
        const Tokens text = random_tokens(random, model, 100);  // the indexer and the gate see it
        CHECK(std::ranges::none_of(rows_of(model, text), finite));
        Session session(model);
        GenerateOptions generate;
        generate.max_tokens = 4;
        check_error(ErrorCode::numeric, "", [&] { session.generate(text, generate); });
      }
    }
  }
}

// One token's embedding is no number, and so are all activations of that token. Tokens before it
// keep their bits, and the model runs on.
TEST_CASE("activations that are not numbers reach their logits, and no row before them") {
  conformance::Random random{12};
  constexpr std::size_t kAt = 60;
  for (const char* name : {"fp8", "v3-dense", "fp8-odd-scales", "bf16"}) {
    if (kSanitized && std::string_view(name) == "fp8-odd-scales") break;
    for (const float bad : {kNaN, -kInfinity}) {
      const Model clean = load(golden_model(name), "", Numerics::native);
      const auto hidden = static_cast<std::size_t>(clean.config().hidden_size);
      Tokens text = random_tokens(random, clean, 100);
      const TokenId token = text[kAt];
      for (TokenId& other : text) other = other == token ? token - (token > 0 ? 1 : -1) : other;
      text[kAt] = token;
      const Spoiled checkpoint(name, "model.embed_tokens.weight",
                               static_cast<std::size_t>(token) * hidden + 3, bad);
      for (const std::string& kernels : kernel_sets()) {
        if (kernels == "reference") continue;  // slow; it has the same lists
        for (const Numerics numerics : {Numerics::native, Numerics::exact}) {
          INFO(name << ", " << bad << ", " << kernels << ", numerics "
                    << static_cast<int>(numerics));
          const Model model = load(checkpoint.path(), kernels, numerics);
          const auto rows = rows_of(model, text);
          const auto want = rows_of(load(golden_model(name), kernels, numerics), text);
          CHECK(!finite(rows[kAt]));
          bool same = true;
          for (std::size_t i = 0; i < kAt; ++i) same = same && rows[i] == want[i];
          CHECK(same);
          // Its pages tell the next session nothing.
          Session next(model);
          CHECK(copy(next.append(std::span(text).first(kAt))) == want[kAt - 1]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
