// Topic dense on the emulated GPU, against the double-precision twins.
#include <algorithm>
#include <numeric>

#include "tests/cuda/kernels_machine.h"

#include "kernels/numbers.h"

namespace dsv32::test {
namespace {

using cuda::Fp8Rows;
using kernels::kBlock;

std::int64_t blocks_of(int cols) { return (cols + kBlock - 1) / kBlock; }

Fp8Rows empty_fp8(KernelMachine& gpu, int rows, int cols) {
  return {gpu.empty<std::uint8_t>(std::int64_t{rows} * cols),
          gpu.empty<float>(rows * blocks_of(cols))};
}

// The FP8 form is that of the rounded dense one, code by code.
void check_fp8(KernelMachine& gpu, const Fp8Rows& fp8, const Bytes& dense, ValueType type,
               bool pow2, int rows, int cols) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols));
  std::vector<float> scale(static_cast<std::size_t>(rows * blocks_of(cols)));
  reference_twins().quantise({.x = dense.data(),
                              .out = codes.data(),
                              .scale = scale.data(),
                              .x_stride = cols,
                              .type = type,
                              .pow2 = pow2,
                              .num_rows = rows,
                              .cols = cols});
  CHECK(gpu.get(fp8.codes, rows * cols) == codes);
  CHECK(gpu.get(fp8.scale, rows * blocks_of(cols)) == scale);
}

constexpr int kWidths[] = {1, 3, 40, 128, 160, 301, 640};

void check_norm(Data& data, std::uint64_t seed, ValueType x_type, ValueType type, bool adds,
                bool fp8) {
  for (const int cols : kWidths) {
    for (const int rows : {1, 5}) {
      INFO("x " << int(x_type) << ", out " << int(type) << ", adds " << adds << ", " << rows
                << " x " << cols);
      KernelMachine gpu(seed);
      const std::int64_t stride = cols + 6;
      Bytes x = data.values(rows * stride, x_type), residual = data.values(rows * cols, type);
      const auto gain = data.floats(cols);
      auto* on_gpu = gpu.put(residual);
      auto* out = gpu.empty_rows(rows * cols, type);
      const Fp8Rows codes = fp8 ? empty_fp8(gpu, rows, cols) : Fp8Rows{};
      gpu.run(cuda::NormArguments{.x = gpu.put(x),
                                  .residual = adds ? on_gpu : nullptr,
                                  .gain = gpu.put(gain),
                                  .out = out,
                                  .fp8 = codes,
                                  .x_stride = stride,
                                  .residual_stride = cols,
                                  .out_stride = cols,
                                  .eps = 1e-5f,
                                  .x_type = x_type,
                                  .type = type,
                                  .pow2 = cols % 2 == 0,
                                  .num_rows = rows,
                                  .cols = cols});
      Bytes want(residual.size());
      reference_twins().add_rms_norm({.x = x.data(),
                                      .residual = adds ? residual.data() : nullptr,
                                      .gain = gain.data(),
                                      .out = want.data(),
                                      .x_stride = stride,
                                      .residual_stride = cols,
                                      .out_stride = cols,
                                      .eps = 1e-5f,
                                      .x_type = x_type,
                                      .type = type,
                                      .num_rows = rows,
                                      .cols = cols});
      const Bytes got = gpu.get_rows(out, rows * cols, type);
      CHECK(deviation(read(got, type), read(want, type)) < tolerance(type));
      CHECK((gpu.get_rows(on_gpu, rows * cols, type) == residual));  // a sum of two, rounded once
      if (fp8) check_fp8(gpu, codes, got, type, cols % 2 == 0, rows, cols);
    }
  }
}

TEST_CASE("add_rms_norm equals its twin", "[quick]") {
  Data data(201);
  check_norm(data, 1, ValueType::f32, ValueType::f32, true, false);
  check_norm(data, 2, ValueType::bf16, ValueType::bf16, true, true);
  check_norm(data, 3, ValueType::f32, ValueType::bf16, false, true);
}

