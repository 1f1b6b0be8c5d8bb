// Floating-point formats narrower than f32, bit by bit and with every rounding that cvt has
// (PTX ISA, "Fundamental Types" and "Alternate Floating-Point Data Formats"; cvt). Written apart
// from the library's own conversions, which kernels are compared with.
#ifndef DSV32_TESTS_PTXEMU_NUMBERS_H_
#define DSV32_TESTS_PTXEMU_NUMBERS_H_

#include <bit>
#include <cstdint>

namespace dsv32::ptxemu {

enum class Rounding : std::uint8_t { nearest, zero, down, up };

struct Format {
  int exponent_bits = 0, fraction_bits = 0;
  bool infinite = true;  // false: the topmost code alone is no number, all others are finite
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  std::uint32_t sign() const { return 1u << (exponent_bits + fraction_bits); }
  std::uint32_t largest() const;  // finite
  std::uint32_t nan() const { return sign() - 1; }
};
inline constexpr Format kF16{5, 10}, kBf16{8, 7}, kE5m2{5, 2}, kE4m3{4, 3, false};

double decode(std::uint32_t bits, const Format& format);
// satfinite: what is too large becomes the largest finite number, infinity too.
std::uint32_t encode(double x, const Format& format, Rounding rounding, bool satfinite);

std::uint32_t encode_e8m0(double x, Rounding rounding);  // up or zero; sign is dropped

inline float from_bf16(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
inline float from_f16(std::uint32_t bits) { return static_cast<float>(decode(bits, kF16)); }

inline std::uint16_t to_bf16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
inline std::uint16_t to_f16(double x) {
  return static_cast<std::uint16_t>(encode(x, kF16, Rounding::nearest, false));
}

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_NUMBERS_H_
