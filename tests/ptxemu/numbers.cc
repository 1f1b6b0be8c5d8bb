#include "tests/ptxemu/numbers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dsv32::ptxemu {
namespace {

// A whole number of the format's steps, from a number that is not negative.
double whole(double steps, Rounding rounding, bool negative) {
  const double below = std::floor(steps);
  const double rest = steps - below;
  if (rest == 0) return below;
  switch (rounding) {
    case Rounding::zero:
      return below;
    case Rounding::down:
      return negative ? below + 1 : below;
    case Rounding::up:
      return negative ? below : below + 1;
    case Rounding::nearest:
      break;
  }
  if (rest != 0.5) return rest < 0.5 ? below : below + 1;
  return std::fmod(below, 2) == 0 ? below : below + 1;
}

std::uint32_t too_large(const Format& format, Rounding rounding, bool negative, bool satfinite) {
  const bool stays = rounding == Rounding::zero || (rounding == Rounding::down && !negative) ||
                     (rounding == Rounding::up && negative);
  if (satfinite || stays) return format.largest();
  return format.infinite ? format.largest() + 1 : format.nan();
}

}  // namespace

std::uint32_t Format::largest() const {
  const std::uint32_t topmost = sign() - 1;
  return infinite ? topmost - (1u << fraction_bits) : topmost - 1;
}

double decode(std::uint32_t bits, const Format& format) {
  const bool negative = (bits & format.sign()) != 0;
  const std::uint32_t magnitude = bits & (format.sign() - 1);
  double value = 0;
  if (magnitude > format.largest()) {
    const bool infinity = format.infinite && magnitude == format.largest() + 1;
    value = infinity ? std::numeric_limits<double>::infinity()
                     : std::numeric_limits<double>::quiet_NaN();
  } else {
    const std::uint32_t one = 1u << format.fraction_bits;
    const std::uint32_t exponent = magnitude >> format.fraction_bits;
    const std::uint32_t fraction = magnitude & (one - 1);
    const int lowest = 1 - format.bias() - format.fraction_bits;
    value = exponent == 0 ? std::ldexp(fraction, lowest)
                          : std::ldexp(fraction + one, lowest + static_cast<int>(exponent) - 1);
  }
  return negative ? -value : value;
}

std::uint32_t encode(double x, const Format& format, Rounding rounding, bool satfinite) {
  if (std::isnan(x)) return format.nan();
  const bool negative = std::signbit(x);
  const std::uint32_t sign = negative ? format.sign() : 0;
  const double size = std::fabs(x);
  if (std::isinf(x)) {
    if (satfinite) return sign | format.largest();
    return sign | (format.infinite ? format.largest() + 1 : format.nan());
  }
  if (size == 0) return sign;
  const int lowest = 1 - format.bias();
  const int exponent = std::max(std::ilogb(size), lowest);
  const double steps = whole(std::ldexp(size, format.fraction_bits - exponent), rounding, negative);
  // Steps count on through the exponents: a carry out of the fraction is the next exponent.
  const double code = steps + std::ldexp(exponent - lowest, format.fraction_bits);
  if (code > format.largest()) return sign | too_large(format, rounding, negative, satfinite);
  return sign | static_cast<std::uint32_t>(code);
}

std::uint32_t encode_e8m0(double x, Rounding rounding) {
  constexpr std::uint32_t kNan = 255;
  constexpr int kBias = 127;
  if (std::isnan(x)) return kNan;
  const double size = std::fabs(x);
  if (size == 0) return 0;
  if (std::isinf(x)) return kNan - 1;
  int exponent = std::ilogb(size);
  if (rounding == Rounding::up && std::ldexp(1.0, exponent) != size) ++exponent;
  return static_cast<std::uint32_t>(std::min(std::max(exponent + kBias, 0), 254));
}

}  // namespace dsv32::ptxemu
