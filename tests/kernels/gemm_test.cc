// Topic gemm against its double-precision twin: every weight type, at widths that fit no block; and
// the state law of one output, bit by bit.
#include "tests/kernels/linear_data.h"
#include "tests/support/sanitized.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;
using kernels::kBlock;
using kernels::Matrix;
using kernels::ScaleType;

TEST_CASE("linear equals its twin for every weight type") {
  Data data(11);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const WeightKind& kind : kWeightKinds) {
      for (const int cols : {1, 40, 128, 300, 1100, 2049, 4300}) {
        const int rows = data.integer(1, 12), outs = 150;
        const WeightData w(data, outs, cols, kind);
        for (const ValueType x_type : types_of_x(kind)) {
          const RowsOfX x(data, rows, cols, x_type, kind.pow2);
          LinearCall call = linear_call(w, kind, x, rows, cols, outs);
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
    for (const WeightKind& kind : kWeightKinds) {
      const int most = kernels::kLinearRows, cols = 2200, outs = 140;
      const WeightData w(data, outs, cols, kind);
      for (const ValueType x_type : types_of_x(kind)) {
        const RowsOfX x(data, most, cols, x_type, kind.pow2);
        LinearCall call = linear_call(w, kind, x, most, cols, outs);
        const Bytes all = run_linear(table, call);
        for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 64, 100}) {
          if (kSanitized && rows % 3 != 1) continue;  // 1, 4, 7, 31, 64, 100
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
    const WeightKind kind{ValueType::e4m3, ScaleType::f32, true};
    WeightData w(data, outs, cols, kind);
    w.data[1 + 7 * cols + 260] = std::byte{0x7F};
    for (const int rows : {1, 4, 20}) {
      const RowsOfX x(data, rows, cols, ValueType::bf16, true);
      const auto out =
          read(run_linear(table, linear_call(w, kind, x, rows, cols, outs)), ValueType::f32);
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
