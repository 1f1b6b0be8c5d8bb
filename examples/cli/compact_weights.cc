// Rows of numbers as INT8 or INT4, and rows of a checkpoint as numbers.
#include "cli/compact_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "cli/number_formats.h"

namespace cli {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::int64_t kBlock = 128;
constexpr float kMaxF16 = 65504.0f;

// Ties to even, for |x| < 2^22; unlike std::nearbyint it becomes vector code.
float round_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

float largest(std::span<const float> x) {
  float amax = 0.0f;
  bool finite = true;
  for (const float value : x) {
    finite = finite && std::isfinite(value);
    amax = std::max(amax, std::abs(value));
  }
  if (!finite) throw std::range_error("a weight is NaN or infinite");
  return amax;
}

float code4(float x, float inverse) { return std::clamp(round_even(x * inverse), -8.0f, 7.0f); }

// Lanes, so that it becomes vector code: the order of the sum is fixed.
float squared_error(std::span<const float> x, float scale) {
  const float inverse = 1.0f / scale;
  std::array<float, kLanes> sum{};
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = x[i + lane];
      const float difference = value - scale * code4(value, inverse);
      sum[lane] += difference * difference;
    }
  for (; i < x.size(); ++i) {
    const float difference = x[i] - scale * code4(x[i], inverse);
    sum[0] += difference * difference;
  }
  float total = 0.0f;
  for (const float part : sum) total += part;
  return total;
}

float scale4(std::span<const float> x) {
  const float amax = largest(x);
  if (amax > 7 * kMaxF16) throw std::range_error("a weight is too large for an f16 scale");
  float best = round_f16(amax / 7.0f);
  // Smaller than any f16: such a group is zero.
  if (best == 0.0f) return 0.0f;
  float least = squared_error(x, best);
  for (float divisor = 7.25f; divisor <= 9.0f; divisor += 0.25f) {
    const float scale = round_f16(amax / divisor);
    const float error = scale == 0.0f ? least : squared_error(x, scale);
    if (error >= least) continue;
    best = scale;
    least = error;
  }
  return best;
}

void quantise8(std::span<const float> x, std::byte* codes, std::byte* scale) {
  // A scale below the normal numbers would be too coarse: such a group is zero.
  const float exact = largest(x) / 127.0f;
  const float value = exact < 1e-37f ? 0.0f : exact;
  if (scale != nullptr) std::memcpy(scale, &value, sizeof value);
  if (codes == nullptr) return;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float code = value == 0.0f ? 0.0f : std::clamp(round_even(x[i] / value), -127.0f, 127.0f);
    codes[i] = static_cast<std::byte>(static_cast<std::int8_t>(code));
  }
}

// `x` begins at an even column.
void quantise4(std::span<const float> x, std::byte* codes, std::byte* scale) {
  const float value = scale4(x);
  if (scale != nullptr) {
    const std::uint16_t bits = to_f16(value);
    std::memcpy(scale, &bits, sizeof bits);
  }
  if (codes == nullptr) return;
  const float inverse = value == 0.0f ? 0.0f : 1.0f / value;
  const auto nibble = [&](std::size_t i) {
    return i < x.size() ? static_cast<unsigned>(static_cast<int>(code4(x[i], inverse)) + 8) : 8u;
  };
  for (std::size_t i = 0; i < x.size(); i += 2)
    codes[i / 2] = static_cast<std::byte>(nibble(i) | nibble(i + 1) << 4);
}

template <class Word>
Word load(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> result{};
    for (unsigned code = 0; code < 256; ++code) result[code] = from_e4m3(code);
    return result;
  }();
  return values;
}

float scale_of(const dsv32::TensorInfo& scale, std::size_t i) {
  const std::byte* data = scale.data.data();
  return scale.dtype == "F8_E8M0" ? std::ldexp(1.0f, static_cast<int>(data[i]) - 127)
                                  : load<float>(data + 4 * i);
}

}  // namespace

void quantise_row(const CompactFormat& format, std::span<const float> row,
                  std::span<std::byte> codes, std::span<std::byte> scales) {
  const auto group = static_cast<std::size_t>(format.group);
  for (std::size_t first = 0; first < row.size(); first += group) {
    const auto x = row.subspan(first, std::min(group, row.size() - first));
    std::byte* scale =
        scales.empty() ? nullptr : &scales[first / group * (format.bits == 8 ? 4 : 2)];
    if (format.bits == 8)
      quantise8(x, codes.empty() ? nullptr : &codes[first], scale);
    else
      quantise4(x, codes.empty() ? nullptr : &codes[first / 2], scale);
  }
}

void SourceMatrix::read(std::int64_t row, std::span<float> out) const {
  const auto at = static_cast<std::size_t>((first + row) * cols);
  const std::byte* data = weight->data.data();
  const std::string& dtype = weight->dtype;
  if (dtype == "F32") {
    std::memcpy(out.data(), data + 4 * at, out.size_bytes());
  } else if (dtype == "BF16") {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = from_bf16(load<std::uint16_t>(data + 2 * (at + i)));
  } else if (dtype == "F16") {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = from_f16(load<std::uint16_t>(data + 2 * (at + i)));
  } else {
    const auto& values = e4m3_values();
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = values[static_cast<std::size_t>(data[at + i])];
    const std::int64_t blocks = (cols + kBlock - 1) / kBlock;
    for (std::size_t i = 0; i < out.size(); i += kBlock) {
      const float factor =
          scale_of(*scale, static_cast<std::size_t>(row / kBlock * blocks) + i / kBlock);
      for (float& value : out.subspan(i, std::min<std::size_t>(kBlock, out.size() - i)))
        value *= factor;
    }
  }
}

}  // namespace cli
