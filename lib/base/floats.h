// Elements of stored tensors as floats, at any alignment. (Kernels have their own, faster.)
#ifndef DSV32_LIB_BASE_FLOATS_H_
#define DSV32_LIB_BASE_FLOATS_H_

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "lib/base/tensor.h"

namespace dsv32 {

inline float half_to_float(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const auto mantissa = static_cast<float>(half & 1023);
  const float size = exponent == 31
                         ? (half & 1023 ? std::nanf("") : std::numeric_limits<float>::infinity())
                     : exponent == 0 ? std::ldexp(mantissa, -24)
                                     : std::ldexp(mantissa + 1024.0f, exponent - 25);
  return half & 0x8000 ? -size : size;
}

// Element `i` of data of type f32, bf16, f16 or f8_e8m0 (255: NaN).
inline float read_element(const std::byte* data, DType dtype, std::size_t i) {
  if (dtype == DType::f8_e8m0) {
    const int code = static_cast<int>(data[i]);
    return code == 255 ? std::nanf("") : std::ldexp(1.0f, code - 127);
  }
  if (dtype == DType::f32) {
    float x = 0;
    std::memcpy(&x, data + 4 * i, sizeof x);
    return x;
  }
  std::uint16_t half = 0;
  std::memcpy(&half, data + 2 * i, sizeof half);
  return dtype == DType::f16 ? half_to_float(half)
                             : std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FLOATS_H_
