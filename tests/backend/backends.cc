#include "tests/backend/backends.h"

#include <algorithm>
#include <utility>

namespace dsv32::test {

std::vector<OpenBackend> open_backends(const BackendLimits& limits) {
  std::vector<OpenBackend> all = open_backends();
  for (const OpenBackend& b : all) b->reserve(limits);
  return all;
}

BackendLimits test_limits(Numerics numerics) {
  return {.mla = {.heads = 5, .nope = 130, .rope = 64, .v = 130, .latent = 512},
          .indexer = {.heads = 16, .dim = 64, .top_k = 16},
          .max_context = 1024,
          .max_width = 2100,
          .max_rows = 300,
          .max_sequences = 4,
          .num_experts = 64,
          .n_group = 8,
          .numerics = numerics};
}

const kernels::CpuKernels& reference_table() {
  const kernels::CpuTables tables = kernels::all_cpu_tables();
  return *tables.tables[tables.count - 1];
}

TensorView DeviceData::empty(DType dtype, std::int64_t rows, std::int64_t cols) {
  const Bytes poison(static_cast<std::size_t>(rows * cols * dtype_size(dtype)), std::byte{0xFF});
  return put(poison.data(), dtype, rows, cols);
}

TensorView DeviceData::put(const void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
  const auto bytes = static_cast<std::size_t>(rows * cols * dtype_size(dtype));
  memory_.push_back(backend_.allocate(bytes));
  const TensorView view{.data = static_cast<std::byte*>(memory_.back().get()),
                        .dtype = dtype,
                        .rows = rows,
                        .cols = cols,
                        .stride = cols};
  backend_.upload(view, data);
  return view;
}

TensorView DeviceData::put(const Bytes& data, ValueType type, std::int64_t rows,
                           std::int64_t cols) {
  REQUIRE(data.size() == static_cast<std::size_t>(rows * cols * bytes_of(type)));
  return put(data.data(), dtype_of(type), rows, cols);
}

TensorView DeviceData::put(const std::vector<float>& data, std::int64_t rows, std::int64_t cols) {
  REQUIRE(data.size() == static_cast<std::size_t>(rows * cols));
  return put(data.data(), DType::f32, rows, cols);
}

TensorView DeviceData::put(const std::vector<std::int32_t>& list) {
  return put(list.data(), DType::i32, 1, static_cast<std::int64_t>(list.size()));
}

Activation DeviceData::activation(ValueType type, std::int64_t rows, std::int64_t cols, bool fp8) {
  Activation a{.dense = empty(dtype_of(type), rows, cols), .fp8 = {}, .scale = {}};
  if (!fp8) return a;
  a.fp8 = empty(DType::f8_e4m3, rows, cols);
  a.scale = empty(DType::f32, rows, (cols + kernels::kBlock - 1) / kernels::kBlock);
  return a;
}

Bytes DeviceData::bytes(TensorView view) {
  const auto row = static_cast<std::size_t>(view.cols * dtype_size(view.dtype));
  Bytes out(static_cast<std::size_t>(view.rows) * row);
  for (std::int64_t i = 0; i < view.rows; ++i)
    backend_.download(out.data() + static_cast<std::size_t>(i) * row, view.slice(i, 1));
  return out;
}

std::vector<double> DeviceData::values(TensorView view) {
  return read(bytes(view), view.dtype == DType::f32    ? ValueType::f32
                           : view.dtype == DType::bf16 ? ValueType::bf16
                                                       : ValueType::e4m3);
}

std::vector<std::int32_t> DeviceData::integers(TensorView view) {
  const Bytes data = bytes(view);
  std::vector<std::int32_t> out(data.size() / sizeof(std::int32_t));
  std::memcpy(out.data(), data.data(), data.size());
  return out;
}

void check_fp8_form(DeviceData& device, const Activation& a) {
  const Bytes dense = device.bytes(a.dense);
  const auto rows = static_cast<int>(a.dense.rows), cols = static_cast<int>(a.dense.cols);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols));
  std::vector<float> scale(static_cast<std::size_t>(rows * a.scale.cols));
  reference_table().quantise(
      {.x = dense.data(),
       .out = codes.data(),
       .scale = scale.data(),
       .x_stride = cols,
       .type = a.dense.dtype == DType::f32 ? ValueType::f32 : ValueType::bf16,
       .pow2 = a.pow2_scales,
       .num_rows = rows,
       .cols = cols});
  const Bytes got = device.bytes(a.fp8), got_scale = device.bytes(a.scale);
  CHECK(std::memcmp(got.data(), codes.data(), codes.size()) == 0);
  CHECK(std::memcmp(got_scale.data(), scale.data(), scale.size() * sizeof(float)) == 0);
}

}  // namespace dsv32::test
