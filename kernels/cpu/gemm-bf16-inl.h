// More than kDirectRows rows of x share a panel of weights decoded into scratch. The order of sums
// is that of pack-bf16-inl.h.

constexpr int kPanelRows = 8;  // rows of weights of a panel
constexpr int kPanelTile = 3;  // rows of x of a tile

// Tree of `fold` over eight registers at once.
static inline __m256 fold8(const __m512* v) {
  __m512 half[4], quarter[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // 256 + 256 of v[2i], then of v[2i + 1]
    half[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                            _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xEE));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {  // 128 + 128: one group of 128 bits for each of four
    quarter[i] = _mm512_add_ps(_mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0x88),
                               _mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0xDD));
  }
  const __m512 pairs = _mm512_add_ps(_mm512_shuffle_ps(quarter[0], quarter[1], 0x44),
                                     _mm512_shuffle_ps(quarter[0], quarter[1], 0xEE));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_shuffle_ps(pairs, pairs, 0xB1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums));
}

// A chunk of kPanelRows rows of weights: [n / 32][kPanelRows][32]. Rows behind the last are zeros.
template <class W, bool Whole>
static inline void decode_panel_block(const std::byte* const at[kPanelRows], const Lut& lut,
                                      std::int64_t offset, std::int64_t ahead, int n,
                                      std::byte* to) {
#pragma GCC unroll 8
  for (int r = 0; r < kPanelRows; ++r) {
    __m512i w[4];
    const std::byte* from = at[r] + offset;
#pragma GCC unroll 4
    for (int line = 0; line < W::kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(from) + ahead + line, _MM_HINT_T1);
    }
    W::template decode<Whole>(from, n, lut, w);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_store_si512(to + 64 * (kPanelRows * i + r), w[i]);
  }
}

template <class W>
static void decode_panel(const LinearParams& p, std::int64_t row, int k, int n, std::byte* panel) {
  const std::byte* at[kPanelRows];
  for (int r = 0; r < kPanelRows; ++r) {  // rows behind the last repeat it; nobody reads their sums
    at[r] = W::at(p.w, row + r < p.last ? row + r : p.last - 1, k);
  }
  const ScaleRow scales = scale_row(p.w, row);
  const std::int64_t ahead = W::at(p.w, kPanelRows, 0) - W::at(p.w, 0, 0);  // the next panel
  int j = 0;
  for (; j + kBlock <= n; j += kBlock, panel += 4 * 64 * kPanelRows) {
    const std::int64_t offset = std::int64_t{j} * W::kBytes / kBlock;
    decode_panel_block<W, true>(at, W::lut(scales, (k + j) / kBlock), offset, ahead, kBlock, panel);
  }
  if (j < n) {
    const std::int64_t offset = std::int64_t{j} * W::kBytes / kBlock;
    decode_panel_block<W, false>(at, W::lut(scales, (k + j) / kBlock), offset, ahead, n - j, panel);
  }
}

// sum[m][r] of a panel against M rows of x from `m` on.
template <int M>
static inline void panel_sums(const std::byte* panel, const std::byte* x, std::int64_t x_stride,
                              int n, __m512 sum[M][kPanelRows]) {
  for (int k = 0; k < n; k += 32, panel += 64 * kPanelRows, x += 64) {
    __m512i v[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) v[m] = _mm512_loadu_si512(x + m * x_stride);
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) {
      const __m512i w = _mm512_load_si512(panel + 64 * r);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[m][r] = dp(sum[m][r], w, v[m]);
    }
  }
}

// Adds (or sets, in the first chunk) totals[m][0..8) for M rows of x from `m` on.
template <class W, int M>
static void panel_tile(const LinearParams& p, const std::byte* panel, std::int64_t row, int m,
                       int k, int n, float* totals) {
  __m512 sum[M][kPanelRows];
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) sum[i][r] = _mm512_setzero_ps();
  }
  const std::byte* x = packed_x(p, m, k);
  const std::int64_t stride = packed_row_bytes(p.cols);
  if (!W::kBlockwise) {
    panel_sums<M>(panel, x, stride, n, sum);
  } else {
    for (int j = 0; j < n; j += kBlock, panel += 4 * 64 * kPanelRows, x += 4 * 64) {
      for (int i = 0; i < M; ++i) {
        __m512 part[1][kPanelRows];
#pragma GCC unroll 8
        for (int r = 0; r < kPanelRows; ++r) part[0][r] = _mm512_setzero_ps();
        panel_sums<1>(panel, x + i * stride, stride, kBlock, part);
#pragma GCC unroll 8
        for (int r = 0; r < kPanelRows; ++r) {
          const ScaleRow scales = scale_row(p.w, row + r < p.last ? row + r : row);
          sum[i][r] = _mm512_fmadd_ps(part[0][r], multiplier(p, scales, m + i, k + j), sum[i][r]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) {
    const __m256 part = fold8(sum[i]);
    float* to = totals + i * kPanelRows;
    _mm256_store_ps(to, k == 0 ? part : _mm256_add_ps(_mm256_load_ps(to), part));
  }
}

// Rows [first, last) of weights, at most kBlock. A chunk of x stays in the cache for all of them.
template <class W>
static void linear_panels(const LinearParams& p, int first, int last) {
  auto* panel = reinterpret_cast<std::byte*>(p.scratch);
  float* totals = p.scratch + kBf16Chunk / 2 * kPanelRows;  // [panels][num_rows][kPanelRows]
  for (int k = 0; k < p.cols; k += kBf16Chunk) {
    const int n = p.cols - k < kBf16Chunk ? p.cols - k : kBf16Chunk;
    const int padded = (n + kBlock - 1) / kBlock * kBlock;
    float* to = totals;
    for (int row = first; row < last; row += kPanelRows, to += p.num_rows * kPanelRows) {
      decode_panel<W>(p, row, k, n, panel);
      int m = 0;
      for (; m + kPanelTile <= p.num_rows; m += kPanelTile) {
        panel_tile<W, kPanelTile>(p, panel, row, m, k, padded, to + m * kPanelRows);
      }
      if (p.num_rows - m == 2) {
        panel_tile<W, 2>(p, panel, row, m, k, padded, to + m * kPanelRows);
      } else if (p.num_rows - m == 1) {
        panel_tile<W, 1>(p, panel, row, m, k, padded, to + m * kPanelRows);
      }
    }
  }
  for (int row = first; row < last; row += kPanelRows, totals += p.num_rows * kPanelRows) {
    const int rows = last - row < kPanelRows ? last - row : kPanelRows;
    for (int m = 0; m < p.num_rows; ++m) {
      for (int r = 0; r < rows; ++r) {
        store_value(p.out, p.type, m * p.out_stride + row + r, totals[m * kPanelRows + r]);
      }
    }
  }
}

template <class W>
static void linear_weights(const LinearParams& p) {
  if (linear_few<W>(p)) return;
  for (int row = p.first; row < p.last;) {
    const int next = row / kBlock * kBlock + kBlock, end = next < p.last ? next : p.last;
    linear_panels<W>(p, row, end);
    row = end;
  }
}

static void linear_bf16(const LinearParams& p) {
  if (!takes_bf16(p.x_type, p.w.type)) return linear(p);
  switch (p.w.type) {
    case ValueType::e4m3:
      return p.w.scales_are_pow2 ? linear_weights<Fp8Pow2Weights>(p)
                                 : linear_weights<Fp8Weights>(p);
    case ValueType::int8:
      return linear_weights<Int8Weights>(p);
    case ValueType::int4:
      return linear_weights<Int4Weights>(p);
    default:
      return linear_weights<Bf16Weights>(p);
  }
}
