// What the steps of one forward pass share, and views cut to its size.
#ifndef DSV32_LIB_MODEL_PASS_H_
#define DSV32_LIB_MODEL_PASS_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "lib/model/forward.h"

namespace dsv32 {

struct Forward::Pass {
  Pass(const Batch& batch_in, BatchView view_in, Capture* capture_in, std::stop_token cancel_in)
      : batch(batch_in),
        view(view_in),
        capture(capture_in),
        cancel(std::move(cancel_in)),
        n(static_cast<std::int64_t>(batch_in.tokens.size())) {}

  const Batch& batch;
  BatchView view;
  Capture* capture;  // or null
  std::stop_token cancel;
  std::int64_t n;  // tokens
  int layer = 0;
};

// The first rows * cols elements of a contiguous buffer as another matrix.
inline TensorView shaped(TensorView buffer, std::int64_t rows, std::int64_t cols) {
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

// Calls body(part) for parts of at most kLogitsTile rows.
template <class Body>
void for_tiles(std::span<const std::int32_t> rows, Body&& body) {
  for (std::size_t i = 0; i < rows.size(); i += kLogitsTile) {
    body(rows.subspan(i, std::min<std::size_t>(kLogitsTile, rows.size() - i)));
  }
}

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_PASS_H_
