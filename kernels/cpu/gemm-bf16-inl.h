// Topic gemm on VDPBF16PS, for BF16 rows against BF16, FP8, INT8 and INT4 weights where they lie.
//
// One order for every number of rows: K in chunks of kBf16Chunk; in a chunk 16 lanes, each one
// chain of VDPBF16PS over ascending blocks; the tree of `fold`; chunk sums in ascending order.
// Power-of-two scales are part of the conversion. Other scales (blockwise) multiply a fresh chain
// of one block, lane by lane, before the tree.
//
// Two paths with these same bits: up to kDirectRows rows decode weights in registers (decode is a
// race against memory), more rows share a panel decoded into scratch.

constexpr int kBf16Chunk = 2048;
constexpr int kDirectRows = 6;  // rows of x
constexpr int kDirectTile = 2;  // rows of weights at a time
constexpr int kPanelRows = 8;   // rows of weights of a panel
constexpr int kPanelTile = 3;   // rows of x of a tile
// Bytes ahead of a row's reading, into L2: measured 96 % of DRAM on Zen 4 with two streams, 60 %
// with four streams into L1.
constexpr int kPrefetch = 8192;

static bool takes_bf16(ValueType x, ValueType w) {
  return x != ValueType::f32 && w != ValueType::f32 && w != ValueType::f16;
}

// The order in which unpacking bytes leaves 64 columns: of each 16 the first 8, then the rest.
static __m512i unpack_order(int half) {
  const int add = half * 8;
  alignas(64) std::int16_t index[32];
  for (int i = 0; i < 32; ++i) index[i] = static_cast<std::int16_t>(i / 8 * 16 + i % 8 + add);
  return _mm512_load_si512(index);
}

// 128 values of a row of x as BF16 in natural order; zeros behind the last.
static void load_x_block(const PackParams& p, std::int64_t m, int k, __m512i* v) {
  alignas(64) std::uint16_t block[kBlock] = {};
  const int n = p.cols - k < kBlock ? p.cols - k : kBlock;
  const std::int64_t first = m * p.x_stride + k;
  if (p.type == ValueType::bf16) {
    std::memcpy(block, p.x + 2 * first, 2 * static_cast<std::size_t>(n));
  } else {
    const int blocks = (p.cols + kBlock - 1) / kBlock;
    const Lanes scale = lanes_set(p.scale ? p.scale[m * blocks + k / kBlock] : 1.0f);
    for (int i = 0; i < n; i += 16) {
      const Lanes x = mul(load_lanes(p.x, p.type, first + i, n - i), scale);  // exact in BF16
      lanes_store_bf16(reinterpret_cast<std::byte*>(block + i), x);
    }
  }
  for (int i = 0; i < 4; ++i) v[i] = _mm512_load_si512(block + 32 * i);
}

static void pack_bf16(const PackParams& p) {
  if (!takes_bf16(p.type, p.w_type)) {
    pack(p);
    return;
  }
  const __m512i first = unpack_order(0), second = unpack_order(1);
  alignas(64) std::int16_t step[32];
  for (int i = 0; i < 32; ++i) step[i] = static_cast<std::int16_t>(2 * i);
  const __m512i even = _mm512_load_si512(step);
  const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
  for (std::int64_t m = 0; m < p.num_rows; ++m) {
    std::byte* out = p.out + m * packed_row_bytes(p.cols);
    for (int k = 0; k < p.cols; k += kBlock, out += 2 * kBlock) {
      __m512i v[4];
      load_x_block(p, m, k, v);
      if (p.w_type == ValueType::int4) {  // all even columns, then all odd ones
        const __m512i e0 = _mm512_permutex2var_epi16(v[0], even, v[1]);
        const __m512i e1 = _mm512_permutex2var_epi16(v[2], even, v[3]);
        const __m512i o0 = _mm512_permutex2var_epi16(v[0], odd, v[1]);
        const __m512i o1 = _mm512_permutex2var_epi16(v[2], odd, v[3]);
        v[0] = e0, v[1] = e1, v[2] = o0, v[3] = o1;
      }
      if (p.w_type != ValueType::bf16) {
        for (int i = 0; i < 4; i += 2) {
          const __m512i a = _mm512_permutex2var_epi16(v[i], first, v[i + 1]);
          v[i + 1] = _mm512_permutex2var_epi16(v[i], second, v[i + 1]);
          v[i] = a;
        }
      }
      for (int i = 0; i < 4; ++i) _mm512_storeu_si512(out + 64 * i, v[i]);
    }
  }
}

