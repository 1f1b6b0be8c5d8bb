// Formats of numbers, as kernels/numbers.h has them for the host: e4m3, bf16, f16, e8m0, scales.
#ifndef DSV32_KERNELS_CUDA_SMXX_VALUES_CUH_
#define DSV32_KERNELS_CUDA_SMXX_VALUES_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/smxx/atoms.cuh"
#include "kernels/params.h"

namespace dsv32::kernels::cuda {

using Byte = std::uint8_t;

__device__ __forceinline__ float from_bf16(std::uint32_t half) {
  return __uint_as_float(half << 16);
}
__device__ __forceinline__ float round_bf16(float x) { return __uint_as_float(pack_bf16(0.0f, x)); }

// The code in the top byte of `word`, whose other bytes do not matter. Sign and rest go to their
// places in an f32 by one signed shift; 2^120 makes up for the bias, of subnormals, too. The two
// NaNs come out as +-480: see spoil_nan.
__device__ __forceinline__ float from_e4m3_top(std::uint32_t word) {
  const int bits = static_cast<int>(word) >> 4;
  return __uint_as_float(static_cast<std::uint32_t>(bits) & 0x87F00000u) * 0x1p120f;
}
// Is one of four codes a NaN?
__device__ __forceinline__ bool holds_nan_e4m3(std::uint32_t four) {
  return (((four & 0x7F7F7F7Fu) + 0x01010101u) & 0x80808080u) != 0;
}
__device__ __forceinline__ float spoil_nan(float x) {
  return fabsf(x) == 480.0f ? __uint_as_float(0x7FC00000u) : x;
}
__device__ __forceinline__ float from_e4m3(std::uint32_t code) {
  return spoil_nan(from_e4m3_top(code << 24));
}
__device__ __forceinline__ void from_e4m3_four(std::uint32_t four, float (&out)[4]) {
  out[0] = from_e4m3_top(four << 24);
  out[1] = from_e4m3_top(four << 16);
  out[2] = from_e4m3_top(four << 8);
  out[3] = from_e4m3_top(four);
  if (holds_nan_e4m3(four)) {
#pragma unroll
    for (int j = 0; j < 4; ++j) out[j] = spoil_nan(out[j]);
  }
}

// Two codes, in the top bytes of the halves of `word`, whose other bytes are zeros, as two bf16: as
// from_e4m3_top, in the places of a bf16.
__device__ __forceinline__ std::uint32_t bf16_from_e4m3_tops(std::uint32_t word) {
  const std::uint32_t pair = (word & 0x80008000u) | (word >> 4 & 0x07F007F0u);
  return scale_bf16(pair, 0x7B807B80u);  // 2^120
}
// Of each half that is +-480, which no code means, a NaN.
__device__ __forceinline__ std::uint32_t spoil_nans(std::uint32_t pair) {
  if ((pair & 0x7FFFu) == 0x43F0u) pair |= 0x7FFFu;
  if ((pair >> 16 & 0x7FFFu) == 0x43F0u) pair |= 0x7FFFu << 16;
  return pair;
}
// Eight codes as four pairs of bf16.
__device__ __forceinline__ uint4 bf16_from_e4m3_eight(const uint2& codes) {
  uint4 pairs = make_uint4(bf16_from_e4m3_tops(__byte_perm(codes.x, 0, 0x1404)),
                           bf16_from_e4m3_tops(__byte_perm(codes.x, 0, 0x3424)),
                           bf16_from_e4m3_tops(__byte_perm(codes.y, 0, 0x1404)),
                           bf16_from_e4m3_tops(__byte_perm(codes.y, 0, 0x3424)));
  if (holds_nan_e4m3(codes.x) || holds_nan_e4m3(codes.y)) {
    pairs = make_uint4(spoil_nans(pairs.x), spoil_nans(pairs.y), spoil_nans(pairs.z),
                       spoil_nans(pairs.w));
  }
  return pairs;
}

// Pairs of bf16 times a scale, rounded once. Scales that are bf16 themselves, as powers of two are,
// need no f32: the product is exact there, too, and rounded the same.
__device__ __forceinline__ std::uint32_t scaled(std::uint32_t pair, float scale) {
  return pack_bf16(__uint_as_float(pair << 16) * scale,
                   __uint_as_float(pair & 0xFFFF0000u) * scale);
}
__device__ __forceinline__ uint4 scaled(const uint4& pairs, float scale) {
  const std::uint32_t bits = __float_as_uint(scale);
  if ((bits & 0xFFFFu) != 0) {
    return make_uint4(scaled(pairs.x, scale), scaled(pairs.y, scale), scaled(pairs.z, scale),
                      scaled(pairs.w, scale));
  }
  const std::uint32_t both = __byte_perm(bits, 0, 0x3232);
  return make_uint4(scale_bf16(pairs.x, both), scale_bf16(pairs.y, both), scale_bf16(pairs.z, both),
                    scale_bf16(pairs.w, both));
}

// Round to nearest even, saturating at +-448; NaN is code 0x7F.
__device__ __forceinline__ std::uint32_t to_e4m3(float x) {
  const std::uint32_t bits = __float_as_uint(x), magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t size = min(magnitude, 0x43E00000u);
  const float small = __uint_as_float(size) + 0x1p14f;  // below 2^-6: multiples of 2^-9
  const std::uint32_t normal = (size + 0x7FFFFu + (size >> 20 & 1u) - (120u << 23)) >> 20;
  std::uint32_t code = size < 0x3C800000u ? __float_as_uint(small) - 0x46800000u : normal;
  code = magnitude > 0x7F800000u ? 0x7Fu : code;
  return (bits >> 24 & 0x80u) | code;
}

__device__ __forceinline__ float from_e8m0(std::uint32_t code) {
  if (code == 0xFFu) return __uint_as_float(0x7FC00000u);
  return code == 0 ? 0x1p-127f : __uint_as_float(code << 23);
}

// The scale of a block whose largest magnitude is `amax`.
__device__ __forceinline__ float fp8_scale(float amax, bool pow2) {
  const float scale = (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
  if (!pow2) return scale;
  const std::uint32_t bits = __float_as_uint(scale);
  return __uint_as_float(((bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1u : 0u)) << 23);
}

// Loads that need no alignment but that of their elements.
__device__ __forceinline__ const Byte* bytes(const std::byte* p) {
  return reinterpret_cast<const Byte*>(p);
}
__device__ __forceinline__ bool aligned(const void* p, unsigned bytes) {
  return (reinterpret_cast<std::uintptr_t>(p) & (bytes - 1)) == 0;
}
__device__ __forceinline__ std::uint32_t load_u16(const std::byte* p) {
  if (aligned(p, 2)) return *reinterpret_cast<const std::uint16_t*>(p);
  return static_cast<std::uint32_t>(bytes(p)[0]) | static_cast<std::uint32_t>(bytes(p)[1]) << 8;
}
__device__ __forceinline__ std::uint32_t load_u32(const std::byte* p) {
  if (aligned(p, 4)) return *reinterpret_cast<const std::uint32_t*>(p);
  return load_u16(p) | load_u16(p + 2) << 16;
}

// Element `i` of a weight's values, without its scale.
__device__ __forceinline__ float load_value(const std::byte* data, ValueType type, std::int64_t i) {
  switch (type) {
    case ValueType::f32:
      return __uint_as_float(load_u32(data + 4 * i));
    case ValueType::bf16:
      return from_bf16(load_u16(data + 2 * i));
    case ValueType::f16:
      return from_f16(static_cast<std::uint16_t>(load_u16(data + 2 * i)));
    case ValueType::int8:
      return static_cast<float>(static_cast<std::int8_t>(bytes(data)[i]));
    case ValueType::int4: {
      const int pair = bytes(data)[i >> 1];
      return static_cast<float>((i & 1 ? pair >> 4 : pair & 15) - 8);
    }
    case ValueType::e4m3:
      break;
  }
  return from_e4m3(bytes(data)[i]);
}

__device__ __forceinline__ bool has_scale(ValueType type) {
  return type == ValueType::e4m3 || type == ValueType::int8 || type == ValueType::int4;
}

// The scale of weight element [row, col]; 1 of a weight that has none.
__device__ __forceinline__ float block_scale(const Matrix& w, int row, int col) {
  if (!has_scale(w.type)) return 1.0f;
  const std::int64_t i = row / w.scale_rows * w.scale_stride + col / w.scale_cols;
  switch (w.scale_type) {
    case ScaleType::e8m0:
      return from_e8m0(bytes(w.scale)[i]);
    case ScaleType::f16:
      return from_f16(static_cast<std::uint16_t>(load_u16(w.scale + 2 * i)));
    case ScaleType::f32:
      break;
  }
  return __uint_as_float(load_u32(w.scale + 4 * i));
}

// ---- activations: of the kernels' own buffers, whose elements are aligned
struct F32 {
  using Stored = float;
  static __device__ __forceinline__ float load(const std::byte* row, std::int64_t i) {
    return reinterpret_cast<const float*>(row)[i];
  }
  static __device__ __forceinline__ void store(std::byte* row, std::int64_t i, float x) {
    reinterpret_cast<float*>(row)[i] = x;
  }
  static __device__ __forceinline__ float round(float x) { return x; }
  static __device__ __forceinline__ void load_four(const std::byte* at, float (&out)[4]) {
    const float4 v = *reinterpret_cast<const float4*>(at);
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  }
  static __device__ __forceinline__ void store_four(std::byte* at, const float (&x)[4]) {
    *reinterpret_cast<float4*>(at) = make_float4(x[0], x[1], x[2], x[3]);
  }
};

struct Bf16 {
  using Stored = std::uint16_t;
  static __device__ __forceinline__ float load(const std::byte* row, std::int64_t i) {
    return from_bf16(reinterpret_cast<const std::uint16_t*>(row)[i]);
  }
  static __device__ __forceinline__ void store(std::byte* row, std::int64_t i, float x) {
    reinterpret_cast<std::uint16_t*>(row)[i] = static_cast<std::uint16_t>(pack_bf16(x, 0.0f));
  }
  static __device__ __forceinline__ float round(float x) { return round_bf16(x); }
  static __device__ __forceinline__ void load_four(const std::byte* at, float (&out)[4]) {
    const uint2 v = *reinterpret_cast<const uint2*>(at);
    out[0] = __uint_as_float(v.x << 16), out[1] = __uint_as_float(v.x & 0xFFFF0000u);
    out[2] = __uint_as_float(v.y << 16), out[3] = __uint_as_float(v.y & 0xFFFF0000u);
  }
  static __device__ __forceinline__ void store_four(std::byte* at, const float (&x)[4]) {
    *reinterpret_cast<uint2*>(at) = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
  }
};

// Four elements from `i` on of `n` in all; zeros behind the last.
template <class T>
__device__ __forceinline__ void load_four(const std::byte* row, std::int64_t i, std::int64_t n,
                                          float (&out)[4]) {
  const std::byte* at = row + i * static_cast<int>(sizeof(typename T::Stored));
  if (i + 4 <= n && aligned(at, 4 * sizeof(typename T::Stored))) {
    T::load_four(at, out);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) out[j] = i + j < n ? T::load(row, i + j) : 0.0f;
}

template <class T>
__device__ __forceinline__ void store_four(std::byte* row, std::int64_t i, std::int64_t n,
                                           const float (&x)[4]) {
  std::byte* at = row + i * static_cast<int>(sizeof(typename T::Stored));
  if (i + 4 <= n && aligned(at, 4 * sizeof(typename T::Stored))) {
    T::store_four(at, x);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (i + j < n) T::store(row, i + j, x[j]);
  }
}

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_VALUES_CUH_
