// Topic gemm through the seam, against the double-precision twin: weights of every format, bound as
// a checkpoint has them; and experts of many formats in one layer, each as if alone.
#include <algorithm>

#include "tests/backend/backends.h"
#include "tests/kernels/linear_data.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

// The weight as a checkpoint's view of a file.
Linear view_of(const WeightData& w, const WeightKind& kind, std::int64_t out, std::int64_t in) {
  const auto bytes = [](const std::byte* data) { return const_cast<std::byte*>(data); };
  const kernels::Matrix& m = w.matrix;
  Linear view{.weight = {bytes(m.data), dtype_of(kind.type), out, in, m.stride},
              .scale = {},
              .format = WeightFormat::dense};
  if (!kernels::has_scale(kind.type)) return view;
  view.scale = {bytes(m.scale),
                kind.scale_type == kernels::ScaleType::e8m0  ? DType::f8_e8m0
                : kind.scale_type == kernels::ScaleType::f16 ? DType::f16
                                                             : DType::f32,
                ceil_div(out, m.scale_rows), m.scale_stride, m.scale_stride};
  view.format = kind.type == ValueType::int8   ? WeightFormat::int8
                : kind.type == ValueType::int4 ? WeightFormat::int4
                : kind.pow2                    ? WeightFormat::fp8_pow2
                                               : WeightFormat::fp8;
  if (kind.type == ValueType::int8) view.weight.dtype = DType::i8;
  if (kind.type == ValueType::int4) view.weight.dtype = DType::i4;
  return view;
}

// Of FP8 rows the dense form is there, too, and means something else: nobody may read it.
Activation put_rows(DeviceData& device, const RowsOfX& x, int rows, int cols) {
  if (x.type != ValueType::e4m3)
    return {.dense = device.put(x.data, x.type, rows, cols), .fp8 = {}, .scale = {}};
  return {.dense = device.empty(DType::bf16, rows, cols),
          .fp8 = device.put(x.data, x.type, rows, cols),
          .scale = device.put(x.scale, rows, ceil_div(cols, kernels::kBlock))};
}

void check_linear(Data& data, const std::vector<OpenBackend>& all, const WeightKind& kind, int rows,
                  int cols) {
  const int outs = 150;
  const WeightData w(data, outs, cols, kind);
  for (const ValueType x_type : types_of_x(kind)) {
    const RowsOfX x(data, rows, cols, x_type, kind.pow2);
    LinearCall call = linear_call(w, kind, x, rows, cols, outs);
    for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
      call.type = type;
      const auto want = read(run_linear(reference_table(), call), type);
      for (const OpenBackend& b : all) {
        INFO(b.name << ", weight " << int(kind.type) << " pow2 " << kind.pow2 << " group "
                    << kind.group << ", x " << int(x_type) << ", " << rows << " x " << cols);
        DeviceData device(*b.backend);
        const WeightHandle handle = b->bind(view_of(w, kind, outs, cols), kNoProgress);
        CHECK(handle->rows == outs);
        CHECK(handle->cols == cols);
        CHECK(handle->reads_fp8 == (kind.type == ValueType::e4m3));
        const TensorView out = device.empty(dtype_of(type), rows, outs);
        b->linear(*handle, put_rows(device, x, rows, cols), out);
        // f32 sums of a few thousand products, in another order.
        CHECK(deviation(device.values(out), want) < (type == ValueType::f32 ? 4e-6 : 8e-3));
      }
    }
  }
}

TEST_CASE("through the seam: linear equals its twin for every weight") {
  Data data(111);
  const auto all = open_backends(test_limits());
  for (const WeightKind& kind : kWeightKinds) {
    for (const int rows : {1, 7, 64, 65}) {
      if (kSanitized && rows == 64) continue;
      for (const int cols : {1, 40, 301}) check_linear(data, all, kind, rows, cols);
    }
    check_linear(data, all, kind, 2, 2049);
  }
  check_linear(data, all, kWeightKinds[3], kernels::kLinearRows + 1, 130);
}

// Experts of one matrix, each of a kind of its own, and rows for them; expert 2 has none.
struct Layer {
  static constexpr int outs = 70;
  int cols;
  std::vector<WeightKind> kinds;
  std::vector<WeightData> weights;
  std::vector<std::int32_t> offsets{0};

