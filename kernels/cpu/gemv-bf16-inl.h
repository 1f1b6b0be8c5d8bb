// Up to kDirectRows rows of x against weights that become BF16 in registers: decode is a race
// against memory. The order of sums is that of pack-bf16-inl.h.
//
// A tile is R rows of weights times all rows of x: R chains of sums for each row of x hide the
// latency of VDPBF16PS, and a line of x is loaded once for R rows. (Measured on Zen 4: from L2, two
// rows give 33 GB/s with one row of x, four rows 42; DRAM gives 30.) Neighbouring rows lie one
// behind the other, so what tiles to come need is fetched from its first byte to its last: one long
// stream, or two where the rows of a tile come from two halves of the matrix.

constexpr int kDirectRows = 8;  // rows of x

// One row of x is a pure race against memory, which likes two streams best (Zen 4, of DRAM's rate:
// one 90 %, two 100 %). With more, what neighbours share counts: tables and lines of x.
template <int M>
constexpr int kDirectStreams = M == 1 ? 2 : 1;

// Bytes of each stream from what is read to what is fetched. Into L2: L1 has no room (60 %).
constexpr int kPrefetch = 32768;

// Rows of weights of a tile; sums, and fresh chains if blockwise, stay in registers.
template <class W, int M>
constexpr int kDirectTile = W::kBlockwise ? (M <= 2   ? 4
                                             : M <= 4 ? 2
                                                      : 1)
                            : M <= 4      ? 4
                            : M <= 6      ? 3
                                          : 2;

// Tiles that take the same columns one after another, before any takes the next ones: a tile of few
// rows of weights would take x from L2 each time and need more than its 32 bytes a cycle. (Zen 4,
// 8 rows of x, K = 7168: FP8 10 % faster, blockwise types 30 %; up to 4 rows no difference.)
template <int M>
constexpr int kDirectGroup = M <= 4 ? 1 : 8;

// Columns at a time: all rows of x take at most half of L1.
template <int M>
constexpr int kDirectPart = M <= 4 ? kBf16Chunk : kBf16Chunk / 2;

static constexpr int one_if(bool one, int n) { return one ? 1 : n; }

// R rows of weights times M rows of x, in S streams: neighbours from `row` on, then from row + step
// on, ... Only rows of one stream may share scales. `Halves`: two groups of scales in a block.
template <class Weights, int R, int M, int S, bool Halves>
struct Tile {
  using W = Weights;
  static constexpr int kRows = R, kTokens = M, kStreams = S;
  static constexpr bool kHalves = Halves;
  static constexpr bool kShared = !W::kRowScales && S == 1;
  static constexpr int kScales = one_if(kShared, R);
  static constexpr int kFactors = one_if(W::kRowScales, M);  // int8 and int4 meet x without scales
  static constexpr int kGroups = kBf16Chunk / 64;

  const std::byte* at[R];
  const std::byte* next[S];  // of each stream, to be fetched
  ScaleRow scales[kScales];
  std::int64_t x_stride;  // bytes
  // What the blocks of a chunk are multiplied by. Loads of 16 may begin at any.
  alignas(64) float multipliers[W::kBlockwise ? kScales : 1][kFactors][kGroups + 16];
};

// Scales [first, first + n) of a row; zeros behind.
static inline __m512 load_scales(const ScaleRow& row, int first, int n) {
  const __mmask16 some = static_cast<__mmask16>(first_bytes(n < 16 ? n : 16));
  if (row.type == ScaleType::f32) return _mm512_maskz_loadu_ps(some, row.first + 4 * first);
  if (row.type == ScaleType::f16) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, row.first + 2 * first));
  }
  alignas(64) float value[16] = {};
  for (int i = 0; i < 16 && i < n; ++i) value[i] = row.at(first + i);
  return _mm512_load_ps(value);
}

template <class T>
static inline void find_multipliers(const LinearParams& p, int chunk, int n, T* tile) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  const int first = chunk / p.w.scale_cols, count = (n + p.w.scale_cols - 1) / p.w.scale_cols;
  for (int r = 0; r < T::kScales; ++r) {
    for (int j = 0; j < count; j += 16) {
      const __m512 w = load_scales(tile->scales[r], first + j, count - j);
      for (int m = 0; m < T::kFactors; ++m) {
        __m512 value = w;
        if (p.x_scale) {
          const auto* line = reinterpret_cast<const std::byte*>(p.x_scale + m * blocks);
          value = _mm512_mul_ps(w, load_scales({line, ScaleType::f32}, first + j, count - j));
        }
        _mm512_store_ps(tile->multipliers[r][m] + j, value);
      }
    }
  }
}

template <class T>
static inline __m512 block_multiplier(const T& tile, int r, int m, int block) {
  const float* line = tile.multipliers[T::kShared ? 0 : r][T::kFactors == 1 ? 0 : m];
  if (!T::kHalves) return _mm512_set1_ps(line[block]);
  const __m512i order = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return _mm512_permutexvar_ps(order, _mm512_loadu_ps(line + 2 * block));
}

