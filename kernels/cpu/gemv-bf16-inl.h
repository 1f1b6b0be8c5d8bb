// Up to kDirectRows rows of x against weights that become BF16 in registers: decode is a race
// against memory. The order of sums is that of pack-bf16-inl.h.

constexpr int kDirectRows = 6;  // rows of x
constexpr int kDirectTile = 2;  // rows of weights at a time
// Bytes ahead of a row's reading, into L2: measured 96 % of DRAM on Zen 4 with two streams, 60 %
// with four streams into L1.
constexpr int kPrefetch = 8192;

// R rows of weights against M rows of x, straight from memory.
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

// Whether p had few enough rows.
template <class W>
static bool linear_few(const LinearParams& p) {
  switch (p.num_rows) {
    case 1:
      linear_direct<W, 1>(p);
      return true;
    case 2:
      linear_direct<W, 2>(p);
      return true;
    case 3:
      linear_direct<W, 3>(p);
      return true;
    case 4:
      linear_direct<W, 4>(p);
      return true;
    case 5:
      linear_direct<W, 5>(p);
      return true;
    case kDirectRows:
      linear_direct<W, kDirectRows>(p);
      return true;
    default:
      return false;
  }
}
