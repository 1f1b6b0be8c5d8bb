// exp and log from additions, multiplications and divisions alone: the same bits on every machine
// and with every compiler (built without contraction). Accurate to a few ulp.
#ifndef DSV32_LIB_BASE_PORTABLE_MATH_H_
#define DSV32_LIB_BASE_PORTABLE_MATH_H_

#include <bit>
#include <cstdint>

namespace dsv32 {

inline constexpr double kLn2High = 6.93147180369123816490e-01;  // fdlibm's split of ln 2
inline constexpr double kLn2Low = 1.90821492927058770002e-10;

// e^x for x <= 0; below -700: 0.
inline double portable_exp(double x) {
  if (!(x > -700.0)) return 0.0;
  const double n = static_cast<double>(static_cast<int>(x * 1.4426950408889634 - 0.5));
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double p = 1.0 / 6227020800.0;  // Taylor to r^13, |r| < 0.35
  for (const double factorial : {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0,
                                 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0}) {
    p = p * r + 1.0 / factorial;
  }
  return p * std::bit_cast<double>(static_cast<std::uint64_t>(static_cast<int>(n) + 1023) << 52);
}

// ln x for normal x > 0: x = m 2^k with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m - 1) / (m +
// 1)).
inline double portable_log(double x) {
  std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
  int k = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u;
  double m = std::bit_cast<double>(bits);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++k;
  }
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 0.0;
  for (int i = 21; i >= 1; i -= 2) p = p * z + 1.0 / i;
  return k * kLn2High + (2.0 * s * p + k * kLn2Low);
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_PORTABLE_MATH_H_
