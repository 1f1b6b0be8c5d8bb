// Topic gemm: widen, linear. A weight row is decoded once for all rows of x.

constexpr int kChunk = 2048;  // K of one partial sum; a multiple of kBlock

static void widen(const WidenParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    float* out = p.out + t * p.cols;
    load_row(p.x, p.type, t * p.x_stride, p.cols, out);
    if (p.scale == nullptr) continue;
    for (int c = 0; c < p.cols; ++c) out[c] *= p.scale[t * blocks + c / kBlock];
  }
}

// Adds columns [first, first + n) of row `row` to sum[0, num_rows).
static void linear_chunk(const LinearParams& p, std::int64_t row, int first, int n, double* sum) {
  float w[kChunk];
  load_weights(p.w, row, first, n, w);
  for (int m = 0; m < p.num_rows; ++m) {
    sum[m] += dot(p.x + static_cast<std::int64_t>(m) * p.cols + first, w, n);
  }
}

// The same for scales that are no powers of two: a fresh partial sum for each block.
static void linear_block(const LinearParams& p, std::int64_t row, int first, int n, double* sum) {
  float w[kBlock];
  load_row(p.w.data, p.w.type, row * p.w.stride + first, n, w);
  const float w_scale = block_scale(p.w, row, first);
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (int m = 0; m < p.num_rows; ++m) {
    const float part = dot(p.x + static_cast<std::int64_t>(m) * p.cols + first, w, n);
    const double scale = static_cast<double>(p.x_scale[m * blocks + first / kBlock]) * w_scale;
    sum[m] += static_cast<double>(part) * scale;
  }
}

static void linear(const LinearParams& p) {
  const int step = p.x_scale ? kBlock : kChunk;
  for (int row = p.first; row < p.last; ++row) {
    double sum[kRowTile] = {};  // of few chunk sums: costs nothing, and keeps their full precision
    for (int first = 0; first < p.cols; first += step) {
      const int n = p.cols - first < step ? p.cols - first : step;
      (p.x_scale ? linear_block : linear_chunk)(p, row, first, n, sum);
    }
    for (int m = 0; m < p.num_rows; ++m)
      store_value(p.out, p.type, m * p.out_stride + row, static_cast<float>(sum[m]));
  }
}
