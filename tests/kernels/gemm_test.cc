// Topic gemm against its double-precision twin: every weight type, at widths that fit no block; and
// the state law of one output, bit by bit.
#include "tests/kernels/data.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;
using kernels::kBlock;
using kernels::Matrix;
using kernels::ScaleType;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Kind {
  ValueType type;
  ScaleType scale_type = ScaleType::f32;
  bool pow2 = false;
  int group = kBlock;  // columns of a scale

  bool blockwise() const { return kernels::has_scale(type) && !pow2; }
};

const Kind kKinds[] = {{ValueType::f32},
                       {ValueType::bf16},
                       {ValueType::f16},
                       {ValueType::e4m3, ScaleType::f32, true},
                       {ValueType::e4m3, ScaleType::e8m0, true},
                       {ValueType::e4m3, ScaleType::f32, false},
                       {ValueType::int8},
                       {ValueType::int4, ScaleType::f16, false, 64},
                       {ValueType::int4, ScaleType::f16, false, 128}};

// A weight with its scales, at an odd address. One block of scales is zero.
struct Weight {
  Bytes data, scale;
  Matrix matrix{};

  Weight(Data& random, std::int64_t out, std::int64_t in, const Kind& kind) {
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
    const int rows = kind.type == ValueType::e4m3 ? kBlock : 1;
    const std::int64_t scale_cols = ceil_div(in, kind.group),
                       count = ceil_div(out, rows) * scale_cols;
    std::vector<float> scales;
    for (std::int64_t i = 0; kernels::has_scale(kind.type) && i < count; ++i) {
      const int exponent = random.integer(-6, 0);
      const bool zero = kind.scale_type != ScaleType::e8m0 && i == count / 2 && count > 1;
      scales.push_back(zero ? 0.0f : std::ldexp(kind.pow2 ? 1.0f : 1.375f, exponent));
      if (kind.scale_type == ScaleType::e8m0)
        scale.push_back(static_cast<std::byte>(127 + exponent));
    }
    if (kind.scale_type == ScaleType::f32) scale = Data::stored(scales, ValueType::f32);
    if (kind.scale_type == ScaleType::f16) scale = Data::stored(scales, ValueType::f16);
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
struct Rows {
  ValueType type;
  Bytes data;
  std::vector<float> scale;  // e4m3

  Rows(Data& random, int rows, int cols, ValueType x_type, bool pow2) : type(x_type) {
    data = random.values(std::int64_t{rows} * cols, type, type == ValueType::e4m3 ? 100.0f : 1.0f);
    for (std::int64_t i = 0; type == ValueType::e4m3 && i < rows * ceil_div(cols, kBlock); ++i) {
      scale.push_back(std::ldexp(pow2 ? 1.0f : 1.625f, random.integer(-9, -5)));
    }
  }
};

std::vector<ValueType> types_of_x(const Kind& kind) {
  if (kind.type == ValueType::e4m3) return {ValueType::f32, ValueType::bf16, ValueType::e4m3};
  return {ValueType::f32, ValueType::bf16};
}

LinearCall call_of(const Weight& w, const Kind& kind, const Rows& x, int rows, int cols, int outs) {
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

TEST_CASE("linear equals its twin for every weight type") {
  Data data(11);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const Kind& kind : kKinds) {
      for (const int cols : {1, 40, 128, 300, 1100, 2049, 4300}) {
        const int rows = data.integer(1, 12), outs = 150;
        const Weight w(data, outs, cols, kind);
        for (const ValueType x_type : types_of_x(kind)) {
          const Rows x(data, rows, cols, x_type, kind.pow2);
          LinearCall call = call_of(w, kind, x, rows, cols, outs);
          call.first = 3;
          call.last = 147;
          for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
            call.type = type;
            INFO("weight " << int(kind.type) << " pow2 " << kind.pow2 << " group " << kind.group
                           << ", x " << int(x_type) << ", " << rows << " x " << cols);
            // f32 sums of a few thousand products, in another order.
            const double limit = type == ValueType::f32 ? 4e-6 : 8e-3;
            const Bytes out = run_linear(table, call);
            CHECK(deviation(read(out, type), read(run_linear(reference, call), type)) < limit);
          }
        }
      }
    }
  });
}

