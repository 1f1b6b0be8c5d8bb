// Normal random numbers as bytes: a counter, a hash of it, and tables of quantiles.
#include "cli/random_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "cli/number_formats.h"

namespace cli {
namespace {

constexpr std::size_t kFine = 4096;

// splitmix64's output function: a word for a number, so that pieces need no order.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::uint64_t word(std::uint64_t stream, std::uint64_t index) {
  return mix(stream + index * 0x9E3779B97F4A7C15u);
}

// Where the normal distribution has reached `probability`.
double quantile(double probability) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

// The middles of `count` equally likely parts, with variance 1.
std::vector<float> quantiles(std::size_t count) {
  std::vector<double> exact(count);
  double square = 0;
  for (std::size_t i = 0; i < count; ++i) {
    exact[i] = quantile((static_cast<double>(i) + 0.5) / static_cast<double>(count));
    square += exact[i] * exact[i];
  }
  const double unit = std::sqrt(static_cast<double>(count) / square);
  std::vector<float> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<float>(exact[i] * unit);
  return result;
}

const std::vector<float>& coarse_quantiles() {
  static const std::vector<float> values = quantiles(256);
  return values;
}

const std::vector<float>& fine_quantiles() {
  static const std::vector<float> values = quantiles(kFine);
  return values;
}

std::uint8_t nearest_e4m3(float x) {
  unsigned best = 0;
  for (unsigned code = 1; code <= 0x7E; ++code)
    if (std::abs(from_e4m3(code) - std::abs(x)) < std::abs(from_e4m3(best) - std::abs(x)))
      best = code;
  return static_cast<std::uint8_t>(best | (x < 0 ? 0x80u : 0u));
}

template <class Code>
std::shared_ptr<const std::vector<Code>> coded(float deviation, const std::vector<float>& values,
                                               Code (*nearest)(float)) {
  std::vector<Code> codes;
  for (const float value : values) codes.push_back(nearest(deviation * value));
  return std::make_shared<const std::vector<Code>>(std::move(codes));
}

// Eight bytes at a time: make(index) is what stands at byte 8 * index.
template <class Make>
void fill_words(std::size_t first, std::span<std::byte> out, const Make& make) {
  std::uint64_t index = first / 8;
  std::size_t i = 0;
  for (; i + 8 <= out.size(); i += 8) {
    const std::uint64_t value = make(index++);
    std::memcpy(out.data() + i, &value, 8);
  }
  if (i == out.size()) return;
  const std::uint64_t value = make(index);
  std::memcpy(out.data() + i, &value, out.size() - i);
}

// Two f32 in a word; the first one lies lower.
template <class Make>
Fill pairs(std::uint64_t stream, Make make) {
  return [=](std::size_t first, std::span<std::byte> out) {
    fill_words(first, out, [&](std::uint64_t index) {
      const std::uint64_t random = word(stream, index);
      const auto low = std::bit_cast<std::uint32_t>(make(static_cast<std::uint32_t>(random)));
      const auto high =
          std::bit_cast<std::uint32_t>(make(static_cast<std::uint32_t>(random >> 32)));
      return std::uint64_t{high} << 32 | low;
    });
  };
}

}  // namespace

std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = mix(seed + 1);
  for (const char c : name) hash = mix(hash ^ static_cast<unsigned char>(c));
  return hash;
}

Fill NormalValues::e4m3(std::uint64_t stream, float deviation) {
  Table<std::uint8_t>& table = e4m3_[deviation];
  if (!table) table = coded(deviation, coarse_quantiles(), nearest_e4m3);
  return [stream, table](std::size_t first, std::span<std::byte> out) {
    fill_words(first, out, [stream, codes = table->data()](std::uint64_t index) {
      const std::uint64_t random = word(stream, index);
      std::uint64_t result = 0;
      for (unsigned shift = 0; shift < 64; shift += 8)
        result |= std::uint64_t{codes[(random >> shift) & 0xFF]} << shift;
      return result;
    });
  };
}

Fill NormalValues::bf16(std::uint64_t stream, float deviation) {
  Table<std::uint16_t>& table = bf16_[deviation];
  if (!table) table = coded(deviation, fine_quantiles(), to_bf16);
  return [stream, table](std::size_t first, std::span<std::byte> out) {
    fill_words(first, out, [stream, codes = table->data()](std::uint64_t index) {
      const std::uint64_t random = word(stream, index);
      std::uint64_t result = 0;
      for (unsigned shift = 0; shift < 64; shift += 16)
        result |= std::uint64_t{codes[(random >> shift) % kFine]} << shift;
      return result;
    });
  };
}

Fill NormalValues::f32(std::uint64_t stream, float mean, float deviation) {
  return pairs(stream, [=](std::uint32_t random) {
    return mean + deviation * fine_quantiles()[random % kFine];
  });
}

Fill scales_f32(std::uint64_t stream, float base, bool odd) {
  return pairs(stream, [=](std::uint32_t random) {
    const float uniform = std::ldexp(static_cast<float>(random >> 8), -24);
    return odd ? base * (0.5f + 1.5f * uniform)
               : std::ldexp(base, static_cast<int>(random % 3) - 1);
  });
}

Fill scales_e8m0(std::uint64_t stream, float base) {
  const int exponent = std::ilogb(base) + 127;
  return [=](std::size_t first, std::span<std::byte> out) {
    fill_words(first, out, [&](std::uint64_t index) {
      const std::uint64_t random = word(stream, index);
      std::uint64_t result = 0;
      for (unsigned shift = 0; shift < 64; shift += 8)
        result |= (static_cast<std::uint64_t>(exponent - 1) + ((random >> shift) & 0xFF) % 3)
                  << shift;
      return result;
    });
  };
}

}  // namespace cli
