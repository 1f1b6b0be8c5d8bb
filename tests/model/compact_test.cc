// INT8 and INT4 matrices: the model is that whose matrices are codes times scales in F32, and the
// state law holds in every kernel set. The experts' width is odd, so that a row ends in half a
// byte.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "dsv32/model.h"
#include "dsv32/session.h"

#include "lib/base/check.h"
#include "lib/base/floats.h"
#include "lib/base/tensor.h"
#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/worst.h"

namespace dsv32::test {
namespace {

constexpr std::int64_t kWidth = 48, kOddWidth = 47;  // of the experts: the golden one, and ours

struct Format {
  int bits;
  std::int64_t group;
};

bool is_compact(const std::string& name) {
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  return ends("q_a_proj.weight") || ends("q_b_proj.weight") || ends("o_proj.weight") ||
         ends("gate_proj.weight") || ends("up_proj.weight") || ends("down_proj.weight");
}

struct Rows {
  std::int64_t rows, cols;
  std::vector<float> values;
};

// A BF16 tensor, an expert's without its last row or column.
Rows rows_of(const std::string& name, const Tensor& tensor) {
  Rows out{tensor.shape[0], tensor.shape[1], {}};
  const std::int64_t stride = out.cols;
  const bool expert = name.find("experts.") != std::string::npos;
  if (expert && out.rows == kWidth) out.rows = kOddWidth;
  if (expert && out.cols == kWidth) out.cols = kOddWidth;
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.cols; ++c) {
      out.values.push_back(read_element(reinterpret_cast<const std::byte*>(tensor.data.data()),
                                        DType::bf16, static_cast<std::size_t>(r * stride + c)));
    }
  }
  return out;
}

