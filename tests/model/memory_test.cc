// docs/formats.md says what memory a model takes; MemoryUsage and the plan must agree with it.
#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"

#include "lib/backend/backend_kind.h"
#include "lib/model/buffers.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

using Names = std::map<std::string, std::int64_t, std::less<>>;

// Sums, products, quotients and brackets of names and numbers.
class Formula {
 public:
  Formula(std::string_view text, const Names& names) : rest_(text), names_(names) {}

  std::int64_t value() {
    const std::int64_t result = sum();
    skip();
    if (!rest_.empty()) throw std::runtime_error("formula: " + std::string(rest_));
    return result;
  }

 private:
  void skip() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }
  bool take(char c) {
    skip();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::int64_t sum() {
    std::int64_t result = product();
    for (;;) {
      if (take('+')) {
        result += product();
      } else if (take('-')) {
        result -= product();
      } else {
        return result;
      }
    }
  }
  std::int64_t product() {
    std::int64_t result = atom();
    for (;;) {
      if (take('*')) {
        result *= atom();
      } else if (take('/')) {
        result /= atom();
      } else {
        return result;
      }
    }
  }
  std::int64_t atom() {
    if (take('(')) {
      const std::int64_t result = sum();
      if (!take(')')) throw std::runtime_error("formula: no bracket");
      return result;
    }
    skip();
    const std::size_t size =
        std::min(rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789"), rest_.size());
    const std::string name(rest_.substr(0, size));
    rest_.remove_prefix(size);
    const auto found = names_.find(name);
    return found != names_.end() ? found->second : std::stoll(name);
  }

  std::string_view rest_;
  const Names& names_;
};

Names names_of(const ModelConfig& c, const LoadOptions& options) {
  const std::int64_t n = options.max_batch_tokens;
  const auto pages = static_cast<std::int64_t>(options.kv_cache_tokens + 63) / 64;
  const int tile = backend_kind(Device::cpu).shapes(options.backend).attention_rows;
  return {{"n", n},
          {"sequences", options.max_sequences},
          {"tile", std::min<std::int64_t>(n, tile)},
          {"context", std::min<std::int64_t>(pages * 64, c.max_position_embeddings)},
          {"mlp", std::max(c.intermediate_size, c.moe_intermediate_size * c.n_shared_experts)},
          {"hidden", c.hidden_size},
          {"q_lora_rank", c.q_lora_rank},
          {"kv_lora_rank", c.kv_lora_rank},
          {"heads", c.num_attention_heads},
          {"nope", c.qk_nope_head_dim},
          {"rope", c.qk_rope_head_dim},
          {"v", c.v_head_dim},
          {"index_dim", c.index_head_dim},
          {"index_heads", c.index_n_heads},
          {"index_topk", c.index_topk},
          {"experts", c.n_routed_experts},
          {"experts_per_token", c.num_experts_per_tok},
          {"moe_intermediate", c.moe_intermediate_size},
          {"vocab", c.vocab_size},
          {"sparse", c.index_topk > 0 ? 1 : 0},
          {"mtp", options.mtp ? 1 : 0}};
}

std::int64_t rounded(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

std::int64_t bytes_of(const std::string& type, std::int64_t rows, std::int64_t columns, bool exact,
                      bool fp8) {
  const std::int64_t values = rounded(rows * columns * (exact ? 4 : 2));
  if (type == "values") return values;
  if (type == "i32 each") return rows * rounded(columns * 4);
  if (type == "i32" || type == "f32") return rounded(rows * columns * 4);
  REQUIRE(type == "activation");
  if (exact || !fp8) return values;
  return values + rounded(rows * columns) + rounded(rows * ((columns + 127) / 128) * 4);
}

std::string trim(std::string text) {
  text.erase(0, text.find_first_not_of(' '));
  return text.erase(text.find_last_not_of(' ') + 1);
}

std::int64_t buffers_by_the_page(const ModelConfig& c, const LoadOptions& options) {
  const Names names = names_of(c, options);
  std::istringstream page(
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/docs/formats.md"));
  std::int64_t bytes = 0, rows = 0;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| buffer |")) {
      inside = true;
    } else if (inside && line.empty()) {
      break;
    } else if (inside && !line.starts_with("|---")) {
      std::istringstream cells(line.substr(1));
      std::string cell[4];
      for (std::string& text : cell) {
        std::getline(cells, text, '|');
        text = trim(text);
      }
      bytes += bytes_of(cell[3], Formula(cell[1], names).value(), Formula(cell[2], names).value(),
                        options.numerics == Numerics::exact, c.weight_block_size > 0);
      ++rows;
    }
  }
  REQUIRE(rows > 30);
  return bytes;
}

TEST_CASE("memory is what docs/formats.md says, and what the plan says") {
  for (const char* name : {"fp8", "bf16", "v3-dense"}) {
    for (const Numerics numerics : {Numerics::native, Numerics::exact}) {
      for (const int batch : {17, 200}) {
        INFO(name << " " << batch);
        LoadOptions options{.numerics = numerics, .kv_cache_tokens = 1000};
        options.max_batch_tokens = batch;
        options.backend.num_threads = 2;
        if (batch == 200) options.max_sequences = 3;
        options.mtp = std::string_view(name) == "fp8" && batch == 200;
        const Model model = Model::load(golden_model(name), options);
        const MemoryUsage usage = model.memory_usage();
        const ModelConfig& c = model.config();
        const BackendLimits limits = backend_limits(
            c,
            {.numerics = numerics, .max_batch_tokens = batch, .max_context = 1024, .mtp = false});
        CHECK(usage.activation_bytes ==
              static_cast<std::size_t>(buffers_by_the_page(c, options)) +
                  backend_kind(Device::cpu).scratch_bytes(limits, options.backend));
        const Plan plan = Checkpoint::open(golden_model(name))
                              .plan({.numerics = numerics,
                                     .kv_cache_tokens = 1000,
                                     .max_batch_tokens = batch,
                                     .max_sequences = options.max_sequences,
                                     .num_threads = 2,
                                     .mtp = options.mtp});
        CHECK(usage.weight_bytes == plan.weight_bytes);
        CHECK(usage.kv_cache_bytes == plan.kv_cache_bytes);
        CHECK(usage.activation_bytes == plan.activation_bytes);
        const int layers = c.num_hidden_layers + (options.mtp ? 1 : 0);
        const int width = c.kv_lora_rank + c.qk_rope_head_dim;
        if (numerics == Numerics::exact) {
          const int token = 4 * (width + (c.index_topk > 0 ? c.index_head_dim : 0));
          const int hidden = options.mtp ? 1024 / 64 * 4 * c.hidden_size : 0;
          CHECK(usage.kv_cache_bytes == static_cast<std::size_t>(layers * 1024 * token + hidden));
        }
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