TEST_CASE("silu_mul equals its twin", "[quick]") {
  Data data(202);
  for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
    for (const int cols : kWidths) {
      const int rows = 5;
      INFO("type " << int(type) << ", " << cols);
      KernelMachine gpu;
      const Bytes gate = data.values(rows * cols, type, 3.0f), up = data.values(rows * cols, type);
      auto* out = gpu.empty_rows(rows * cols, type);
      const bool fp8 = type == ValueType::bf16;
      const Fp8Rows codes = fp8 ? empty_fp8(gpu, rows, cols) : Fp8Rows{};
      gpu.run(cuda::SiluMulArguments{.gate = gpu.put(gate),
                                     .up = gpu.put(up),
                                     .out = out,
                                     .fp8 = codes,
                                     .type = type,
                                     .pow2 = true,
                                     .num_rows = rows,
                                     .cols = cols});
      Bytes want(gate.size());
      reference_twins().silu_mul({.gate = gate.data(),
                                  .up = up.data(),
                                  .out = want.data(),
                                  .type = type,
                                  .num_rows = rows,
                                  .cols = cols});
      const Bytes got = gpu.get_rows(out, rows * cols, type);
      CHECK(deviation(read(got, type), read(want, type)) < tolerance(type));
      if (fp8) check_fp8(gpu, codes, got, type, true, rows, cols);
    }
  }
}

// Sizes from far below a scale's floor to infinity, ties between codes, and NaN.
TEST_CASE("quantise gives its twin's codes and scales", "[quick]") {
  Data data(203);
  const float special[] = {0.0f, -0.0f, 1e-30f, -3e-5f, 448.0f, 1e30f, 0.0078125f, 17.0f, 19.0f};
  for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
    for (const bool pow2 : {true, false}) {
      for (const int cols : kWidths) {
        const int rows = 6;
        std::vector<float> values = data.floats(rows * cols, 1.0f);
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (data.integer(0, 5) == 0) values[i] = special[data.integer(0, 8)];
          if (static_cast<int>(i) / cols == 2) values[i] *= 1e-9f;
          if (static_cast<int>(i) / cols == 3) values[i] *= 1e25f;
        }
        const Bytes x = Data::stored(values, type);
        KernelMachine gpu;
        const Fp8Rows codes = empty_fp8(gpu, rows, cols);
        gpu.run(cuda::QuantiseArguments{.x = gpu.put(x),
                                        .out = codes,
                                        .x_stride = cols,
                                        .type = type,
                                        .pow2 = pow2,
                                        .num_rows = rows,
                                        .cols = cols});
        INFO("type " << int(type) << ", pow2 " << pow2 << ", " << cols);
        check_fp8(gpu, codes, x, type, pow2, rows, cols);
      }
    }
  }
}

TEST_CASE("what is no number stays none, in its own row", "[quick]") {
  Data data(204);
  const int rows = 3, cols = 300;
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    auto values = data.floats(rows * cols);
    values[cols + 130] = bad;
    const Bytes x = Data::stored(values, ValueType::bf16);
    KernelMachine gpu;
    auto* in = gpu.put(x);
    auto* out = gpu.empty_rows(rows * cols, ValueType::bf16);
    const Fp8Rows fp8 = empty_fp8(gpu, rows, cols);
    gpu.run(cuda::QuantiseArguments{.x = in,
                                    .out = fp8,
                                    .x_stride = cols,
                                    .type = ValueType::bf16,
                                    .pow2 = true,
                                    .num_rows = rows,
                                    .cols = cols});
    const auto code = gpu.get(fp8.codes, rows * cols);
    const auto scale = gpu.get(fp8.scale, rows * 3);
    CHECK(!std::isfinite(kernels::from_e4m3(code[cols + 130]) * scale[3 + 1]));
    CHECK(std::isfinite(scale[0]));
    gpu.run(cuda::NormArguments{.x = in,
                                .residual = nullptr,
                                .gain = gpu.put(data.floats(cols)),
                                .out = out,
                                .fp8 = {},
                                .x_stride = cols,
                                .residual_stride = cols,
                                .out_stride = cols,
                                .eps = 1e-6f,
                                .x_type = ValueType::bf16,
                                .type = ValueType::bf16,
                                .pow2 = true,
                                .num_rows = rows,
                                .cols = cols});
    const auto normed = gpu.values(out, rows * cols, ValueType::bf16);
    CHECK(std::isnan(normed[cols + 130]));
    CHECK(std::all_of(normed.begin(), normed.begin() + cols,
                      [](double v) { return std::isfinite(v); }));
  }
}