template <class T>
void append(std::string& data, T value) {
  data.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Codes and scales under their names in `compact`, and what they stand for in `plain`. Scales are
// powers of two, which f16 holds exactly.
void convert(const std::string& name, const Rows& m, const Format& format, Tensors& compact,
             Tensors& plain) {
  const int high = format.bits == 8 ? 127 : 7;
  const std::int64_t groups = (m.cols + format.group - 1) / format.group;
  std::string codes, scales, values;
  for (std::int64_t r = 0; r < m.rows; ++r) {
    const float* row = m.values.data() + r * m.cols;
    std::vector<int> code(static_cast<std::size_t>(m.cols + m.cols % 2), 0);
    for (std::int64_t first = 0; first < m.cols; first += format.group) {
      const std::int64_t last = std::min(first + format.group, m.cols);
      float amax = 1e-3f;
      for (std::int64_t c = first; c < last; ++c) amax = std::max(amax, std::fabs(row[c]));
      const int exponent = std::ilogb(amax / static_cast<float>(high)) + 1;
      const float scale = std::ldexp(1.0f, exponent);
      if (format.bits == 8) append(scales, scale);
      if (format.bits == 4) append(scales, static_cast<std::uint16_t>((exponent + 15) << 10));
      for (std::int64_t c = first; c < last; ++c) {
        const int value = static_cast<int>(std::nearbyint(row[c] / scale));
        code[static_cast<std::size_t>(c)] = value;
        append(values, static_cast<float>(value) * scale);
      }
    }
    for (std::size_t c = 0; format.bits == 8 && c < static_cast<std::size_t>(m.cols); ++c)
      append(codes, static_cast<std::int8_t>(code[c]));
    for (std::size_t c = 0; format.bits == 4 && c < code.size(); c += 2)
      append(codes, static_cast<std::uint8_t>((code[c] + 8) | (code[c + 1] + 8) << 4));
  }
  const bool wide = format.bits == 8;
  compact[name] = {wide ? "I8" : "U8", {m.rows, wide ? m.cols : (m.cols + 1) / 2}, codes};
  compact[name + "_scale"] = {wide ? "F32" : "F16", {m.rows, groups}, scales};
  plain[name] = {"F32", {m.rows, m.cols}, values};
}

// The golden BF16 model in both forms.
class Pair {
 public:
  explicit Pair(const Format& format) {
    Tensors compact = tensors_of(golden_model("bf16"));
    Tensors plain = compact;
    for (const auto& [name, tensor] : tensors_of(golden_model("bf16"))) {
      if (is_compact(name)) convert(name, rows_of(name, tensor), format, compact, plain);
    }
    std::string config = conformance::read_file(golden_model("bf16") / "config.json");
    const std::string width = "\"moe_intermediate_size\": 48";
    config.replace(config.find(width), width.size(), "\"moe_intermediate_size\": 47");
    write(plain_.path(), plain, config);
    const std::string block = formatted(
        R"({{"quantization_config": {{"quant_method": "dsv32_int{}", "bits": {}, "group_size": {}}},)",
        format.bits, format.bits, format.group);
    write(compact_.path(), compact, config.replace(config.find('{'), 1, block));
  }
  const std::filesystem::path& plain() const { return plain_.path(); }
  const std::filesystem::path& compact() const { return compact_.path(); }

 private:
  static void write(const std::filesystem::path& folder, const Tensors& tensors,
                    const std::string& config) {
    write_shard(folder / "model.safetensors", tensors);
    write_text(folder / "config.json", config);
  }

  TempFolder plain_, compact_;
};

std::vector<TokenId> text() {
  std::vector<TokenId> tokens;
  for (int i = 0; i < 60; ++i) tokens.push_back(i * 37 % 250);  // over index_topk
  return tokens;
}

Model load(const std::filesystem::path& folder, const std::string& kernels, Numerics numerics,
           int threads = 1, int batch = 64) {
  LoadOptions options{.numerics = numerics, .kv_cache_tokens = 256, .max_batch_tokens = batch};
  options.backend.kernel_set = kernels;
  options.backend.num_threads = threads;
  return Model::load(folder, options);
}

// The logits behind `text`, appended `step` tokens at a time.
std::vector<float> logits_of(const Model& model, std::size_t step) {
  const std::vector<TokenId> tokens = text();
  Session session(model);
  std::vector<float> last;
  for (std::size_t at = 0; at < tokens.size(); at += step) {
    const auto row =
        session.append(std::span(tokens).subspan(at, std::min(step, tokens.size() - at)));
    last.assign(row.begin(), row.end());
  }
  return last;
}

constexpr Format kFormats[] = {{8, 128}, {4, 64}, {4, 128}};

TEST_CASE("INT8 and INT4 models are their codes times their scales") {
  for (const Format& format : kFormats) {
    const Pair pair(format);
    const auto want = logits_of(load(pair.plain(), "generic", Numerics::exact), 60);
    for (const std::string& kernels : kernel_sets()) {
      INFO(format.bits << " bits, group " << format.group << ", " << kernels);
      const auto got = logits_of(load(pair.compact(), kernels, Numerics::exact), 60);
      Worst worst;
      float size = 0.0f;
      for (std::size_t i = 0; i < want.size(); ++i) {
        worst.add(difference(got[i], want[i]));
        size = std::max(size, std::fabs(want[i]));
      }
      CHECK(worst.value() <= 1e-4f * size);  // sums of some hundred terms in f32, in another order
    }
  }
}

TEST_CASE("the state law holds for INT8 and INT4") {
  for (const Format& format : kFormats) {
    const Pair pair(format);
    for (const std::string& kernels : kernel_sets()) {
      INFO(format.bits << " bits, group " << format.group << ", " << kernels);
      const auto want = logits_of(load(pair.compact(), kernels, Numerics::native), 60);
      CHECK(std::all_of(want.begin(), want.end(), [](float x) { return std::isfinite(x); }));
      CHECK(logits_of(load(pair.compact(), kernels, Numerics::native, 3), 60) == want);
      CHECK(logits_of(load(pair.compact(), kernels, Numerics::native, 2, 13), 60) == want);
      CHECK(logits_of(load(pair.compact(), kernels, Numerics::native), 7) == want);
      CHECK(logits_of(load(pair.compact(), kernels, Numerics::native), 1) == want);
    }
  }
}

}  // namespace
}  // namespace dsv32::test
