// Topic gemm: pack, linear, in f32. Rows of weights are decoded once for many rows of x; kTileRows
// x kTileTokens sums are formed at a time. Both, and how the product is cut, are the instruction
// set's choice and change no bit: a sum is chunks of columns in ascending order, each in the order
// of `dot`, added in double.

constexpr int kChunk = 2048;                      // K of one partial sum; a multiple of kBlock
constexpr int kPanelFloats = kTileRows * kChunk;  // of decoded weights: half of L1, or so

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

// How a product is cut. A step of columns is one partial sum: a block that shares scales, or a
// chunk. The rows of x that are gone through for each panel, and the totals of `rows` outputs, stay
// in L2.
struct Cut {
  int step, panel_rows, rows, tokens;
};
constexpr int kWeightRows = 16;  // at most
constexpr int kMaxTotals = kLinearRows * kWeightRows;
constexpr int kFewRows = 8;  // of x: fewer are no tiles

static Cut cut_of(const LinearParams& p) {
  const bool blockwise = p.x_scale != nullptr;
  const int step = blockwise ? kBlock : kChunk;
  // As quick as the weights come, which do so one row behind the other.
  if (p.num_rows < kFewRows) return {step, kTileRows, kTileRows, kLinearRows};
  if (blockwise) return {step, kWeightRows, kWeightRows, kLinearRows};
  return {step, kTileRows, 64, 32};
}

// A decoded panel: columns [first, first + n) of `rows` rows from `row` on, `step` floats apart.
// Rows up to a multiple of kTileRows are there, zeros if they are none.
struct Panel {
  alignas(64) float w[kPanelFloats];
  double scale[kWeightRows];  // of each row, if blockwise
  int row, rows, first, n, step;
};

static void decode_panel(const LinearParams& p, Panel& panel) {
  const bool blockwise = p.x_scale != nullptr;
  for (int r = 0; r < panel.rows; ++r) {
    float* out = panel.w + r * panel.step;
    if (blockwise) {
      load_row(p.w.data, p.w.type, (panel.row + r) * p.w.stride + panel.first, panel.n, out);
      panel.scale[r] = static_cast<double>(block_scale(p.w, panel.row + r, panel.first));
    } else {
      load_weights(p.w, panel.row + r, panel.first, panel.n, out);
    }
  }
  for (int r = panel.rows; r % kTileRows != 0; ++r) {
    for (int k = 0; k < panel.n; ++k) panel.w[r * panel.step + k] = 0.0f;
  }
}

// The lanes of a panel's sums. In memory: whole vectors go in and come out.
struct Sums {
  alignas(64) float of_row[kWeightRows][16];
};

// sums[i] of one step for kTileTokens rows of x and kTileRows of weights, `stride` floats apart
// each, in the order of `dot`, their lanes not yet folded.
static void dot_tile(const float* x, std::int64_t x_stride, const float* w, int w_stride, int n,
                     int row, Sums* sums) {
  Lanes sum[kTileTokens][kTileRows];
#pragma GCC unroll 16
  for (int i = 0; i < kTileTokens; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) sum[i][r] = lanes_set(0.0f);
  }
  int k = 0;
  for (; k + 16 <= n; k += 16) {
    Lanes b[kTileRows];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) b[r] = lanes_load(w + r * w_stride + k);
#pragma GCC unroll 16
    for (int i = 0; i < kTileTokens; ++i) {
      const Lanes a = lanes_load(x + i * x_stride + k);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) sum[i][r] = fma(a, b[r], sum[i][r]);
    }
  }
  if (k < n) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileTokens; ++i) {
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        const auto* tail_x = reinterpret_cast<const std::byte*>(x + i * x_stride + k);
        const auto* tail_w = reinterpret_cast<const std::byte*>(w + r * w_stride + k);
        sum[i][r] = fma(load_lanes(tail_x, ValueType::f32, 0, n - k),
                        load_lanes(tail_w, ValueType::f32, 0, n - k), sum[i][r]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileTokens; ++i) {
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) lanes_store(sums[i].of_row[row + r], sum[i][r]);
  }
}

