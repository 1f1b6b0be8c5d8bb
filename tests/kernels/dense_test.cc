// Topic dense against its double-precision twin, at widths that fit no block.
#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;
using kernels::kBlock;
using kernels::Matrix;

constexpr ValueType kTypes[] = {ValueType::f32, ValueType::bf16};

std::int64_t blocks(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

TEST_CASE("norm, residual sum and silu equal their twins") {
  Data data(13);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const ValueType type : kTypes) {
      for (const int cols : {8, 100, 257}) {
        const int rows = 5;
        const Bytes x = data.values(rows * cols, type), residual = data.values(rows * cols, type);
        const auto gain = data.floats(cols);
        const auto norm = [&](const CpuKernels& kernel, bool with_residual) {
          Bytes sum = residual, out(x.size());
          kernel.add_rms_norm({.x = x.data(),
                               .residual = with_residual ? sum.data() : nullptr,
                               .gain = gain.data(),
                               .out = out.data(),
                               .x_stride = cols,
                               .residual_stride = cols,
                               .out_stride = cols,
                               .eps = 1e-6f,
                               .x_type = type,
                               .type = type,
                               .num_rows = rows,
                               .cols = cols});
          auto all = read(out, type);
          for (const double value : read(sum, type)) all.push_back(value);
          return all;
        };
        for (const bool with : {false, true}) {
          CHECK(deviation(norm(table, with), norm(reference, with)) < tolerance(type));
        }
        const auto silu = [&](const CpuKernels& kernel) {
          Bytes out(x.size());
          kernel.silu_mul({.gate = x.data(),
                           .up = residual.data(),
                           .out = out.data(),
                           .type = type,
                           .num_rows = rows,
                           .cols = cols});
          return read(out, type);
        };
        CHECK(deviation(silu(table), silu(reference)) < tolerance(type));
      }
    }
  });
}

TEST_CASE("quantised activations equal their twins, code by code") {
  Data data(14);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const bool pow2 : {true, false}) {
      const int rows = 6, cols = 300;
      auto values = data.floats(rows * cols, 5.0f);
      std::fill(values.begin(), values.begin() + kBlock, 0.0f);  // a block of zeros
      const Bytes x = Data::stored(values, ValueType::bf16);
      const auto run = [&](const CpuKernels& kernel, std::vector<float>& scale) {
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols));
        scale.assign(static_cast<std::size_t>(rows * blocks(cols)), 0.0f);
        kernel.quantise({.x = x.data(),
                         .out = codes.data(),
                         .scale = scale.data(),
                         .x_stride = cols,
                         .type = ValueType::bf16,
                         .pow2 = pow2,
                         .num_rows = rows,
                         .cols = cols});
        return codes;
      };
      std::vector<float> scale, twin_scale;
      const auto codes = run(table, scale);
      CHECK(codes == run(reference, twin_scale));
      CHECK(scale == twin_scale);
    }
  });
}

TEST_CASE("embed copies rows of any type") {
  Data data(15);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    const int cols = 33;
    const std::vector<std::int32_t> tokens = {4, 0, 9, 4};
    for (const ValueType type : {ValueType::f32, ValueType::bf16, ValueType::f16}) {
      const Bytes rows = data.values(10 * cols, type);
      const Matrix table_of_rows{.data = rows.data(),
                                 .type = type,
                                 .stride = cols,
                                 .scale = nullptr,
                                 .scale_type = kernels::ScaleType::f32,
                                 .scale_stride = 0};
      const auto run = [&](const CpuKernels& kernel) {
        Bytes out(tokens.size() * cols * 4);
        kernel.embed({.tokens = tokens.data(),
                      .table = table_of_rows,
                      .out = out.data(),
                      .type = ValueType::f32,
                      .num_rows = 4,
                      .cols = cols});
        return out;
      };
      CHECK(run(table) == run(reference));
    }
  });
}

}  // namespace
}  // namespace dsv32::test
