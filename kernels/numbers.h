// Bit-level conversions that kernels and their reference share: e4m3, bf16, f16, e8m0, FP8 scales.
// All functions are static, so that no object file holds a copy that another could pick up.
#ifndef DSV32_KERNELS_NUMBERS_H_
#define DSV32_KERNELS_NUMBERS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/params.h"

namespace dsv32::kernels {

static inline std::uint32_t float_bits(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float bits_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Round to nearest even; a NaN stays one.
static inline std::uint16_t to_bf16(float x) {
  const std::uint32_t bits = float_bits(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static inline float from_bf16(std::uint16_t x) {
  return bits_float(static_cast<std::uint32_t>(x) << 16);
}

static inline float round_bf16(float x) { return from_bf16(to_bf16(x)); }

static inline float from_f16(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t rest = half & 0x7FFFu;
  if (rest >= 0x7C00u) return bits_float(sign | 0x7F800000u | ((rest & 0x3FFu) << 13));
  if (rest >= 0x400u) return bits_float(sign | ((rest << 13) + (112u << 23)));
  const float value = static_cast<float>(rest) * 0x1p-24f;  // subnormal
  return sign ? -value : value;
}

// The finite-only E4M3: bias 7, 0x7F and 0xFF are NaN, the largest is 448.
static inline float from_e4m3(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t rest = code & 0x7Fu;
  if (rest == 0x7Fu) return bits_float(sign | 0x7FC00000u);
  if (rest >= 8u) return bits_float(sign | ((rest << 20) + (120u << 23)));
  const float value = static_cast<float>(rest) * 0x1p-9f;  // subnormal
  return sign ? -value : value;
}

// Round to nearest even, saturating at +-448.
static inline std::uint8_t to_e4m3(float x) {
  const std::uint32_t bits = float_bits(x);
  const std::uint8_t sign = static_cast<std::uint8_t>((bits >> 24) & 0x80u);
  std::uint32_t size = bits & 0x7FFFFFFFu;
  if (size > 0x7F800000u) return sign | 0x7Fu;
  if (size >= 0x43E00000u) return sign | 0x7Eu;  // 448
  if (size < 0x3C800000u) {                      // below 2^-6: multiples of 2^-9
    const std::uint32_t code = float_bits(bits_float(size) + 0x1p14f) - float_bits(0x1p14f);
    return static_cast<std::uint8_t>(sign | code);
  }
  size += 0x7FFFFu + ((size >> 20) & 1u);
  return static_cast<std::uint8_t>(sign | ((size >> 20) - (120u << 3)));
}

static inline float from_e8m0(std::uint8_t code) {
  if (code == 0xFFu) return bits_float(0x7FC00000u);
  return code == 0 ? 0x1p-127f : bits_float(static_cast<std::uint32_t>(code) << 23);
}

// The scale of a group whose largest magnitude is `amax`: amax / 448 with amax at least 1e-4,
// rounded up to a power of two if `pow2` (DeepSeek's act_quant).
static inline float fp8_scale(float amax, bool pow2) {
  const float scale = (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
  if (!pow2) return scale;
  const std::uint32_t bits = float_bits(scale);
  return bits_float(((bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1u : 0u)) << 23);
}

// The scale of INT8 codes whose largest magnitude is `amax`: amax / 127 with amax at least 1e-4;
// NaN if that is not finite.
static inline float int8_scale(float amax) {
  if (!(amax <= 0x1.fffffep127f)) return __builtin_nanf("");
  return (amax > 1e-4f ? amax : 1e-4f) / 127.0f;
}

// The code of x, |x| <= 127.5 scales: round to nearest even. 0 if the scale is NaN.
static inline std::int8_t to_int8(float x, float scale) {
  if (scale != scale) return 0;
  const std::uint32_t code = float_bits(x / scale + 0x1.8p23f) - float_bits(0x1.8p23f);
  return static_cast<std::int8_t>(code);
}

static inline float load_f32(const std::byte* p) {
  float x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

static inline std::uint16_t load_u16(const std::byte* p) {
  std::uint16_t x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

// Element `i` of an array of any type and alignment; codes without their scale.
static inline float load_value(const std::byte* data, ValueType type, std::int64_t i) {
  switch (type) {
    case ValueType::f32:
      return load_f32(data + 4 * i);
    case ValueType::bf16:
      return from_bf16(load_u16(data + 2 * i));
    case ValueType::f16:
      return from_f16(load_u16(data + 2 * i));
    case ValueType::int8:
      return static_cast<float>(static_cast<std::int8_t>(data[i]));
    case ValueType::int4: {
      const int pair = static_cast<int>(data[i / 2]);
      return static_cast<float>((i % 2 == 0 ? pair & 15 : pair >> 4) - 8);
    }
    case ValueType::e4m3:
      break;
  }
  return from_e4m3(static_cast<std::uint8_t>(data[i]));
}

// Rounds to `type`, f32 or bf16.
static inline void store_value(std::byte* data, ValueType type, std::int64_t i, float x) {
  if (type == ValueType::f32) {
    std::memcpy(data + 4 * i, &x, sizeof x);
  } else {
    const std::uint16_t half = to_bf16(x);
    std::memcpy(data + 2 * i, &half, sizeof half);
  }
}

static inline float round_to(ValueType type, float x) {
  return type == ValueType::f32 ? x : round_bf16(x);
}

static inline bool has_scale(ValueType type) {
  return type == ValueType::e4m3 || type == ValueType::int8 || type == ValueType::int4;
}

// The scale of weight element [row, col].
static inline float block_scale(const Matrix& w, std::int64_t row, std::int64_t col) {
  const std::int64_t i = row / w.scale_rows * w.scale_stride + col / w.scale_cols;
  switch (w.scale_type) {
    case ScaleType::e8m0:
      return from_e8m0(static_cast<std::uint8_t>(w.scale[i]));
    case ScaleType::f16:
      return from_f16(load_u16(w.scale + 2 * i));
    case ScaleType::f32:
      break;
  }
  return load_f32(w.scale + 4 * i);
}

}  // namespace dsv32::kernels

#endif  // DSV32_KERNELS_NUMBERS_H_
