// Every line that docs/embedding.md promises of the log arrives, once; and what a pass that met NaN
// counts.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/session.h"

#include "tests/conformance/conformance.h"
#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

// A golden checkpoint with a value of `tensor`, in F32 or BF16, that is NaN.
class WithNan {
 public:
  WithNan(const std::string& name, const std::string& tensor) {
    Tensors tensors = tensors_of(golden_model(name));
    Tensor& t = tensors.at(tensor);
    REQUIRE((t.dtype == "BF16" || t.dtype == "F32"));
    t.data[t.dtype == "BF16" ? 1 : 3] = '\x7F';
    t.data[t.dtype == "BF16" ? 0 : 2] = '\xC0';
    write_shard(path() / "model.safetensors", tensors);
    fs::copy(golden_model(name) / "config.json", path());
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

constexpr const char* kProjection = "model.layers.1.self_attn.indexer.weights_proj.weight";

Model load(const fs::path& folder, Log& log, const std::string& kernels = "",
           Numerics numerics = Numerics::native) {
  LoadOptions options{.numerics = numerics, .kv_cache_tokens = 512, .max_batch_tokens = 40};
  options.backend.num_threads = 2;
  options.backend.kernel_set = kernels;
  options.log = log.sink();
  return Model::load(folder, options);
}

TEST_CASE("reports_W8 a pass whose selection met NaN counts its queries and says one line") {
  const WithNan checkpoint("fp8", kProjection);
  for (const std::string& kernels : kernel_sets()) {
    for (const Numerics numerics : {Numerics::native, Numerics::exact}) {
      INFO(kernels << ", numerics " << static_cast<int>(numerics));
      Log log;
      const Model model = load(checkpoint.path(), log, kernels, numerics);
      const auto top = static_cast<std::size_t>(model.config().index_topk);
      Session session(model);
      session.append(some_tokens(top, 1));  // each reads all that it sees: nothing is chosen
      CHECK(session.sparse_stats().nan_queries == 0);
      CHECK(log.warnings.empty());
      session.append(some_tokens(100, 2));
      CHECK(session.sparse_stats().nan_queries == 100);  // in that layer; what it reads is finite
      REQUIRE(log.warnings.size() == 1);
      CHECK(log.warnings[0].find("NaN") != std::string::npos);
      Session later(model);
      later.append(some_tokens(100, 3));
      CHECK(log.warnings.size() == 1);
    }
  }
}

TEST_CASE("reports_W8 each session counts its own queries, and a generation those of its run") {
  const WithNan checkpoint("fp8", kProjection);
  Log log;
  const Model model = load(checkpoint.path(), log);
  Session one(model), other(model);
  const Tokens few = some_tokens(10, 4), many = some_tokens(60, 5);
  const SessionTokens list[] = {{&one, few}, {&other, many}};
  append_together(list);
  const auto top = static_cast<std::uint64_t>(model.config().index_topk);
  CHECK(one.sparse_stats().nan_queries == 0);
  CHECK(other.sparse_stats().nan_queries == 60 - top);
  Log clean;
  Session good(load(golden_model("fp8"), clean));
  GenerateOptions options;
  options.max_tokens = 8;
  CHECK(good.generate(many, options).usage.sparse.nan_queries == 0);
  CHECK(clean.warnings.empty());
  Log dense_log;
  Session dense(load(golden_model("v3-dense"), dense_log));
  dense.append(many);
  CHECK(dense.sparse_stats().nan_queries == 0);
}

// ---- the table of docs/embedding.md

struct Line {
  std::string level, when;
};

std::vector<Line> promised() {
  const std::string docs =
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/docs/embedding.md");
  std::vector<Line> lines;
  for (std::size_t at = 0; (at = docs.find("\n| `", at)) != std::string::npos; ++at) {
    const std::string row = docs.substr(at + 1, docs.find('\n', at + 1) - at - 1);
    const std::size_t second = row.find("| ", 2), third = row.find(" | ", second + 2);
    const std::string level = row.substr(3, row.find('`', 3) - 3);
    if (level == "warning" || level == "info")
      lines.push_back({level, row.substr(second + 2, third - second - 2)});
  }
  return lines;
}

std::string config() { return conformance::read_file(golden_model("fp8") / "config.json"); }

// The golden checkpoint in its own folder, `spoil`t, loaded.
void load_spoilt(Log& log, const std::function<void(const fs::path&)>& spoil,
                 LoadOptions options = {}) {
  const TempFolder folder;
  fs::copy(golden_model("fp8") / "config.json", folder.path());
  fs::copy(golden_model("fp8") / "model.safetensors", folder.path());
  spoil(folder.path());
  options.backend.num_threads = 1;
  if (options.kv_cache_tokens == LoadOptions().kv_cache_tokens) options.kv_cache_tokens = 256;
  options.log = log.sink();
  Model::load(folder.path(), options);
}

void add_stray(const fs::path& folder) {
  write_shard(folder / "consolidated.safetensors", {{"x", {"U8", {1}, "x"}}});
}

// How each row of the table comes about; by the beginning of its second column.
using Make = std::function<void(Log&)>;
constexpr const char* kOtherSet = "`Session::load`, and";
const std::vector<std::pair<std::string, Make>> kWarnings = {
    {"config.json holds keys",
     [](Log& log) {
       load_spoilt(log, [](const fs::path& folder) {
         write_text(folder / "config.json", "{\"one\": 1, \"two\": 2," + config().substr(1));
       });
     }},
    {"the files lack the MTP layer",
     [](Log& log) {
       load_spoilt(log, [](const fs::path& folder) {
         Tensors tensors = tensors_of(golden_model("fp8"));
         std::erase_if(tensors,
                       [](const auto& item) { return item.first.starts_with("model.layers.3."); });
         write_shard(folder / "model.safetensors", tensors);
       });
     }},
    {"files of the folder are not read", [](Log& log) { load_spoilt(log, add_stray); }},
    {"the index leaves out tensors",
     [](Log& log) {
       load_spoilt(log, [](const fs::path& folder) {
         write_text(folder / "model.safetensors.index.json",
                    "{\"weight_map\":{\"lm_head.weight\":\"model.safetensors\"}}");
       });
     }},
    {"`allow_unused_tensors`",
     [](Log& log) {
       load_spoilt(log,
                   [](const fs::path& folder) {
                     Tensors tensors = tensors_of(golden_model("fp8"));
                     tensors["left.over"] = {"U8", {1}, "x"};
                     write_shard(folder / "model.safetensors", tensors);
                   },
                   {.allow_unused_tensors = true});
     }},
    {"`allow_paging`",
     [](Log& log) {
       load_spoilt(log, [](const fs::path&) {},
                   {.kv_cache_tokens = tokens_beyond_memory(), .allow_paging = true});
     }},
    {"generation_config.json says what nobody",
     [](Log& log) {
       load_spoilt(log, [](const fs::path& folder) {
         write_text(folder / "generation_config.json", R"({"max_new_tokens": 5})");
       });
     }},
    {"the first pass whose indexer meets NaN",
     [](Log& log) {
       const WithNan checkpoint("fp8", kProjection);
       Session session(load(checkpoint.path(), log));
       session.append(some_tokens(100, 6));
       session.append(some_tokens(100, 7));
     }},
    {kOtherSet,
     [](Log& log) {
       const TempFolder folder;
       Log other;
       Session session(load(golden_model("fp8"), other, kernel_sets().front()));
       session.save(folder.path() / "s");
       Session::load(load(golden_model("fp8"), log, kernel_sets().back()), folder.path() / "s");
     }},
};

// Those that take a system which refuses something: tests/faults and tests/public make them.
constexpr std::size_t kRefusals = 3;  // mappings, threads, /proc

void render_half_a_pair(Log& log) {
  Message called{.role = Role::assistant};
  called.tool_calls = {{.id = "1", .name = "f", .arguments_json = R"({"x": "\ud800"})"}};
  const Message list[] = {{.content = "?"}, called, {.role = Role::tool, .tool_call_id = "1"}};
  static_cast<void>(ChatTemplate().render(list, ThinkingMode::thinking, {.log = log.sink()}));
}

TEST_CASE("reports_C11 every warning that the documents promise arrives, once") {
  std::size_t documented = 0;
  for (const Line& line : promised()) documented += line.level == "warning" ? 1 : 0;
  for (const auto& [when, make] : kWarnings) {
    INFO(when);
    const std::vector<Line> lines = promised();
    const auto row = std::find_if(lines.begin(), lines.end(), [&, &key = when](const Line& line) {
      return line.when.starts_with(key);
    });
    CHECK((row != lines.end() && row->level == "warning"));
    if (when == "`allow_paging`" && kSanitized) continue;  // runtimes want address space themselves
    if (when == kOtherSet && kernel_sets().size() < 2) continue;
    Log log;
    make(log);
    CHECK(log.warnings.size() == 1);
    CHECK(log.infos.size() == 1);
    for (const std::string& text : log.warnings) CHECK(text.find('\n') == std::string::npos);
  }
  Log log;
  render_half_a_pair(log);
  CHECK(log.warnings.size() == 1);
  CHECK(documented == kWarnings.size() + 1 + kRefusals);
}

TEST_CASE("reports_W2 keys that nobody reads are one warning with their names") {
  Log log;
  kWarnings[0].second(log);
  REQUIRE(log.warnings.size() == 1);
  CHECK(log.warnings[0] == "config.json: 2 keys that nobody reads: \"one\", \"two\"");
}

}  // namespace
}  // namespace dsv32::test
