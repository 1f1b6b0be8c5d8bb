// Weights of every kind, and the rows that meet them: for the tests of topic gemm.
#ifndef DSV32_TESTS_KERNELS_LINEAR_DATA_H_
#define DSV32_TESTS_KERNELS_LINEAR_DATA_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/data.h"

#include "kernels/numbers.h"

namespace dsv32::test {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct WeightKind {
  ValueType type;
  kernels::ScaleType scale_type = kernels::ScaleType::f32;
  bool pow2 = false;
  int group = kernels::kBlock;  // columns of a scale

  bool blockwise() const { return kernels::has_scale(type) && !pow2; }
};

inline const WeightKind kWeightKinds[] = {{ValueType::f32},
                                          {ValueType::bf16},
                                          {ValueType::f16},
                                          {ValueType::e4m3, kernels::ScaleType::f32, true},
                                          {ValueType::e4m3, kernels::ScaleType::e8m0, true},
                                          {ValueType::e4m3, kernels::ScaleType::f32, false},
                                          {ValueType::int8},
                                          {ValueType::int4, kernels::ScaleType::f16, false, 64},
                                          {ValueType::int4, kernels::ScaleType::f16, false, 128}};

// A weight with its scales, at an odd address. One block of scales is zero.
struct WeightData {
  Bytes data, scale;
  kernels::Matrix matrix{};

  WeightData(Data& random, std::int64_t out, std::int64_t in, const WeightKind& kind) {
    const std::int64_t stride = kind.type == ValueType::int4 ? (in + 1) / 2 * 2 : in;
    if (kind.type == ValueType::int8 || kind.type == ValueType::int4) {
      const std::int64_t bytes = out * stride / (kind.type == ValueType::int4 ? 2 : 1);
      for (std::int64_t i = 0; i < bytes; ++i) {
        data.push_back(static_cast<std::byte>(random.integer(0, 255)));
      }
    } else {
      data = random.values(out * in, kind.type, kind.type == ValueType::e4m3 ? 60.0f : 1.0f);
    }
    data.insert(data.begin(), std::byte{0});
    const int rows = kind.type == ValueType::e4m3 ? kernels::kBlock : 1;
    const std::int64_t scale_cols = ceil_div(in, kind.group),
                       count = ceil_div(out, rows) * scale_cols;
    std::vector<float> scales;
    for (std::int64_t i = 0; kernels::has_scale(kind.type) && i < count; ++i) {
      const int exponent = random.integer(-6, 0);
      const bool zero = kind.scale_type != kernels::ScaleType::e8m0 && i == count / 2 && count > 1;
      scales.push_back(zero ? 0.0f : std::ldexp(kind.pow2 ? 1.0f : 1.375f, exponent));
      if (kind.scale_type == kernels::ScaleType::e8m0)
        scale.push_back(static_cast<std::byte>(127 + exponent));
    }
    if (kind.scale_type == kernels::ScaleType::f32) scale = Data::stored(scales, ValueType::f32);
    if (kind.scale_type == kernels::ScaleType::f16) scale = Data::stored(scales, ValueType::f16);
    scale.insert(scale.begin(), 3, std::byte{0});
    matrix = {.data = data.data() + 1,
              .type = kind.type,
              .stride = stride,
              .scale = scale.data() + 3,
              .scale_type = kind.scale_type,
              .scale_stride = scale_cols,
              .scale_rows = rows,
              .scale_cols = kind.group,
              .scales_are_pow2 = kind.pow2};
  }
};

// Rows of x in one of the types that meet a weight type.
struct RowsOfX {
  ValueType type;
  Bytes data;
  std::vector<float> scale;  // e4m3

  RowsOfX(Data& random, int rows, int cols, ValueType x_type, bool pow2) : type(x_type) {
    data = random.values(std::int64_t{rows} * cols, type, type == ValueType::e4m3 ? 100.0f : 1.0f);
    for (std::int64_t i = 0; type == ValueType::e4m3 && i < rows * ceil_div(cols, kernels::kBlock);
         ++i) {
      scale.push_back(std::ldexp(pow2 ? 1.0f : 1.625f, random.integer(-9, -5)));
    }
  }
};

inline std::vector<ValueType> types_of_x(const WeightKind& kind) {
  if (kind.type == ValueType::e4m3) return {ValueType::f32, ValueType::bf16, ValueType::e4m3};
  return {ValueType::f32, ValueType::bf16};
}

inline LinearCall linear_call(const WeightData& w, const WeightKind& kind, const RowsOfX& x,
                              int rows, int cols, int outs) {
  const bool fp8 = x.type == ValueType::e4m3;
  return {.w = w.matrix,
          .x = x.data,
          .x_type = x.type,
          .x_scale = fp8 ? x.scale.data() : nullptr,
          .blockwise = fp8 && kind.blockwise(),
          .type = ValueType::f32,
          .first_row = 0,
          .rows = rows,
          .cols = cols,
          .first = 0,
          .last = outs,
          .out_stride = outs};
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_KERNELS_LINEAR_DATA_H_
