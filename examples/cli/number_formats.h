// The number formats of weights, in plain C++: nothing of the library's.
#ifndef EXAMPLES_CLI_NUMBER_FORMATS_H_
#define EXAMPLES_CLI_NUMBER_FORMATS_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cli {

inline float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

inline std::uint16_t to_bf16(float x) {  // finite; to nearest, ties to even
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

inline float from_e4m3(unsigned code) {
  if ((code & 0x7Fu) == 0x7Fu) return std::numeric_limits<float>::quiet_NaN();
  const auto exponent = static_cast<int>(code >> 3 & 15u), mantissa = static_cast<int>(code & 7u);
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (code & 0x80u) != 0 ? -size : size;
}

inline float from_f16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                             : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  if (exponent == 31)
    size = mantissa != 0 ? std::numeric_limits<float>::quiet_NaN()
                         : std::numeric_limits<float>::infinity();
  return (bits & 0x8000u) != 0 ? -size : size;
}

inline float round_f16(float x) {  // to a value that f16 has, ties to even; 0 <= x <= 65504
  const int exponent = x == 0.0f ? -14 : std::max(std::ilogb(x), -14);
  return std::ldexp(std::nearbyint(std::ldexp(x, 10 - exponent)), exponent - 10);
}

inline std::uint16_t to_f16(float x) {  // of such a value
  const int exponent = x == 0.0f ? -15 : std::max(std::ilogb(x), -15);
  if (exponent < -14) return static_cast<std::uint16_t>(std::ldexp(x, 24));
  return static_cast<std::uint16_t>(((exponent + 15) << 10) |
                                    (static_cast<int>(std::ldexp(x, 10 - exponent)) & 1023));
}

}  // namespace cli

#endif  // EXAMPLES_CLI_NUMBER_FORMATS_H_