// Adds the panel's sums of row m of x to their totals, times both scales if blockwise.
static void add_sums(const LinearParams& p, const Panel& panel, int m, const Sums& sums,
                     double* total) {
  const bool blockwise = p.x_scale != nullptr;
  const int count = panel.rows;
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  const double x_scale =
      blockwise ? static_cast<double>(p.x_scale[m * blocks + panel.first / kBlock]) : 1.0;
  float part[kWeightRows];
  if (count == kWeightRows && blockwise) {  // of so many the compiler makes vectors
    fold_eight(sums.of_row[0], part);
    fold_eight(sums.of_row[8], part + 8);
    for (int r = 0; r < kWeightRows; ++r) {
      total[r] += static_cast<double>(part[r]) * (x_scale * panel.scale[r]);
    }
    return;
  }
  int done = 0;
  for (; done + 8 <= count; done += 8) fold_eight(sums.of_row[done], part + done);
  for (; done < count; ++done) part[done] = fold(lanes_load(sums.of_row[done]));
  for (int r = 0; r < count; ++r) {
    const double scale = blockwise ? x_scale * panel.scale[r] : 1.0;
    total[r] += static_cast<double>(part[r]) * scale;
  }
}

// Adds one step of kTileTokens rows of x from m on to their totals, `stride` apart.
static void add_tokens(const LinearParams& p, const Panel& panel, int m, double* total,
                       int stride) {
  Sums sums[kTileTokens];
  const std::int64_t x_stride = packed_row_bytes(p.cols) / 4;
  const float* x = packed_row(p, m) + panel.first;
  for (int r = 0; r < panel.rows; r += kTileRows) {
    dot_tile(x, x_stride, panel.w + r * panel.step, panel.step, panel.n, r, sums);
  }
  for (int i = 0; i < kTileTokens; ++i) add_sums(p, panel, m + i, sums[i], total + i * stride);
}

// Adds one step of row m of x to its totals, a row of weights behind the other.
static void add_row(const LinearParams& p, const Panel& panel, int m, double* total) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (int r = 0; r < panel.rows; ++r) {
    const float part = dot(packed_row(p, m) + panel.first, panel.w + r * panel.step, panel.n);
    double scale = 1.0;
    if (p.x_scale != nullptr) {
      scale = static_cast<double>(p.x_scale[m * blocks + panel.first / kBlock]) * panel.scale[r];
    }
    total[r] += static_cast<double>(part) * scale;
  }
}

static void add_panel(const LinearParams& p, const Panel& panel, int begin, int end, double* total,
                      int stride) {
  int m = begin;
  for (; m + kTileTokens <= end && end - begin >= kFewRows; m += kTileTokens) {
    add_tokens(p, panel, m, total + (m - begin) * stride, stride);
  }
  for (; m < end; ++m) add_row(p, panel, m, total + (m - begin) * stride);
}

// Outputs [row, row + rows) of rows [begin, end) of x.
static void linear_piece(const LinearParams& p, const Cut& cut, int row, int rows, int begin,
                         int end) {
  double total[kMaxTotals];  // of few chunk sums: costs nothing, and keeps precision
  Panel panel;
  panel.step = cut.step;
  for (int i = 0; i < (end - begin) * rows; ++i) total[i] = 0.0;
  for (panel.first = 0; panel.first < p.cols; panel.first += cut.step) {
    panel.n = p.cols - panel.first < cut.step ? p.cols - panel.first : cut.step;
    for (int r = 0; r < rows; r += cut.panel_rows) {
      panel.row = row + r;
      panel.rows = rows - r < cut.panel_rows ? rows - r : cut.panel_rows;
      decode_panel(p, panel);
      add_panel(p, panel, begin, end, total + r, rows);
    }
  }
  for (int m = begin; m < end; ++m) {
    for (int r = 0; r < rows; ++r) {
      store_value(p.out, p.type, m * p.out_stride + row + r,
                  static_cast<float>(total[(m - begin) * rows + r]));
    }
  }
}

static void linear(const LinearParams& p) {
  const Cut cut = cut_of(p);
  for (int row = p.first; row < p.last; row += cut.rows) {
    const int rows = p.last - row < cut.rows ? p.last - row : cut.rows;
    for (int m = 0; m < p.num_rows; m += cut.tokens) {
      const int end = p.num_rows - m < cut.tokens ? p.num_rows : m + cut.tokens;
      linear_piece(p, cut, row, rows, m, end);
    }
  }
}
