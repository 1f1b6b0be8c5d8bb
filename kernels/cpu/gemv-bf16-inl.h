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

// Whether a tile's rows are fetched into L1, too, W::kNear bytes before they are read. With one row
// of x most types gain (Zen 4, from DRAM: 3 to 8 %): without it they lean on what the processor
// fetches of its own, whose luck changes with the order of loads.
template <class W, int M>
constexpr bool kFetchesNear = M == 1 && (W::kNear != 0);

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
  static constexpr int kRows = R, kTokens = M, kStreams = S, kNeighbours = R / S;
  static constexpr bool kHalves = Halves;
  static constexpr bool kShared = !W::kRowScales && S == 1;
  static constexpr int kScales = one_if(kShared, R);
  static constexpr int kFactors = one_if(W::kRowScales, M);  // int8 and int4 meet x without scales
  static constexpr int kGroups = kBf16Chunk / 64;

  // Where its rows and their scales lie.
  struct Rows {
    const std::byte* at[R];
    ScaleRow scales[kScales];
  };

  const Rows* rows;
  const std::byte* next[S];  // of each stream, to be fetched
  std::int64_t x_stride;     // bytes
  // What the blocks of a chunk are multiplied by. Loads of 16 may begin at any.
  alignas(64) float multipliers[W::kBlockwise ? kScales : 1][kFactors][kGroups + 16];
};

// Scales [first, first + n) of a row; zeros behind.
static inline __m512 load_scales(const ScaleRow& row, int first, int n) {
  if (n >= 16 && row.type == ScaleType::f32) return _mm512_loadu_ps(row.first + 4 * first);
  if (n >= 16 && row.type == ScaleType::f16) {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.first + 2 * first)));
  }
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
  constexpr int kCols = T::kHalves ? kBlock / 2 : kBlock;
  const int first = chunk / kCols, count = (n + kCols - 1) / kCols;
  for (int r = 0; r < T::kScales; ++r) {
    for (int j = 0; j < count; j += 16) {
      const __m512 w = load_scales(tile->rows->scales[r], first + j, count - j);
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
                               const std::byte* x, __m512 sum[T::kTokens][T::kRows]) {
  __m512i w[T::kRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < T::kRows; ++r) {
    T::W::template half<Whole, Half>(tile.rows->at[r] + offset, n, lut[T::kShared ? 0 : r], w[r]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < T::kTokens; ++m) {
    const std::byte* at = x + m * tile.x_stride + 128 * Half;
    const __m512i first = _mm512_loadu_si512(at), second = _mm512_loadu_si512(at + 64);
#pragma GCC unroll 8
    for (int r = 0; r < T::kRows; ++r) {
      sum[m][r] = dp(dp(sum[m][r], w[r][0], first), w[r][1], second);
    }
  }
}

// Block `block` of a chunk, of which n columns exist.
template <class T, bool Whole>
static inline void direct_block(const T& tile, std::int64_t offset, int n, const std::byte* x,
                                int block, __m512 sum[T::kTokens][T::kRows]) {
  using W = typename T::W;
  Lut lut[T::kScales];
#pragma GCC unroll 8
  for (int r = 0; r < T::kScales; ++r) {
    lut[r] = W::lut(tile.rows->scales[r], static_cast<int>(offset / W::kBytes));
  }
  if (!W::kBlockwise) {
    direct_half<T, Whole, 0>(tile, offset, n, lut, x, sum);
    direct_half<T, Whole, 1>(tile, offset, n, lut, x, sum);
    return;
  }
  __m512 part[T::kTokens][T::kRows];
#pragma GCC unroll 8
  for (int m = 0; m < T::kTokens; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < T::kRows; ++r) part[m][r] = _mm512_setzero_ps();
  }
  direct_half<T, Whole, 0>(tile, offset, n, lut, x, part);
  direct_half<T, Whole, 1>(tile, offset, n, lut, x, part);
#pragma GCC unroll 8
  for (int m = 0; m < T::kTokens; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < T::kRows; ++r) {
      sum[m][r] = _mm512_fmadd_ps(part[m][r], block_multiplier(tile, r, m, block), sum[m][r]);
    }
  }
}

