// Topic gemm on the emulated GPU: every weight against its twin; rows alone and in company; experts
// as if each were alone.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/cuda/kernels_machine.h"
#include "tests/kernels/linear_data.h"

namespace dsv32::test {
namespace {

kernels::Matrix put_weight(KernelMachine& gpu, const WeightData& w, std::size_t gap) {
  kernels::Matrix m = w.matrix;
  const Bytes values(w.data.begin() + 1, w.data.end()), scales(w.scale.begin() + 3, w.scale.end());
  m.data = gpu.put_at(values, gap);
  m.scale = gpu.put_at(scales, gap);
  return m;
}

// The dense form of FP8 rows means something else: nobody may read it.
cuda::RowsIn put_rows(KernelMachine& gpu, const RowsOfX& x, int cols) {
  if (x.type != ValueType::e4m3)
    return {.dense = gpu.put(x.data), .fp8 = {}, .stride = cols, .type = x.type};
  auto* codes = reinterpret_cast<std::uint8_t*>(gpu.put(x.data));
  return {.dense = gpu.empty<std::byte>(1),
          .fp8 = {codes, gpu.put(x.scale)},
          .stride = cols,
          .type = ValueType::bf16};
}

Bytes run_on(KernelMachine& gpu, const kernels::Matrix& w, const cuda::RowsIn& x, ValueType type,
             int rows, int cols, int outs) {
  auto* out = gpu.empty_rows(std::int64_t{rows} * outs, type);
  gpu.run(cuda::LinearArguments{.w = w,
                                .x = x,
                                .out = out,
                                .out_stride = outs,
                                .type = type,
                                .num_rows = rows,
                                .cols = cols,
                                .outs = outs});
  return gpu.get_rows(out, std::int64_t{rows} * outs, type);
}

// f32 sums of a few thousand products, in another order.
double linear_tolerance(ValueType type) { return type == ValueType::f32 ? 4e-6 : 8e-3; }

void check_linear(Data& data, const WeightKind& kind, int rows, int cols, std::size_t gap) {
  const int outs = 150;
  const WeightData w(data, outs, cols, kind);
  for (const ValueType x_type : types_of_x(kind)) {
    const RowsOfX x(data, rows, cols, x_type, kind.pow2);
    LinearCall call = linear_call(w, kind, x, rows, cols, outs);
    for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
      call.type = type;
      KernelMachine gpu;
      const Bytes got =
          run_on(gpu, put_weight(gpu, w, gap), put_rows(gpu, x, cols), type, rows, cols, outs);
      INFO("weight " << int(kind.type) << " pow2 " << kind.pow2 << " group " << kind.group << ", x "
                     << int(x_type) << ", " << rows << " x " << cols << ", gap " << gap);
      CHECK(deviation(read(got, type), read(run_linear(reference_twins(), call), type)) <
            linear_tolerance(type));
    }
  }
}

TEST_CASE("linear equals its twin for every weight", "[quick]") {
  Data data(211);
  for (const WeightKind& kind : kWeightKinds) {
    check_linear(data, kind, 1, 1, 0);
    check_linear(data, kind, 3, 40, 0);
    check_linear(data, kind, 9, 301, 1);
    check_linear(data, kind, 33, 130, 0);
  }
}

TEST_CASE("linear equals its twin over thousands of columns") {
  Data data(212);
  for (const WeightKind& kind : kWeightKinds) {
    check_linear(data, kind, 2, 2052, 0);
    check_linear(data, kind, 17, 640, 0);
  }
}

// Without the signs.
Bytes magnitudes(Bytes values, std::size_t first, int size) {
  for (std::size_t i = first + static_cast<std::size_t>(size) - 1; i < values.size();
       i += static_cast<std::size_t>(size))
    values[i] &= std::byte{0x7F};
  return values;
}

// Values from 2^-30 to 2^30 side by side: an f32 sum in any order is within so many roundings of
// the sum of magnitudes.
void check_magnitudes(Data& data, const WeightKind& kind, ValueType x_type) {
  const int rows = 6, cols = 301, outs = 70;
  const WeightData w(data, outs, cols, kind);
  RowsOfX x(data, rows, cols, x_type, kind.pow2);
  for (float& scale : x.scale) scale = std::ldexp(scale, data.integer(-30, 30));
  if (x_type != ValueType::e4m3) {
    std::vector<float> values = data.floats(std::int64_t{rows} * cols);
    for (float& v : values) v = std::ldexp(v, data.integer(-30, 30));
    x.data = Data::stored(values, x_type);
  }
  WeightData all_w = w;
  RowsOfX all_x = x;
  all_w.data = magnitudes(w.data, 1, bytes_of(kind.type));
  all_w.matrix.data = all_w.data.data() + 1;
  all_x.data = magnitudes(x.data, 0, bytes_of(x_type));
  const auto twin = [&](const WeightData& weight, const RowsOfX& in) {
    return read(run_linear(reference_twins(), linear_call(weight, kind, in, rows, cols, outs)),
                ValueType::f32);
  };
  const std::vector<double> want = twin(w, x), size = twin(all_w, all_x);
  KernelMachine gpu;
  const std::vector<double> got = read(
      run_on(gpu, put_weight(gpu, w, 0), put_rows(gpu, x, cols), ValueType::f32, rows, cols, outs),
      ValueType::f32);
  Worst worst;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst.add(difference(got[i], want[i]) / std::max(size[i], 1e-30));
  INFO("weight " << int(kind.type) << " pow2 " << kind.pow2 << ", x " << int(x_type));
  CHECK(worst.value() <= (cols + 8) * 0x1p-24);
}

TEST_CASE("linear over magnitudes far apart loses no more than f32 sums do", "[quick]") {
  Data data(216);
  for (const WeightKind& kind : kWeightKinds) {
    if (kind.type == ValueType::int8 || kind.type == ValueType::int4) continue;  // no sign bit
    for (const ValueType x_type : types_of_x(kind)) check_magnitudes(data, kind, x_type);
  }
}

// Row 0 is one row of x, in the company of others, which differ each time.
void check_law(Data& data, const WeightKind& kind, std::span<const int> counts) {
  const int cols = 136, outs = 33;
  const WeightData w(data, outs, cols, kind);
  for (const ValueType x_type : types_of_x(kind)) {
    const RowsOfX x(data, 130, cols, x_type, kind.pow2);
    Bytes alone;
    for (const int rows : counts) {
      KernelMachine gpu(static_cast<std::uint64_t>(rows));
      const Bytes got = run_on(gpu, put_weight(gpu, w, 0), put_rows(gpu, x, cols), ValueType::f32,
                               rows, cols, outs);
      if (alone.empty()) alone = Bytes(got.begin(), got.begin() + outs * 4);
      INFO("weight " << int(kind.type) << ", x " << int(x_type) << ", " << rows << " rows");
      REQUIRE(std::memcmp(got.data(), alone.data(), alone.size()) == 0);
    }
  }
}

TEST_CASE("a row's products are the same bits in any company", "[quick]") {
  Data data(213);
  const int few[] = {1, 4, 5, 17, 33};
  check_law(data, kWeightKinds[1], few);
  check_law(data, kWeightKinds[3], few);
  check_law(data, kWeightKinds[7], few);
}

TEST_CASE("a row's products are the same bits at every edge of a tile") {
  Data data(214);
  check_law(data, kWeightKinds[1], kOddRows);
  check_law(data, kWeightKinds[3], kOddRows);
  const int edges[] = {1, 4, 5, 16, 17, 32, 33, 64, 65, 129};
  for (const WeightKind& kind : kWeightKinds) check_law(data, kind, edges);
}

// Experts of every kind behind each other, of which some have no rows.
void check_experts(Data& data, ValueType x_type, int most, std::uint64_t seed) {
  const int cols = 136, outs = 70;
  KernelMachine gpu(seed);
  std::vector<WeightData> weights;
  std::vector<kernels::Matrix> matrices;
  std::vector<std::int32_t> offsets{0};
  for (int e = 0; e < 40; ++e) {
    weights.emplace_back(data, outs, cols, kWeightKinds[e % std::size(kWeightKinds)]);
    offsets.push_back(offsets.back() + (e % 3 == 2 ? 0 : data.integer(0, most)));
  }
  const int rows = offsets.back();
  for (const WeightData& w : weights) matrices.push_back(put_weight(gpu, w, 0));
  const RowsOfX codes(data, rows, cols, ValueType::e4m3, true);
  cuda::RowsIn x{.dense = gpu.put(data.values(std::int64_t{rows} * cols, x_type)),
                 .fp8 = {},
                 .stride = cols,
                 .type = x_type};
  if (x_type == ValueType::bf16) x.fp8 = put_rows(gpu, codes, cols).fp8;
  auto* out = gpu.empty_rows(std::int64_t{rows} * outs, ValueType::f32);
  cuda::GroupedLinearArguments args{.w = gpu.put(matrices),
                                    .offsets = gpu.put(offsets),
                                    .x = x,
                                    .out = out,
                                    .out_stride = outs,
                                    .type = ValueType::f32,
                                    .mma = false,
                                    .split = x_type == ValueType::bf16,
                                    .num_rows = rows,
                                    .experts = static_cast<int>(weights.size()),
                                    .cols = cols,
                                    .outs = outs};
  gpu.run(args);
  args.mma = true;
  if (args.split) gpu.run(args);
  const Bytes got = gpu.get_rows(out, std::int64_t{rows} * outs, ValueType::f32);
  for (std::size_t e = 0; e < weights.size(); ++e) {
    const int first = offsets[e], count = offsets[e + 1] - first;
    if (count == 0) continue;
    cuda::RowsIn own = x;
    own.dense += std::int64_t{first} * cols * bytes_of(x_type);
    if (own.fp8.codes != nullptr) {
      own.fp8.codes += std::int64_t{first} * cols;
      own.fp8.scale += first * ceil_div(cols, kernels::kBlock);
    }
    const Bytes alone = run_on(gpu, matrices[e], own, ValueType::f32, count, cols, outs);
    INFO("expert " << e << " of " << rows << " rows");
    REQUIRE(std::memcmp(got.data() + std::int64_t{first} * outs * 4, alone.data(), alone.size()) ==
            0);
  }
}

TEST_CASE("experts of every format are each as if alone", "[quick]") {
  Data data(215);
  check_experts(data, ValueType::bf16, 3, 1);
  check_experts(data, ValueType::f32, 3, 2);
}

TEST_CASE("experts with many rows are each as if alone") {
  Data data(216);
  check_experts(data, ValueType::bf16, 20, 3);
  check_experts(data, ValueType::bf16, 70, 4);
}

}  // namespace
}  // namespace dsv32::test
