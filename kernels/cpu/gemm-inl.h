// Topic gemm: pack, linear, in f32. kTileRows rows of weights are decoded once for all rows of x;
// kTileRows x kTileTokens sums are formed at a time. Both are the instruction set's choice and
// change no bit.

constexpr int kChunk = 2048;  // K of one partial sum; a multiple of kBlock

static void pack(const PackParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (std::int64_t m = 0; m < p.num_rows; ++m) {
    auto* out = reinterpret_cast<float*>(p.out + m * packed_row_bytes(p.cols));
    load_row(p.x, p.type, m * p.x_stride, p.cols, out);
    for (int c = 0; p.scale != nullptr && c < p.cols; ++c) {
      out[c] *= p.scale[m * blocks + c / kBlock];
    }
  }
}

static const float* packed_row(const LinearParams& p, std::int64_t m) {
  return reinterpret_cast<const float*>(p.x + m * packed_row_bytes(p.cols));
}

// A decoded panel: columns [first, first + n) of `rows` rows from `row` on.
struct Panel {
  float w[kTileRows][kChunk];
  int row, rows, first, n;
};

// sums[m][r] of one chunk for kTileTokens rows of x, in the order of `dot`.
static void dot_tile(const LinearParams& p, const Panel& panel, int m,
                     float sums[kTileTokens][kTileRows]) {
  Lanes sum[kTileTokens][kTileRows];
#pragma GCC unroll 16
  for (int i = 0; i < kTileTokens; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) sum[i][r] = lanes_set(0.0f);
  }
  const float* x[kTileTokens];
  for (int i = 0; i < kTileTokens; ++i) x[i] = packed_row(p, m + i) + panel.first;
  int k = 0;
  for (; k + 16 <= panel.n; k += 16) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileTokens; ++i) {
      const Lanes a = lanes_load(x[i] + k);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) sum[i][r] = fma(a, lanes_load(panel.w[r] + k), sum[i][r]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileTokens; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      if (k < panel.n) {
        const auto* tail_x = reinterpret_cast<const std::byte*>(x[i] + k);
        const auto* tail_w = reinterpret_cast<const std::byte*>(panel.w[r] + k);
        sum[i][r] = fma(load_lanes(tail_x, ValueType::f32, 0, panel.n - k),
                        load_lanes(tail_w, ValueType::f32, 0, panel.n - k), sum[i][r]);
      }
      sums[i][r] = fold(sum[i][r]);
    }
  }
}

// Adds one chunk's sums, times `scale` of each row of x if blockwise.
static void add_panel(const LinearParams& p, const Panel& panel, double (*total)[kTileRows],
                      const float* w_scale) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  const auto add = [&](int m, int r, float part) {
    double scale = 1.0;
    if (w_scale) {
      scale = static_cast<double>(p.x_scale[m * blocks + panel.first / kBlock]) * w_scale[r];
    }
    total[m][r] += static_cast<double>(part) * scale;
  };
  int m = 0;
  for (; m + kTileTokens <= p.num_rows && panel.rows == kTileRows; m += kTileTokens) {
    float sums[kTileTokens][kTileRows];
    dot_tile(p, panel, m, sums);
    for (int i = 0; i < kTileTokens; ++i) {
      for (int r = 0; r < kTileRows; ++r) add(m + i, r, sums[i][r]);
    }
  }
  for (; m < p.num_rows; ++m) {
    for (int r = 0; r < panel.rows; ++r) {
      add(m, r, dot(packed_row(p, m) + panel.first, panel.w[r], panel.n));
    }
  }
}

static void linear(const LinearParams& p) {
  const bool blockwise = p.x_scale != nullptr;
  const int step = blockwise ? kBlock : kChunk;
  Panel panel;
  double total[kLinearRows][kTileRows];  // of few chunk sums: costs nothing, and keeps precision
  for (int row = p.first; row < p.last; row += kTileRows) {
    panel.row = row;
    panel.rows = p.last - row < kTileRows ? p.last - row : kTileRows;
    for (int m = 0; m < p.num_rows; ++m) {
      for (int r = 0; r < kTileRows; ++r) total[m][r] = 0.0;
    }
    for (panel.first = 0; panel.first < p.cols; panel.first += step) {
      panel.n = p.cols - panel.first < step ? p.cols - panel.first : step;
      float w_scale[kTileRows];
      for (int r = 0; r < panel.rows; ++r) {
        if (blockwise) {
          load_row(p.w.data, p.w.type, (row + r) * p.w.stride + panel.first, panel.n, panel.w[r]);
          w_scale[r] = block_scale(p.w, row + r, panel.first);
        } else {
          load_weights(p.w, row + r, panel.first, panel.n, panel.w[r]);
        }
      }
      add_panel(p, panel, total, blockwise ? w_scale : nullptr);
    }
    for (int m = 0; m < p.num_rows; ++m) {
      for (int r = 0; r < panel.rows; ++r) {
        store_value(p.out, p.type, m * p.out_stride + row + r, static_cast<float>(total[m][r]));
      }
    }
  }
}