// Adds lanes to sums, eight or four at a time, and those to total. The last one stands for those
// that are missing.
template <int Count>
static inline void add_trees(const __m512* sum, bool first, float* total) {
#pragma GCC unroll 4
  for (int i = 0; i < Count; i += 8) {
    __m512 v[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) v[j] = sum[i + j < Count ? i + j : Count - 1];
    if (Count - i > 4) {
      const __m256 part = tree8(v);
      _mm256_store_ps(total + i, first ? part : _mm256_add_ps(_mm256_load_ps(total + i), part));
    } else {
      const __m256 part = _mm256_castps128_ps256(tree4(v));
      _mm256_store_ps(total + i, first ? part : _mm256_add_ps(_mm256_load_ps(total + i), part));
    }
  }
}

// What the stream needs later, and of each row what it needs soon: W::kNear bytes behind `offset`,
// or of the row that follows in its stream. (In one function: GCC drops a call that only fetches.)
template <class T>
static inline void fetch_next(const LinearParams& p, std::int64_t offset, T* tile) {
  using W = typename T::W;
  constexpr int kBytes = T::kNeighbours * W::kBytes;
#pragma GCC unroll 4
  for (int s = 0; s < T::kStreams; ++s) {
#pragma GCC unroll 16
    for (int line = 0; line < kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(tile->next[s]) + line, _MM_HINT_T1);
    }
    tile->next[s] += kBytes;
  }
  if constexpr (!kFetchesNear<W, T::kTokens>) return;
  std::int64_t near = offset + W::kNear;
  if (near >= W::at(p.w, 0, p.cols) - p.w.data) {
    near += W::at(p.w, T::kNeighbours, 0) - W::at(p.w, 0, p.cols);
  }
#pragma GCC unroll 8
  for (int r = 0; r < T::kRows; ++r) {
#pragma GCC unroll 4
    for (int line = 0; line < W::kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(tile->rows->at[r] + near) + line, _MM_HINT_T0);
    }
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
  __m512 sum[kM][kR];
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
      sum[m][r] = part.starts ? _mm512_setzero_ps() : kept[m * kR + r];
    }
  }
  const std::byte* x = packed_x(p, 0, part.k);
  std::int64_t offset = std::int64_t{part.k} * W::kBytes / kBlock;
  int block = 0;
  for (; (block + 1) * kBlock <= part.n; ++block, offset += W::kBytes, x += 2 * kBlock) {
    fetch_next(p, offset, tile);
    direct_block<T, true>(*tile, offset, kBlock, x, block, sum);
  }
  if (block * kBlock < part.n) {
    direct_block<T, false>(*tile, offset, part.n - block * kBlock, x, block, sum);
  }
  if (part.ends) {
    add_trees<kR * kM>(&sum[0][0], part.k < kBf16Chunk, total);
    return;
  }
#pragma GCC unroll 8
  for (int m = 0; m < kM; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) kept[m * kR + r] = sum[m][r];
  }
}

// Totals of M rows of x, each R rows of weights in S streams, to the columns that begin at `row`,
// at `row` + step and so on. Loads have the size of the stores before them, or they would wait.
template <int R, int M, int S>
static inline void store_tile(const LinearParams& p, const float* total, std::int64_t row,
                              std::int64_t step) {
  constexpr int kNeighbours = R / S;
  alignas(64) std::byte rounded[4 * (R * M + 16)];
#pragma GCC unroll 2
  for (int i = 0; i < R * M; i += 16) {
    const __m256 low = _mm256_load_ps(total + i);
    const __m256 high = i + 8 < R * M ? _mm256_load_ps(total + i + 8) : low;
    const __m512 all = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
    store_lanes(rounded, p.type, i, Lanes{all}, 16);
  }
#pragma GCC unroll 8
  for (int i = 0; i < M * S; ++i) {
    const std::int64_t to = i / S * p.out_stride + row + i % S * step;
    if (p.type == ValueType::f32) {
      std::memcpy(p.out + 4 * to, rounded + 4 * i * kNeighbours, std::size_t{4} * kNeighbours);
    } else {
      std::memcpy(p.out + 2 * to, rounded + 2 * i * kNeighbours, std::size_t{2} * kNeighbours);
    }
  }
}