template <class T, bool Whole, int Half>
static inline void direct_half(const T& tile, std::int64_t offset, int n, const Lut* lut,
                               const std::byte* x, __m512 sum[T::kRows][T::kTokens]) {
  __m512i w[T::kRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < T::kRows; ++r) {
    T::W::template half<Whole, Half>(tile.at[r] + offset, n, lut[T::kShared ? 0 : r], w[r]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < T::kTokens; ++m) {
    const std::byte* at = x + m * tile.x_stride + 128 * Half;
    const __m512i first = _mm512_loadu_si512(at), second = _mm512_loadu_si512(at + 64);
#pragma GCC unroll 8
    for (int r = 0; r < T::kRows; ++r) {
      sum[r][m] = dp(dp(sum[r][m], w[r][0], first), w[r][1], second);
    }
  }
}

// Block `block` of a chunk, of which n columns exist.
template <class T, bool Whole>
static inline void direct_block(const T& tile, std::int64_t offset, int n, const std::byte* x,
                                int block, __m512 sum[T::kRows][T::kTokens]) {
  using W = typename T::W;
  Lut lut[T::kScales];
#pragma GCC unroll 8
  for (int r = 0; r < T::kScales; ++r) {
    lut[r] = W::lut(tile.scales[r], static_cast<int>(offset / W::kBytes));
  }
  if (!W::kBlockwise) {
    direct_half<T, Whole, 0>(tile, offset, n, lut, x, sum);
    direct_half<T, Whole, 1>(tile, offset, n, lut, x, sum);
    return;
  }
  __m512 part[T::kRows][T::kTokens];
#pragma GCC unroll 8
  for (int r = 0; r < T::kRows; ++r) {
#pragma GCC unroll 8
    for (int m = 0; m < T::kTokens; ++m) part[r][m] = _mm512_setzero_ps();
  }
  direct_half<T, Whole, 0>(tile, offset, n, lut, x, part);
  direct_half<T, Whole, 1>(tile, offset, n, lut, x, part);
#pragma GCC unroll 8
  for (int m = 0; m < T::kTokens; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < T::kRows; ++r) {
      sum[r][m] = _mm512_fmadd_ps(part[r][m], block_multiplier(tile, r, m, block), sum[r][m]);
    }
  }
}

// Folds `count` sums, eight at a time where that pays, and adds them to total.
template <int Count>
static inline void add_folded(const __m512* sum, bool first, float* total) {
  constexpr int kEights = Count / 8 * 8;
#pragma GCC unroll 8
  for (int i = 0; i < kEights; i += 8) {
    const __m256 part = fold8(sum + i);
    _mm256_storeu_ps(total + i, first ? part : _mm256_add_ps(_mm256_loadu_ps(total + i), part));
  }
#pragma GCC unroll 8
  for (int i = kEights; i < Count; ++i) {
    const float part = fold(Lanes{sum[i]});
    total[i] = first ? part : total[i] + part;
  }
}

template <class T>
static inline void fetch_next(T* tile) {
  constexpr int kBytes = T::kRows / T::kStreams * T::W::kBytes;
#pragma GCC unroll 4
  for (int s = 0; s < T::kStreams; ++s) {
#pragma GCC unroll 16
    for (int line = 0; line < kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(tile->next[s]) + line, _MM_HINT_T1);
    }
    tile->next[s] += kBytes;
  }
}

// Columns [k, k + n) of a chunk, which they may start and end.
struct Part {
  int k, n;
  bool starts, ends;
};

// One tile against a part. Sums go on from `kept` and to there, or to `total` at a chunk's end.
template <class T>
static void direct_part(const LinearParams& p, const Part& part, T* tile, __m512* kept,
                        float* total) {
  using W = typename T::W;
  constexpr int kR = T::kRows, kM = T::kTokens;
  if (W::kBlockwise) find_multipliers(p, part.k, part.n, tile);
  __m512 sum[kR][kM];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) {
      sum[r][m] = part.starts ? _mm512_setzero_ps() : kept[r * kM + m];
    }
  }
  const std::byte* x = packed_x(p, 0, part.k);
  std::int64_t offset = std::int64_t{part.k} * W::kBytes / kBlock;
  int block = 0;
  for (; (block + 1) * kBlock <= part.n; ++block, offset += W::kBytes, x += 2 * kBlock) {
    fetch_next(tile);
    direct_block<T, true>(*tile, offset, kBlock, x, block, sum);
  }
  if (block * kBlock < part.n) {
    direct_block<T, false>(*tile, offset, part.n - block * kBlock, x, block, sum);
  }
  if (part.ends) {
    add_folded<kR * kM>(&sum[0][0], part.k < kBf16Chunk, total);
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (int m = 0; m < kM; ++m) kept[r * kM + m] = sum[r][m];
  }
}