  Layer(Data& data, std::vector<WeightKind> of, int width) : cols(width), kinds(std::move(of)) {
    weights.reserve(kinds.size());
    for (std::size_t e = 0; e < kinds.size(); ++e) {
      weights.emplace_back(data, outs, cols, kinds[e]);
      offsets.push_back(offsets.back() + (e == 2 ? 0 : static_cast<int>(1 + e * 5 % 7)));
    }
  }
  int rows() const { return offsets.back(); }
  Linear view(std::size_t e) const { return view_of(weights[e], kinds[e], outs, cols); }
};

void check_experts(Data& data, const std::vector<OpenBackend>& all, const Layer& layer,
                   ValueType x_type) {
  const int rows = layer.rows();
  const RowsOfX x(data, rows, layer.cols, ValueType::e4m3, true);
  const Bytes dense =
      data.values(rows * layer.cols, x_type == ValueType::f32 ? x_type : ValueType::bf16);
  std::vector<Linear> views;
  for (std::size_t e = 0; e < layer.kinds.size(); ++e) views.push_back(layer.view(e));
  for (const OpenBackend& b : all) {
    INFO(b.name << ", x " << int(x_type));
    DeviceData device(*b.backend);
    Activation in = put_rows(device, x, rows, layer.cols);
    in.dense =
        device.put(dense, x_type == ValueType::f32 ? x_type : ValueType::bf16, rows, layer.cols);
    if (x_type != ValueType::e4m3) in.fp8 = in.scale = {};
    const ExpertsHandle experts = b->bind_experts(views, kNoProgress);
    const TensorView out = device.empty(DType::f32, rows, Layer::outs);
    b->grouped_linear(*experts, in, device.put(layer.offsets), out);
    const TensorView alone = device.empty(DType::f32, rows, Layer::outs);
    std::vector<WeightHandle> handles;
    for (std::size_t e = 0; e < views.size(); ++e) {
      const int first = layer.offsets[e], count = layer.offsets[e + 1] - first;
      handles.push_back(b->bind(views[e], kNoProgress));
      if (count > 0) b->linear(*handles.back(), in.slice(first, count), alone.slice(first, count));
    }
    const bool same = device.bytes(out) == device.bytes(alone);
    CHECK(same);
  }
}

TEST_CASE("reports_W1 experts of BF16 and F32 in one layer: each as if alone") {
  Data data(112);
  const auto all = open_backends(test_limits());
  const WeightKind f32{ValueType::f32}, bf16{ValueType::bf16}, f16{ValueType::f16};
  for (const int cols : {40, 301}) {
    for (const ValueType x : {ValueType::f32, ValueType::bf16}) {
      check_experts(data, all, Layer(data, {bf16, f32, bf16, bf16, f32, f32, bf16}, cols), x);
      check_experts(data, all, Layer(data, {f32, f16, bf16, f32, f16}, cols), x);
    }
  }
}

TEST_CASE("experts of every format in one layer: each as if alone") {
  Data data(113);
  const auto all = open_backends(test_limits());
  std::vector<WeightKind> kinds(std::begin(kWeightKinds), std::end(kWeightKinds));
  kinds.insert(kinds.end(), std::rbegin(kWeightKinds), std::rend(kWeightKinds));
  for (const int cols : {40, 301}) {
    for (const ValueType x : {ValueType::f32, ValueType::bf16, ValueType::e4m3})
      check_experts(data, all, Layer(data, kinds, cols), x);
  }
}

TEST_CASE("through the seam: experts read FP8 only if all of them do") {
  Data data(114);
  const WeightKind fp8{ValueType::e4m3, kernels::ScaleType::f32, true},
      odd{ValueType::e4m3, kernels::ScaleType::f32, false}, bf16{ValueType::bf16};
  const auto all = open_backends(test_limits());
  for (const OpenBackend& b : all) {
    INFO(b.name);
    for (const bool mixed : {false, true}) {
      const Layer layer(data, {fp8, odd, mixed ? bf16 : fp8}, 40);
      const std::vector<Linear> views = {layer.view(0), layer.view(1), layer.view(2)};
      std::size_t told = 0, bytes = 0;
      for (const Linear& w : views)
        bytes +=
            static_cast<std::size_t>(w.weight.rows * w.weight.cols * dtype_size(w.weight.dtype) +
                                     w.scale.rows * w.scale.cols * 4);
      const ExpertsHandle experts = b->bind_experts(views, [&](std::size_t more) { told += more; });
      CHECK(experts->read_fp8 == !mixed);
      CHECK(experts->count == 3);
      CHECK(told == bytes);
    }
  }
}

}  // namespace
}  // namespace dsv32::test
