// All 163,840 positions of DeepSeek-V3.2's context, really filled, on a very small model.
#include <algorithm>
#include <cmath>

#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

constexpr std::size_t kPositions = 163'840;
constexpr int kDim = 64;  // of the indexer's only head: what is quadratic stays small

void replace(std::string& text, const std::string& from, const std::string& to) {
  REQUIRE(text.find(from) != std::string::npos);
  text.replace(text.find(from), from.size(), to);
}

// The first layer of a golden checkpoint, with one small index head, as a model of its own.
class OneLayer {
 public:
  OneLayer() {
    Tensors kept;
    for (auto& [name, tensor] : tensors_of(golden_model("bf16"))) {
      if (name.find(".layers.1.") != std::string::npos) continue;
      if (name.find(".layers.2.") != std::string::npos) continue;
      if (name.find("indexer.wq_b") != std::string::npos) first_rows(tensor, kDim);
      if (name.find("indexer.wk.") != std::string::npos) twice(tensor);
      if (name.find("indexer.k_norm") != std::string::npos) twice(tensor);
      if (name.find("indexer.weights_proj") != std::string::npos) first_rows(tensor, 1);
      kept.emplace(name, std::move(tensor));
    }
    write_shard(folder_.path() / "model.safetensors", kept);
    std::string config = conformance::read_file(golden_model("bf16") / "config.json");
    replace(config, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1");
    replace(config, "\"index_n_heads\": 16", "\"index_n_heads\": 1");
    replace(config, "\"index_head_dim\": 32", "\"index_head_dim\": " + std::to_string(kDim));
    replace(config, "\"max_position_embeddings\": 4096", "\"max_position_embeddings\": 163840");
    write_text(folder_.path() / "config.json", config);
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  static void twice(Tensor& tensor) {  // from 32 rows to kDim
    tensor.data += std::string(tensor.data);
    tensor.shape[0] *= 2;
  }
  static void first_rows(Tensor& tensor, std::int64_t rows) {
    tensor.data.resize(tensor.data.size() / static_cast<std::size_t>(tensor.shape[0]) *
                       static_cast<std::size_t>(rows));
    tensor.shape[0] = rows;
  }

  TempFolder folder_;
};

// Minutes long, so that it runs by name only: scripts/check.sh --full does.
TEST_CASE("163840 positions are filled, read and refused behind the last", "[.long]") {
  const OneLayer checkpoint;
  LoadOptions options;
  options.kv_cache_tokens = kPositions;
  options.max_batch_tokens = 512;
  options.backend.num_threads = 2;
  const Model model = Model::load(checkpoint.path(), options);
  const std::size_t memory = model.memory_usage().activation_bytes;
  conformance::Random random{1};
  const Tokens text = random_tokens(random, model, kPositions);
  Session session(model);
  session.append(std::span(text).first(kPositions - 70));

  std::vector<std::int32_t> read;  // by the last token
  session.observe({.selection = true}, [&](const Trace& trace) {
    const auto top = static_cast<std::size_t>(model.config().index_topk);
    read.assign(trace.selection.end() - static_cast<std::ptrdiff_t>(top), trace.selection.end());
  });
  const Bits want = copy(session.append(std::span(text).last(70)));
  session.observe({}, {});
  CHECK(std::ranges::all_of(want, [](float x) { return std::isfinite(x); }));
  CHECK(std::ranges::is_sorted(read));
  CHECK(std::ranges::adjacent_find(read) == read.end());
  CHECK(read.front() >= 0);
  CHECK(read.front() < 131'072);  // the first page is as near as the last
  CHECK(static_cast<std::size_t>(read.back()) < kPositions);

  check_error(ErrorCode::context_length, "163840", [&] { session.append(1); });
  session.truncate(kPositions - 70);
  Bits again;
  for (const TokenId token : std::span(text).last(70)) again = copy(session.append(token));
  CHECK(want == again);
  CHECK(model.memory_usage().activation_bytes == memory);
}

}  // namespace
}  // namespace dsv32::test