// Tiles of rows from `row` on (Tile), one behind the other; `ahead` rows further lies what to
// fetch.
template <class T, int Tiles>
static void direct_group(const LinearParams& p, std::int64_t row, std::int64_t step,
                         std::int64_t ahead) {
  using W = typename T::W;
  constexpr int kR = T::kRows, kM = T::kTokens, kNeighbours = kR / T::kStreams;
  constexpr int kPart = kDirectPart<kM>;
  T tile;
  float total[Tiles][kR * kM];
  __m512 kept[one_if(kPart == kBf16Chunk, Tiles)][kR * kM];
  const auto row_of = [&](int t, int r) {
    return row + t * kNeighbours + r % kNeighbours + r / kNeighbours * step;
  };
  tile.x_stride = packed_row_bytes(p.cols);
  for (int s = 0; s < T::kStreams; ++s) tile.next[s] = W::at(p.w, row + s * step + ahead, 0);
  for (int k = 0; k < p.cols; k += kPart) {
    const int left = p.cols - k;
    const Part part{.k = k,
                    .n = left < kPart ? left : kPart,
                    .starts = k % kBf16Chunk == 0,
                    .ends = left <= kPart || (k + kPart) % kBf16Chunk == 0};
    for (int t = 0; t < Tiles; ++t) {
      for (int r = 0; r < kR; ++r) tile.at[r] = W::at(p.w, row_of(t, r), 0);
      for (int r = 0; r < T::kScales; ++r) tile.scales[r] = scale_row(p.w, row_of(t, r));
      direct_part(p, part, &tile, kept[kPart == kBf16Chunk ? 0 : t], total[t]);
    }
  }
  for (int t = 0; t < Tiles; ++t) {
    for (int r = 0; r < kR; ++r) {
      for (int m = 0; m < kM; ++m) {
        store_value(p.out, p.type, m * p.out_stride + row_of(t, r), total[t][r * kM + m]);
      }
    }
  }
}

// How far ahead of a group that ends before row `end` to fetch: `ahead`, if its stream, which ends
// before `most`, is that long; from there on where the stream goes on in the rows that come then.
// Nothing behind those is ours.
template <int Streams>
static std::int64_t rows_ahead(const LinearParams& p, std::int64_t end, std::int64_t most,
                               std::int64_t ahead) {
  const std::int64_t left = most - end;
  if (ahead <= left) return ahead;
  if ((ahead - left) * Streams > p.then) return left;
  return ahead + (Streams - 1) * (most - p.first);
}

// A tile's rows share their scales if the type's do.
template <class W, int M, bool Halves>
static void linear_direct(const LinearParams& p) {
  constexpr int kStreams = kDirectStreams<M>, kTiles = kDirectGroup<M>,
                kNeighbours = kDirectTile<W, M> / kStreams, kGroup = kTiles * kNeighbours;
  using T = Tile<W, kDirectTile<W, M>, M, kStreams, Halves>;
  using Row = Tile<W, 1, M, 1, Halves>;
  const std::int64_t bytes = W::at(p.w, kNeighbours, 0) - W::at(p.w, 0, 0);
  // The last rows of a group begin long before the first ones end.
  const std::int64_t most_ahead =
      (kPrefetch + bytes - 1) / bytes * kNeighbours + kGroup - kNeighbours;
  const std::int64_t step = (p.last - p.first) / kStreams / kNeighbours * kNeighbours;
  std::int64_t row = p.first;
  for (std::int64_t most = row + step; row < most;) {
    const std::int64_t next = kStreams > 1 ? most : row / kBlock * kBlock + kBlock;
    const std::int64_t end = next < most ? next : most;
    for (; row + kGroup <= end; row += kGroup) {
      direct_group<T, kTiles>(p, row, step,
                              rows_ahead<kStreams>(p, row + kGroup, most, most_ahead));
    }
    for (; row + kNeighbours <= end; row += kNeighbours) direct_group<T, 1>(p, row, step, 0);
    for (; row < end; ++row) direct_group<Row, 1>(p, row, 0, 0);
  }
  for (row = p.first + kStreams * step; row < p.last; ++row) direct_group<Row, 1>(p, row, 0, 0);
}

template <class W, int M>
static void linear_groups(const LinearParams& p) {
  if constexpr (W::kRowScales) {
    if (p.w.scale_cols != kBlock) return linear_direct<W, M, true>(p);
  }
  linear_direct<W, M, false>(p);
}

// Whether p had few enough rows.
template <class W, int M = 1>
static bool linear_few(const LinearParams& p) {
  if (p.num_rows == M) {
    linear_groups<W, M>(p);
    return true;
  }
  if constexpr (M < kDirectRows) return linear_few<W, M + 1>(p);
  return false;
}
