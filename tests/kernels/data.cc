#include "tests/kernels/data.h"

#include <algorithm>

#include "kernels/numbers.h"

namespace dsv32::test {

// To nearest, ties to even; below 65,504.
static std::uint16_t to_f16(float x) {
  const int exponent = std::max(std::ilogb(x), -14);  // below it the spacing stays
  const auto size = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(x), 10 - exponent)));
  return static_cast<std::uint16_t>((std::signbit(x) ? 0x8000 : 0) + (exponent + 14) * 1024 + size);
}

Bytes Data::stored(const std::vector<float>& from, ValueType type) {
  Bytes out(from.size() * static_cast<std::size_t>(bytes_of(type)));
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (type == ValueType::f32) std::memcpy(out.data() + 4 * i, &from[i], 4);
    if (type == ValueType::e4m3) out[i] = static_cast<std::byte>(kernels::to_e4m3(from[i]));
    if (type == ValueType::bf16) {
      const std::uint16_t bits = kernels::to_bf16(from[i]);
      std::memcpy(out.data() + 2 * i, &bits, 2);
    }
    if (type == ValueType::f16) {
      const std::uint16_t bits = to_f16(from[i]);
      std::memcpy(out.data() + 2 * i, &bits, 2);
    }
  }
  return out;
}

Bytes run_linear(const kernels::CpuKernels& kernel, const LinearCall& call) {
  const std::int64_t blocks = (call.cols + kernels::kBlock - 1) / kernels::kBlock;
  const float* scale = call.x_scale ? call.x_scale + call.first_row * blocks : nullptr;
  Aligned packed(call.rows * kernels::packed_row_bytes(call.cols));
  Aligned scratch(kernels::kLinearScratch * 4);
  kernel.pack(
      {.x = call.x.data() + std::int64_t{call.first_row} * call.cols * bytes_of(call.x_type),
       .scale = call.blockwise ? nullptr : scale,
       .out = packed.data(),
       .x_stride = call.cols,
       .type = call.x_type,
       .w_type = call.w.type,
       .num_rows = call.rows,
       .cols = call.cols});
  Bytes out(static_cast<std::size_t>(call.rows * call.out_stride * bytes_of(call.type)));
  kernel.linear({.w = call.w,
                 .x = packed.data(),
                 .x_type = call.x_type,
                 .x_scale = call.blockwise ? scale : nullptr,
                 .out = out.data(),
                 .out_stride = call.out_stride,
                 .scratch = scratch.floats(),
                 .type = call.type,
                 .num_rows = call.rows,
                 .cols = call.cols,
                 .first = call.first,
                 .last = call.last});
  return out;
}

std::vector<double> read(const Bytes& data, ValueType type) {
  std::vector<double> out;
  for (std::size_t i = 0; i < data.size(); i += static_cast<std::size_t>(bytes_of(type))) {
    float x = 0.0f;
    std::uint16_t half = 0;
    if (type == ValueType::f32) std::memcpy(&x, &data[i], 4);
    if (type == ValueType::e4m3) x = kernels::from_e4m3(static_cast<std::uint8_t>(data[i]));
    if (type == ValueType::bf16 || type == ValueType::f16) {
      std::memcpy(&half, &data[i], 2);
      x = type == ValueType::bf16 ? kernels::from_bf16(half) : kernels::from_f16(half);
    }
    out.push_back(static_cast<double>(x));
  }
  return out;
}

}  // namespace dsv32::test