TEST_CASE("linear has the same bits for any number of rows and any range of outputs") {
  Data data(12);
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    for (const Kind& kind : kKinds) {
      const int most = kernels::kLinearRows, cols = 2200, outs = 140;
      const Weight w(data, outs, cols, kind);
      for (const ValueType x_type : types_of_x(kind)) {
        const Rows x(data, most, cols, x_type, kind.pow2);
        LinearCall call = call_of(w, kind, x, most, cols, outs);
        const Bytes all = run_linear(table, call);
        for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 64, 100}) {
          call.rows = rows;
          call.first_row = data.integer(0, most - rows);
          call.first = data.integer(0, 20);
          call.last = data.integer(outs - 12, outs);
          INFO("weight " << int(kind.type) << " pow2 " << kind.pow2 << " group " << kind.group
                         << ", x " << int(x_type) << ", " << rows << " rows");
          const Bytes part = run_linear(table, call);
          bool same = true;
          for (int m = 0; m < rows; ++m) {
            const std::size_t here = static_cast<std::size_t>(m * outs + call.first) * 4;
            const std::size_t there =
                static_cast<std::size_t>((call.first_row + m) * outs + call.first) * 4;
            const auto bytes = static_cast<std::size_t>(call.last - call.first) * 4;
            same = same && std::memcmp(part.data() + here, all.data() + there, bytes) == 0;
          }
          CHECK(same);
        }
      }
    }
  });
}

TEST_CASE("a NaN in weights or rows reaches its outputs, and no others") {
  Data data(16);
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    const int cols = 300, outs = 20;
    const Kind kind{ValueType::e4m3, ScaleType::f32, true};
    Weight w(data, outs, cols, kind);
    w.data[1 + 7 * cols + 260] = std::byte{0x7F};
    for (const int rows : {1, 4, 20}) {
      const Rows x(data, rows, cols, ValueType::bf16, true);
      const auto out =
          read(run_linear(table, call_of(w, kind, x, rows, cols, outs)), ValueType::f32);
      for (std::size_t i = 0; i < out.size(); ++i) CHECK(std::isnan(out[i]) == (i % outs == 7));
    }
  });
}

TEST_CASE("every e4m3 code times every power of two is exact") {
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    Bytes codes, scales;
    for (int code = 0; code < 256; ++code) codes.push_back(static_cast<std::byte>(code));
    for (int e = -100; e <= 100; e += 20) {
      scales = Data::stored({std::ldexp(1.0f, e), std::ldexp(1.0f, e)}, ValueType::f32);
      const Matrix w{.data = codes.data(),
                     .type = ValueType::e4m3,
                     .stride = 1,
                     .scale = scales.data(),
                     .scale_type = ScaleType::f32,
                     .scale_stride = 1,
                     .scales_are_pow2 = true};
      const Bytes x = Data::stored({1.0f}, ValueType::bf16);
      const auto out = read(run_linear(table, {.w = w,
                                               .x = x,
                                               .x_type = ValueType::bf16,
                                               .x_scale = nullptr,
                                               .blockwise = false,
                                               .type = ValueType::f32,
                                               .first_row = 0,
                                               .rows = 1,
                                               .cols = 1,
                                               .first = 0,
                                               .last = 256,
                                               .out_stride = 256}),
                            ValueType::f32);
      for (int code = 0; code < 256; ++code) {
        const double want =
            std::ldexp(static_cast<double>(kernels::from_e4m3(static_cast<std::uint8_t>(code))), e);
        const double got = out[static_cast<std::size_t>(code)];
        CHECK((got == want || (std::isnan(got) && std::isnan(want))));
      }
    }
  });
}

TEST_CASE("scales of x beyond those of conversion tables are exact") {
  const Bytes one(kBlock, std::byte{0x38});  // e4m3 1.0
  const Bytes unit = Data::stored({1.0f}, ValueType::f32);
  const Matrix w{.data = one.data(),
                 .type = ValueType::e4m3,
                 .stride = kBlock,
                 .scale = unit.data(),
                 .scale_type = ScaleType::f32,
                 .scale_stride = 1,
                 .scales_are_pow2 = true};
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    for (const float scale : {0x1p110f, 0x1p-110f, 0x1p100f, 0.0f}) {
      const auto out = read(run_linear(table, {.w = w,
                                               .x = one,
                                               .x_type = ValueType::e4m3,
                                               .x_scale = &scale,
                                               .blockwise = false,
                                               .type = ValueType::f32,
                                               .first_row = 0,
                                               .rows = 1,
                                               .cols = kBlock,
                                               .first = 0,
                                               .last = 1,
                                               .out_stride = 1}),
                            ValueType::f32);
      CHECK(out[0] == scale * float{kBlock});
    }
  });
}

}  // namespace
}  // namespace dsv32::test
