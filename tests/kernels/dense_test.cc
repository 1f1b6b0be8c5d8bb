// Topics dense and gemm against their double-precision twins, at widths that fit no block.
#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;
using kernels::kBlock;
using kernels::Matrix;

constexpr ValueType kTypes[] = {ValueType::f32, ValueType::bf16};

std::int64_t blocks(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

// A weight with its scales, at an odd address.
struct Weight {
  Bytes data, scale;
  Matrix matrix;

  Weight(Data& random, std::int64_t out, std::int64_t in, ValueType type, bool e8m0, bool pow2) {
    data = random.values(out * in, type, type == ValueType::e4m3 ? 60.0f : 1.0f);
    data.insert(data.begin(), std::byte{0});
    std::vector<float> scales;
    for (std::int64_t i = 0; i < blocks(out) * blocks(in); ++i) {
      const int exponent = random.integer(-6, 0);
      scales.push_back(std::ldexp(pow2 || e8m0 ? 1.0f : 1.37f, exponent));
      if (e8m0) scale.push_back(static_cast<std::byte>(127 + exponent));
    }
    if (!e8m0) scale = Data::stored(scales, ValueType::f32);
    scale.insert(scale.begin(), 3, std::byte{0});
    matrix = {.data = data.data() + 1,
              .type = type,
              .stride = in,
              .scale = scale.data() + 3,
              .e8m0 = e8m0,
              .scale_stride = blocks(in)};
  }
};

TEST_CASE("linear equals its twin for every weight type") {
  Data data(11);
  struct Kind {
    ValueType type;
    bool e8m0, pow2;
  };
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const Kind kind :
         {Kind{ValueType::f32, false, false}, Kind{ValueType::bf16, false, false},
          Kind{ValueType::f16, false, false}, Kind{ValueType::e4m3, false, true},
          Kind{ValueType::e4m3, true, true}, Kind{ValueType::e4m3, false, false}}) {
      for (const int cols : {1, 40, 128, 300, 1100}) {
        const bool blockwise = kind.type == ValueType::e4m3 && !kind.pow2;
        const int rows = data.integer(1, 9), outs = 150, first = 3, last = 147;
        const Weight w(data, outs, cols, kind.type, kind.e8m0, kind.pow2);
        const auto x = data.floats(rows * cols);
        const auto x_scale = data.floats(rows * blocks(cols));
        for (const ValueType type : kTypes) {
          const auto run = [&](const CpuKernels& kernel) {
            Bytes out(static_cast<std::size_t>(rows * outs * bytes_of(type)));
            kernel.linear({.w = w.matrix,
                           .x = x.data(),
                           .x_scale = blockwise ? x_scale.data() : nullptr,
                           .out = out.data(),
                           .out_stride = outs,
                           .type = type,
                           .num_rows = rows,
                           .cols = cols,
                           .first = first,
                           .last = last});
            return read(out, type);
          };
          INFO("cols " << cols << ", e8m0 " << kind.e8m0 << ", pow2 " << kind.pow2);
          CHECK(deviation(run(table), run(reference)) < tolerance(type));
        }
      }
    }
  });
}

TEST_CASE("linear has the same bits for any number of rows") {
  Data data(12);
  for_tables([&](const CpuKernels& table, const CpuKernels&) {
    const int rows = 64, cols = 384, outs = 30;
    const Weight w(data, outs, cols, ValueType::e4m3, false, true);
    const auto x = data.floats(rows * cols);
    const auto run = [&](int first, int count) {
      std::vector<float> out(static_cast<std::size_t>(count * outs));
      table.linear({.w = w.matrix,
                    .x = x.data() + first * cols,
                    .x_scale = nullptr,
                    .out = reinterpret_cast<std::byte*>(out.data()),
                    .out_stride = outs,
                    .type = ValueType::f32,
                    .num_rows = count,
                    .cols = cols,
                    .first = 0,
                    .last = outs});
      return out;
    };
    const auto all = run(0, rows);
    for (int row = 0; row < rows; ++row) {
      const auto one = run(row, 1);
      REQUIRE(std::memcmp(one.data(), all.data() + row * outs, outs * sizeof(float)) == 0);
    }
  });
}

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
      std::vector<float> wide(codes.size()), twin_wide(codes.size());
      for (auto [kernel, out] : {std::pair{&table, &wide}, std::pair{&reference, &twin_wide}}) {
        kernel->widen({.x = reinterpret_cast<const std::byte*>(codes.data()),
                       .scale = scale.data(),
                       .out = out->data(),
                       .x_stride = cols,
                       .type = ValueType::e4m3,
                       .num_rows = rows,
                       .cols = cols});
      }
      CHECK(wide == twin_wide);
    }
  });
}

TEST_CASE("embed copies rows of any type") {
  Data data(15);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    const int cols = 33;
    const std::vector<std::int32_t> tokens = {4, 0, 9, 4};
    for (const ValueType type : {ValueType::f32, ValueType::bf16, ValueType::f16}) {
      const Weight w(data, 10, cols, type, false, false);
      const auto run = [&](const CpuKernels& kernel) {
        Bytes out(tokens.size() * cols * 4);
        kernel.embed({.tokens = tokens.data(),
                      .table = w.matrix,
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
