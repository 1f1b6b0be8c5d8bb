// What backends ask of views and of weights as a checkpoint has them.
#ifndef DSV32_LIB_BACKEND_VIEWS_H_
#define DSV32_LIB_BACKEND_VIEWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/base/check.h"
#include "lib/base/tensor.h"

#include "kernels/params.h"

namespace dsv32 {

inline void check_shape(bool ok, const char* step) {
  DSV32_CHECK(ok, internal, "{}: shapes do not fit", step);
}

template <class T>
T* data_as(TensorView view) {
  return reinterpret_cast<T*>(view.data);
}

// What a view without gaps holds.
inline std::size_t contiguous_bytes(TensorView view) {
  check_shape(view.rows <= 1 || view.stride == view.cols, "a copy");
  return static_cast<std::size_t>(view.rows * view.cols * dtype_size(view.dtype));
}

inline kernels::ValueType value_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kernels::ValueType::f32;
    case DType::bf16:
      return kernels::ValueType::bf16;
    case DType::f16:
      return kernels::ValueType::f16;
    case DType::f8_e4m3:
      return kernels::ValueType::e4m3;
    case DType::i8:
      return kernels::ValueType::int8;
    case DType::i4:
      return kernels::ValueType::int4;
    default:
      throw Error(ErrorCode::internal, "no value type for this dtype");
  }
}

inline kernels::ScaleType scale_type(DType dtype) {
  return dtype == DType::f8_e8m0 ? kernels::ScaleType::e8m0
         : dtype == DType::f16   ? kernels::ScaleType::f16
                                 : kernels::ScaleType::f32;
}

// A weight where its view has it, as kernels take it.
inline kernels::Matrix kernel_matrix(const Linear& w) {
  const bool whole_rows = w.format == WeightFormat::int8 || w.format == WeightFormat::int4;
  const std::int64_t blocks = (w.weight.cols + kernels::kBlock - 1) / kernels::kBlock;
  const bool short_group = whole_rows && w.scale.cols != blocks;
  return {.data = w.weight.data,
          .type = value_type(w.weight.dtype),
          .stride = w.weight.stride,
          .scale = w.scale.data,
          .scale_type = scale_type(w.scale.dtype),
          .scale_stride = w.scale.stride,
          .scale_rows = whole_rows ? 1 : kernels::kBlock,
          .scale_cols = short_group ? 64 : kernels::kBlock,
          .scales_are_pow2 = w.format == WeightFormat::fp8_pow2};
}

inline std::size_t value_bytes(const Linear& w) {
  return static_cast<std::size_t>(bytes_of(w.weight.dtype, w.weight.rows * w.weight.stride));
}

inline std::size_t scale_bytes(const Linear& w) {
  return static_cast<std::size_t>(bytes_of(w.scale.dtype, w.scale.rows * w.scale.stride));
}

inline bool all_read_fp8(std::span<const Linear> experts) {
  return std::all_of(experts.begin(), experts.end(), [](const Linear& w) { return w.reads_fp8(); });
}

// That these are one matrix of every expert.
inline void check_experts(std::span<const Linear> experts) {
  check_shape(!experts.empty(), "bind_experts");
  for (const Linear& w : experts) {
    check_shape(w.weight.rows == experts[0].weight.rows && w.weight.cols == experts[0].weight.cols,
                "bind_experts");
  }
}

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_VIEWS_H_
