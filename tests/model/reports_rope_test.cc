// RoPE's keys that released models leave out: each against a model that says the same by others.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <string>
#include <vector>

#include "dsv32/session.h"

#include "lib/model/rope.h"
#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/worst.h"

namespace dsv32::test {
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string config_of(const std::string& name) {
  return conformance::read_file(golden_model(name) / "config.json");
}

// All rows of logits of a golden checkpoint with other tensors and another config.
std::vector<Bits> rows_of(const Tensors& tensors, const std::string& config, Numerics numerics,
                          const std::string& kernels = "") {
  const TempFolder folder;
  write_shard(folder.path() / "model.safetensors", tensors);
  write_text(folder.path() / "config.json", config);
  LoadOptions options{.numerics = numerics, .kv_cache_tokens = 256};
  options.backend.num_threads = 1;
  options.backend.kernel_set = kernels;
  return one_by_one(Model::load(folder.path(), options), some_tokens(60, 3));
}

// The largest relative distance of two rows.
double distance(const std::vector<Bits>& x, const std::vector<Bits>& y) {
  Worst worst;
  for (std::size_t row = 0; row < x.size(); ++row) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < x[row].size(); ++i) {
      const double a = static_cast<double>(x[row][i]), b = static_cast<double>(y[row][i]);
      difference += (a - b) * (a - b);
      size += b * b;
    }
    worst.add(std::sqrt(difference / size));
  }
  return worst.value();
}

// Rows [first, first + n) of a matrix of one-byte values: 2i goes to i, 2i + 1 to i + n / 2.
void halve_pairs(Tensor& tensor, std::size_t first, std::size_t n) {
  REQUIRE(tensor.dtype == "F8_E4M3");
  const auto cols = static_cast<std::size_t>(tensor.shape[1]);
  const std::string before = tensor.data;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t to = i % 2 == 0 ? i / 2 : n / 2 + i / 2;
    std::copy_n(before.begin() + static_cast<std::ptrdiff_t>((first + i) * cols), cols,
                tensor.data.begin() + static_cast<std::ptrdiff_t>((first + to) * cols));
  }
}

TEST_CASE("reports_W2 rope_interleave false rotates the pairs (i, i + half)") {
  const std::string config = config_of("v3-dense");
  const ModelConfig c = ModelConfig::from_json(config);
  const std::string halves = replaced(config, "{", "{\"rope_interleave\": false,");
  const auto rope = static_cast<std::size_t>(c.qk_rope_head_dim),
             nope = static_cast<std::size_t>(c.qk_nope_head_dim);
  const Tensors paired = tensors_of(golden_model("v3-dense"));
  Tensors moved = paired;
  for (int layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".self_attn.";
    halve_pairs(moved.at(p + "kv_a_proj_with_mqa.weight"), static_cast<std::size_t>(c.kv_lora_rank),
                rope);
    for (std::size_t head = 0; head < static_cast<std::size_t>(c.num_attention_heads); ++head)
      halve_pairs(moved.at(p + "q_b_proj.weight"), head * (nope + rope) + nope, rope);
  }
  // A block of scales may hold rows of both: only what is rotated changes places, within it.
  for (const std::string& kernels : kernel_sets()) {
    for (const Numerics numerics : {Numerics::exact, Numerics::native}) {
      INFO(kernels << ", numerics " << static_cast<int>(numerics));
      const std::vector<Bits> want = rows_of(paired, config, numerics, kernels);
      const double tolerance = numerics == Numerics::exact ? 1e-4 : 0.05;  // sums in another order
      CHECK(distance(rows_of(moved, halves, numerics, kernels), want) < tolerance);
      CHECK(distance(rows_of(paired, halves, numerics, kernels), want) > 0.1);
    }
  }
}

TEST_CASE("reports_W2 attention_factor is what cosines and sines are multiplied by") {
  const std::string config = config_of("fp8");
  const Tensors tensors = tensors_of(golden_model("fp8"));
  const auto rows = [&](const std::string& mscales) {
    return rows_of(tensors, replaced(config, "\"mscale\": 1.0", mscales), Numerics::exact);
  };
  // The two mscales say 1.5, too: (0.1 s ln 40 + 1) / (0.1 ln 40 + 1).
  const double m = 0.1 * std::log(40.0);
  const std::string same = "\"mscale\": " + std::to_string((1.5 * (m + 1) - 1) / m);
  const std::vector<Bits> want = rows(same);
  CHECK(distance(rows("\"mscale\": 1.0, \"attention_factor\": 1.5"), want) < 1e-4);
  CHECK(distance(rows("\"mscale\": 1.0"), want) > 1e-2);
  CHECK(rows("\"mscale\": 1.0, \"attention_factor\": null") == rows("\"mscale\": 1.0"));
}

// The inverse frequencies, from the angles of position 1.
std::vector<double> frequencies(const ModelConfig& c) {
  const Rope rope(c);
  const auto dim = static_cast<std::size_t>(rope.dim());
  std::vector<float> row(dim);
  const std::int32_t one = 1;
  rope.fill({&one, 1}, row.data());
  std::vector<double> out;
  for (std::size_t i = 0; i < dim / 2; ++i)
    out.push_back(std::atan2(static_cast<double>(row[dim / 2 + i]), static_cast<double>(row[i])));
  return out;
}

TEST_CASE("reports_W2 truncate false leaves the ends of YaRN's ramp between dimensions") {
  ModelConfig c;  // V3.2's numbers: 10.4722 and 22.5134 turn 32 times and once
  for (const bool truncate : {true, false}) {
    c.truncate = truncate;
    const std::vector<double> got = frequencies(c);
    const double low = truncate ? 10 : 10.47224081, high = truncate ? 23 : 22.51344064;
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO("truncate " << truncate << ", pair " << i);
      const double f = std::pow(10000.0, -2.0 * static_cast<double>(i) / 64);
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      CHECK(std::fabs(got[i] / (f / 40 * ramp + f * (1 - ramp)) - 1) < 1e-5);
    }
  }
}

TEST_CASE("reports_W2 without YaRN's factor attention_factor still counts") {
  ModelConfig c;
  c.rope_factor = 1.0f;
  c.attention_factor = 1.5f;
  std::vector<float> row(64);
  const std::int32_t zero = 0;
  Rope(c).fill({&zero, 1}, row.data());
  CHECK(row[0] == 1.5f);
}

}  // namespace
}  // namespace dsv32::test