TEST_CASE("embed takes the rows of its tokens", "[quick]") {
  Data data(205);
  const int vocab = 30, cols = 70, rows = 9;
  std::vector<std::int32_t> tokens;
  for (int t = 0; t < rows; ++t) tokens.push_back(data.integer(0, vocab - 1));
  for (const ValueType table_type : {ValueType::f32, ValueType::bf16, ValueType::f16}) {
    for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
      const Bytes table = data.values(vocab * cols, table_type);
      KernelMachine gpu;
      kernels::Matrix matrix{.data = gpu.put_at(table, 1),
                             .type = table_type,
                             .stride = cols,
                             .scale = nullptr,
                             .scale_type = kernels::ScaleType::f32,
                             .scale_stride = 0};
      auto* out = gpu.empty_rows(rows * cols, type);
      gpu.run(cuda::EmbedArguments{.tokens = gpu.put(tokens),
                                   .table = matrix,
                                   .out = out,
                                   .type = type,
                                   .num_rows = rows,
                                   .cols = cols});
      matrix.data = table.data();
      Bytes want(static_cast<std::size_t>(rows * cols * bytes_of(type)));
      reference_twins().embed({.tokens = tokens.data(),
                               .table = matrix,
                               .out = want.data(),
                               .type = type,
                               .num_rows = rows,
                               .cols = cols});
      CHECK((gpu.get_rows(out, rows * cols, type) == want));
    }
  }
}

TEST_CASE("copy_rows takes and leaves rows as its lists say, at any alignment", "[quick]") {
  Data data(206);
  for (const int bytes : {1, 4, 7, 16, 600}) {
    for (const int gap : {0, 1, 4}) {
      const int there = 10;
      const Bytes from = data.values(there * bytes, ValueType::e4m3);
      const Bytes before = data.values(there * bytes, ValueType::e4m3);
      const std::vector<std::int32_t> read = {3, -1, 0, 9, 3}, write = {1, 2, -1, 0, 8};
      for (const int lists : {0, 1, 2, 3}) {
        KernelMachine gpu;
        auto* to = gpu.put_at(before, static_cast<std::size_t>(gap));
        gpu.run(cuda::CopyRowsArguments{.from = gpu.put_at(from, static_cast<std::size_t>(gap)),
                                        .from_rows = (lists & 1) != 0 ? gpu.put(read) : nullptr,
                                        .to = to,
                                        .to_rows = (lists & 2) != 0 ? gpu.put(write) : nullptr,
                                        .from_stride = bytes,
                                        .to_stride = bytes,
                                        .row_bytes = bytes,
                                        .count = 5,
                                        .copies = (lists & 1) != 0 ? 1 : 2});
        Bytes want = before;
        for (int i = 0; i < 5; ++i) {
          const int source = (lists & 1) != 0 ? read[static_cast<std::size_t>(i)] : i / 2;
          const int target = (lists & 2) != 0 ? write[static_cast<std::size_t>(i)] : i;
          if (source < 0 || target < 0) continue;
          std::copy_n(from.begin() + source * bytes, bytes, want.begin() + target * bytes);
        }
        INFO(bytes << " bytes, gap " << gap << ", lists " << lists);
        CHECK((gpu.get(to, there * bytes) == want));
      }
    }
  }
  for (const int bytes : {1, 4096, 10000}) {
    const Bytes from = data.values(bytes, ValueType::e4m3);
    KernelMachine gpu;
    auto* to = gpu.empty<std::byte>(bytes);
    gpu.run(cuda::CopyBytesArguments{.from = gpu.put(from), .to = to, .bytes = bytes});
    CHECK((gpu.get(to, bytes) == from));
  }
}

}  // namespace
}  // namespace dsv32::test