static inline const std::byte* packed_x(const LinearParams& p, std::int64_t m, int k) {
  return p.x + m * packed_row_bytes(p.cols) + 2 * std::int64_t{k};
}

static inline __m512 dp(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// What a block's chain is multiplied by: both scales, lane by lane.
static inline __m512 multiplier(const LinearParams& p, const ScaleRow& scales, std::int64_t m,
                                int k) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  const float x_scale = p.x_scale ? p.x_scale[m * blocks + k / kBlock] : 1.0f;
  if (p.w.scale_cols == kBlock) return _mm512_set1_ps(scales.at(k / kBlock) * x_scale);
  const float a = scales.at(k / 64) * x_scale;  // as Int4Weights lays the lanes
  const float b = k + 64 < p.cols ? scales.at(k / 64 + 1) * x_scale : 0.0f;
  return _mm512_mask_mov_ps(_mm512_set1_ps(a), 0xFF00, _mm512_set1_ps(b));
}

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

// ---- few rows: R rows of weights against M rows of x, straight from memory.
template <class W, int R, int M, bool Whole>
static inline void direct_block(const LinearParams& p, const std::byte* const at[R],
                                const ScaleRow scales[R], int k, int n, __m512 sum[R][M]) {
  const std::int64_t offset = std::int64_t{k} * W::kBytes / kBlock;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const Lut lut = W::lut(scales[r], k / kBlock);
#pragma GCC unroll 4
    for (int line = 0; line < W::kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(at[r] + offset) + kPrefetch + line, _MM_HINT_T1);
    }
    __m512i w[4];
    W::template decode<Whole>(at[r] + offset, n, lut, w);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const std::byte* x = packed_x(p, m, k);
      __m512 part = W::kBlockwise ? _mm512_setzero_ps() : sum[r][m];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) part = dp(part, w[i], _mm512_loadu_si512(x + 64 * i));
      sum[r][m] =
          W::kBlockwise ? _mm512_fmadd_ps(part, multiplier(p, scales[r], m, k), sum[r][m]) : part;
    }
  }
}

template <class W, int R, int M>
static void direct_rows(const LinearParams& p, std::int64_t row, std::int64_t step) {
  float total[R][M];
  const std::byte* at[R];
  ScaleRow scales[R];
  for (int r = 0; r < R; ++r) {
    at[r] = W::at(p.w, row + r * step, 0);
    scales[r] = scale_row(p.w, row + r * step);
  }
  for (int chunk = 0; chunk < p.cols; chunk += kBf16Chunk) {
    const int end = p.cols - chunk < kBf16Chunk ? p.cols : chunk + kBf16Chunk;
    __m512 sum[R][M];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) sum[r][m] = _mm512_setzero_ps();
    }
    int k = chunk;
    for (; k + kBlock <= end; k += kBlock) {
      direct_block<W, R, M, true>(p, at, scales, k, kBlock, sum);
    }
    if (k < end) direct_block<W, R, M, false>(p, at, scales, k, end - k, sum);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const float part = fold(Lanes{sum[r][m]});
        total[r][m] = chunk == 0 ? part : total[r][m] + part;
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int m = 0; m < M; ++m) {
      store_value(p.out, p.type, m * p.out_stride + row + r * step, total[r][m]);
    }
  }
}

// As many long streams as a tile has rows: memory likes a few of them best.
template <class W, int M>
static void linear_direct(const LinearParams& p) {
  const std::int64_t step = (p.last - p.first) / kDirectTile;
  for (std::int64_t i = 0; i < step; ++i) {
    direct_rows<W, kDirectTile, M>(p, p.first + i, step);
  }
  for (std::int64_t row = p.first + step * kDirectTile; row < p.last; ++row) {
    direct_rows<W, 1, M>(p, row, 1);
  }
}

// ---- many rows
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
  switch (p.num_rows) {
    case 1:
      return linear_direct<W, 1>(p);
    case 2:
      return linear_direct<W, 2>(p);
    case 3:
      return linear_direct<W, 3>(p);
    case 4:
      return linear_direct<W, 4>(p);
    case 5:
      return linear_direct<W, 5>(p);
    case kDirectRows:
      return linear_direct<W, kDirectRows>(p);
    default:
      break;
  }
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