// Tiles of rows from `row` on (Tile), one behind the other; `ahead` rows further lies what to
// fetch.
template <class T, int Tiles>
static void direct_group(const LinearParams& p, std::int64_t row, std::int64_t step,
                         std::int64_t ahead) {
  using W = typename T::W;
  constexpr int kR = T::kRows, kM = T::kTokens, kNeighbours = T::kNeighbours;
  constexpr int kPart = kDirectPart<kM>;
  T tile;
  alignas(64) float total[Tiles][(kR * kM + 15) / 16 * 16];
  __m512 kept[one_if(kPart == kBf16Chunk, Tiles)][kR * kM];
  const auto row_of = [&](int t, int r) {
    return row + t * kNeighbours + r % kNeighbours + r / kNeighbours * step;
  };
  typename T::Rows rows[Tiles];
  for (int t = 0; t < Tiles; ++t) {
    for (int r = 0; r < kR; ++r) rows[t].at[r] = W::at(p.w, row_of(t, r), 0);
    for (int r = 0; r < T::kScales; ++r) rows[t].scales[r] = scale_row(p.w, row_of(t, r));
  }
  tile.x_stride = packed_row_bytes(p.cols);
  for (int s = 0; s < T::kStreams; ++s) tile.next[s] = W::at(p.w, row + s * step + ahead, 0);
  for (int k = 0; k < p.cols; k += kPart) {
    const int left = p.cols - k;
    const Part part{.k = k,
                    .n = left < kPart ? left : kPart,
                    .starts = k % kBf16Chunk == 0,
                    .ends = left <= kPart || (k + kPart) % kBf16Chunk == 0};
    for (int t = 0; t < Tiles; ++t) {
      tile.rows = &rows[t];
      direct_part(p, part, &tile, kept[kPart == kBf16Chunk ? 0 : t], total[t]);
    }
  }
  for (int t = 0; t < Tiles; ++t) {
    store_tile<kR, kM, T::kStreams>(p, total[t], row_of(t, 0), step);
  }
}

// A row that no tile has, for one row of x after the other.
template <class W, bool Halves>
static void direct_row(const LinearParams& p, std::int64_t row) {
  for (int m = 0; m < p.num_rows; ++m) {
    direct_group<Tile<W, 1, 1, 1, Halves>, 1>(rows_of_x(p, m, 1), row, 0, 0);
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
  const std::int64_t bytes = W::at(p.w, kNeighbours, 0) - W::at(p.w, 0, 0);
  // The last rows of a group begin long before the first ones end.
  const std::int64_t most_ahead =
      (kPrefetch + bytes - 1) / bytes * kNeighbours + kGroup - kNeighbours;
  const std::int64_t count = p.last - p.first;
  const std::int64_t step = kStreams > 1 ? count / kStreams / kNeighbours * kNeighbours : count;
  std::int64_t row = p.first;
  for (std::int64_t most = row + step; row < most;) {
    const std::int64_t next = kStreams > 1 ? most : row / kBlock * kBlock + kBlock;
    const std::int64_t end = next < most ? next : most, last_tile = end - kNeighbours;
    const bool fits = row <= last_tile;
    const auto ahead = [&](int rows) {
      return rows_ahead<kStreams>(p, row + rows, most, most_ahead);
    };
    if constexpr (kTiles > 1) {
      for (; row + kGroup <= end; row += kGroup) {
        direct_group<T, kTiles>(p, row, step, ahead(kGroup));
      }
    }
    for (; row < end; row += kNeighbours) {
      if (row > last_tile && !fits) break;
      if (row > last_tile) row = last_tile;  // some rows once more
      direct_group<T, 1>(p, row, step, ahead(kNeighbours));
    }
    for (; row < end; ++row) direct_row<W, Halves>(p, row);
  }
  for (row = p.first + kStreams * step; row < p.last; ++row) direct_row<W, Halves>(p, row);
}

template <class W, int M>
static void linear_groups(const LinearParams& p) {
  if constexpr (W::kRowScales) {
    if (p.w.scale_cols != kBlock) return linear_direct<W, M, true>(p);
  }
  linear_direct<W, M, false>(p);
}

// How M rows of x read weights of type W.
template <class W, int M>
struct Reading {
  using Type = W;
};
template <>
struct Reading<Fp8Pow2Weights, 1> {
  using Type = Fp8Pow2Once;
};

// Whether p had few enough rows.
template <class W, int M = 1>
static bool linear_few(const LinearParams& p) {
  if (p.num_rows == M) {
    linear_groups<typename Reading<W, M>::Type, M>(p);
    return true;
  }
  if constexpr (M < kDirectRows) return linear_few<W, M + 1>(p);
  return false;
}
