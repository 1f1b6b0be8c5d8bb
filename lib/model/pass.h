// What the steps of one forward pass share, and views cut to its size.
#ifndef DSV32_LIB_MODEL_PASS_H_
#define DSV32_LIB_MODEL_PASS_H_

#include <cstdint>
#include <stop_token>

#include "lib/base/check.h"
#include "lib/model/forward.h"

namespace dsv32 {

// Rows on their way through the layers: the main model's, then MTP's.
struct Forward::Pass {
  const Batch& batch;
  const Rows& rows;
  BatchView view;
  StepResult* observed = nullptr;  // where choices of these rows go, if they are wanted
  std::stop_token cancel{};
  TensorView nan_queries{};  // [1, n], or without data: not counted
  std::int64_t n = 0;        // rows, with padding
  int layer = 0;
};

// The first rows * cols elements of a contiguous buffer as another matrix.
inline TensorView shaped(TensorView buffer, std::int64_t rows, std::int64_t cols) {
  DSV32_CHECK(rows * cols <= buffer.rows * buffer.cols, internal,
              "a view of {} x {} in a buffer of {} x {}", rows, cols, buffer.rows, buffer.cols);
  buffer.rows = rows;
  buffer.cols = buffer.stride = cols;
  return buffer;
}

inline Activation shaped(Activation a, std::int64_t rows, std::int64_t cols) {
  a.dense = shaped(a.dense, rows, cols);
  if (a.fp8.data) a.fp8 = shaped(a.fp8, rows, cols);
  if (a.scale.data) a.scale = shaped(a.scale, rows, (cols + kernels::kBlock - 1) / kernels::kBlock);
  return a;
}

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_PASS_H_
