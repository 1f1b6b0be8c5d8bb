// More than kDirectRows rows of x share a panel of weights decoded into scratch. The order of sums
// is that of pack-bf16-inl.h.

constexpr int kPanelRows = 8;  // rows of weights of a panel
// Columns of a panel: 16 KB, which stays in L1 together with the rows of x that pass. Longer panels
// are read from L2 for each tile, which Zen 4's 32 bytes a cycle do not feed.
constexpr int kPanelCols = 1024;
constexpr int kPanelBlocks = kPanelCols / kBlock;
// Rows of x at a time: a chunk of them fits half of L2. It is copied there in the order in which
// tiles read it: rows that lie kilobytes apart meet in few sets of L2 and each needs a page of its
// own, which costs up to 8 points of peak on Zen 4, by the luck of physical addresses.
constexpr int kPanelTokens = 132;
constexpr int kPanelWeights = 2048;          // rows of weights that share such a copy
constexpr int kDecodeRows = 2 * kPanelRows;  // rows of x beside which the next panel is decoded

// How columns of kPanelRows rows of weights become a panel: [n / 32][kPanelRows][32]. The next
// panel's rows are decoded one by one beside the tiles of this one, whose VDPBF16PS leave the
// shuffle and store ports idle.
struct PanelDecode {
  const std::byte* at[kPanelRows];
  std::byte* panel;
  std::int64_t ahead;  // bytes to the panel after it
  ScaleRow scales;
  int block, n;  // first block of columns; columns
};

template <class W>
static PanelDecode panel_decode(const LinearParams& p, std::int64_t row, int k, int n,
                                std::byte* panel) {
  PanelDecode d;
  for (int r = 0; r < kPanelRows; ++r) {  // rows behind the last repeat it; nobody reads their sums
    d.at[r] = W::at(p.w, row + r < p.last ? row + r : p.last - 1, k);
  }
  d.panel = panel;
  d.ahead = W::at(p.w, kPanelRows, 0) - W::at(p.w, 0, 0);
  d.scales = scale_row(p.w, row);
  d.block = k / kBlock;
  d.n = n;
  return d;
}

// A block of one row: n columns of it exist.
template <class W, bool Whole>
static inline void decode_block(const std::byte* from, std::int64_t ahead, const Lut& lut, int n,
                                std::byte* to) {
#pragma GCC unroll 4
  for (int line = 0; line < W::kBytes; line += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from) + ahead + line, _MM_HINT_T1);
  }
  __m512i w[4];
  W::template decode<Whole>(from, n, lut, w);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) _mm512_store_si512(to + 64 * kPanelRows * i, w[i]);
}

// What of a panel is not yet there: all of rows from `row` on, of others the blocks from `done` on.
template <class W>
static void decode_rest(const PanelDecode& d, int row, int done) {
  for (int b = row < kPanelRows ? 0 : done; b * kBlock < d.n; ++b) {
    const Lut lut = W::lut(d.scales, d.block + b);
    for (int r = b < done ? row : 0; r < kPanelRows; ++r) {
      const std::byte* from = d.at[r] + std::int64_t{b} * W::kBytes;
      std::byte* to = d.panel + 64 * (4 * kPanelRows * b + r);
      if ((b + 1) * kBlock <= d.n) {
        decode_block<W, true>(from, d.ahead, lut, kBlock, to);
      } else {
        decode_block<W, false>(from, d.ahead, lut, d.n - b * kBlock, to);
      }
    }
  }
}

// A panel against some rows of x.
struct PanelTile {
  const std::byte *panel, *x;  // x as copy_chunk lays it
  int n;                       // columns, whole blocks
  float* kept;     // [rows of x][kPanelRows] sums in lanes, from one panel of a chunk to the next
  float* totals;   // [rows of x][kPanelRows] of the chunks before
  bool resume;     // kept sums go on
  bool ends;       // the chunk's last panel
  bool has_total;  // not the first chunk
  // Blockwise: what a block's sums are multiplied by.
  const float* x_scale;    // [rows of x][kPanelBlocks]
  const float* row_scale;  // [kPanelBlocks][kPanelRows][16], if rows of weights differ
  const PanelDecode* next;
  int decode_row, decode_blocks;  // of next
};

// sum[m][r] += of 32 columns.
template <int M>
static inline void columns_sums(const std::byte* panel, const std::byte* x,
                                __m512 (*sum)[kPanelRows]) {
  __m512i v[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) v[m] = _mm512_load_si512(x + 64 * m);
#pragma GCC unroll 8
  for (int r = 0; r < kPanelRows; ++r) {
    const __m512i w = _mm512_load_si512(panel + 64 * r);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sum[m][r] = dp(sum[m][r], w, v[m]);
  }
}

// sum[m][r] += of block b.
template <int M>
static inline void panel_sums(const PanelTile& t, int b, __m512 (*sum)[kPanelRows]) {
  const std::byte* panel = t.panel + 64 * 4 * kPanelRows * b;
  const std::byte* x = t.x + 64 * 4 * M * b;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) columns_sums<M>(panel + 64 * kPanelRows * i, x + 64 * M * i, sum);
}

// All blocks, 64 columns a round.
template <int M>
static inline void panel_sums_all(const PanelTile& t, __m512 (*sum)[kPanelRows]) {
  const std::byte *panel = t.panel, *x = t.x;
  for (int k = 0; k < t.n; k += 64, panel += 2 * 64 * kPanelRows, x += 2 * 64 * M) {
    columns_sums<M>(panel, x, sum);
    columns_sums<M>(panel + 64 * kPanelRows, x + 64 * M, sum);
  }
}

// Blockwise: half of the rows at a time, so that fresh chains fit beside the sums in registers.
template <class W, int M>
static inline void panel_sums_blockwise(const PanelTile& t, int b, __m512 (*sum)[kPanelRows]) {
  constexpr int kHalf = kPanelRows / 2;
#pragma GCC unroll 2
  for (int half = 0; half < kPanelRows; half += kHalf) {
    const std::byte* panel = t.panel + 64 * (4 * kPanelRows * b + half);
    const std::byte* x = t.x + 64 * 4 * M * b;
    __m512 part[M][kHalf];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512i v[M];
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) v[m] = _mm512_load_si512(x + 64 * (M * i + m));
#pragma GCC unroll 4
      for (int r = 0; r < kHalf; ++r) {
        const __m512i w = _mm512_load_si512(panel + 64 * (kPanelRows * i + r));
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) part[m][r] = dp(i ? part[m][r] : _mm512_setzero_ps(), w, v[m]);
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const __m512 x_scale = _mm512_set1_ps(t.x_scale[m * kPanelBlocks + b]);
#pragma GCC unroll 4
      for (int r = 0; r < kHalf; ++r) {
        const float* row_scale = t.row_scale + 16 * (kPanelRows * b + half + r);
        const __m512 scale =
            W::kRowScales ? _mm512_mul_ps(_mm512_load_ps(row_scale), x_scale) : x_scale;
        sum[m][half + r] = _mm512_fmadd_ps(part[m][r], scale, sum[m][half + r]);
      }
    }
  }
}

// M rows of x; if Decodes, row t.decode_row of the next panel beside them. Inline: as a function of
// its own it was measured a point of peak slower.
template <class W, int M, bool Decodes>
[[gnu::always_inline]] static inline void panel_tile(const PanelTile& t) {
  __m512 sum[M][kPanelRows];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < kPanelRows; ++r) sum[m][r] = _mm512_setzero_ps();
  }
  if (t.resume) {
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
        sum[m][r] = _mm512_load_ps(t.kept + 16 * (kPanelRows * m + r));
      }
    }
  }
  if constexpr (!W::kBlockwise && !Decodes) {
    panel_sums_all<M>(t, sum);
  } else {
    // Without Decodes they lead anywhere.
    const std::byte* from = Decodes ? t.next->at[t.decode_row] : t.panel;
    std::byte* to =
        Decodes ? t.next->panel + 64 * t.decode_row : reinterpret_cast<std::byte*>(t.kept);
    for (int b = 0; b < t.n / kBlock; ++b, from += W::kBytes, to += 64 * 4 * kPanelRows) {
      if (Decodes && b < t.decode_blocks) {
        const Lut lut = W::lut(t.next->scales, t.next->block + b);
        decode_block<W, true>(from, t.next->ahead, lut, kBlock, to);
      }
      if constexpr (W::kBlockwise) {
        panel_sums_blockwise<W, M>(t, b, sum);
      } else {
        panel_sums<M>(t, b, sum);
      }
    }
  }
  if (!t.ends) {
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int r = 0; r < kPanelRows; ++r) {
        _mm512_store_ps(t.kept + 16 * (kPanelRows * m + r), sum[m][r]);
      }
    }
    return;
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    const __m256 part = tree8(sum[m]);
    float* to = t.totals + m * kPanelRows;
    _mm256_store_ps(to, t.has_total ? _mm256_add_ps(_mm256_load_ps(to), part) : part);
  }
}

template <class W, int M, bool Decodes>
static inline void panel_step(PanelTile* t) {
  panel_tile<W, M, Decodes>(*t);
  t->x += std::int64_t{2} * M * t->n;
  t->kept += M * kPanelRows * 16;
  t->totals += M * kPanelRows;
  t->x_scale += M * kPanelBlocks;
}

// Rows of the next tile. One alone would keep too few chains going: 4 are 2 and 2.
template <class W>
static inline int tile_size(int done, int left) {
  const bool three = !W::kBlockwise && done >= kDecodeRows && left >= 3 && left != 4;
  return three ? 3 : left >= 2 ? 2 : left;
}

// All rows of x, and the next panel if there is one.
template <class W>
static void panel_rows(PanelTile t, int rows) {
  int done = 0;
  if (t.next) {
    const int whole = t.next->n / kBlock, blocks = t.n / kBlock;
    t.decode_blocks = whole < blocks ? whole : blocks;
    for (; done < kDecodeRows && done + 2 <= rows; done += 2, ++t.decode_row) {
      panel_step<W, 2, true>(&t);
    }
    decode_rest<W>(*t.next, t.decode_row, t.decode_blocks);
  }
  while (done < rows) {
    const int size = tile_size<W>(done, rows - done);
    done += size;
    if (size == 2) {
      panel_step<W, 2, false>(&t);
    } else if (size == 1) {
      panel_step<W, 1, false>(&t);
    } else if constexpr (!W::kBlockwise) {
      panel_step<W, 3, false>(&t);
    }
  }
}

// A chunk of x, whole blocks of columns: of each panel's columns tile by tile, 32 columns of its
// rows, then the next 32.
template <class W>
static void copy_chunk(const std::byte* x, std::int64_t stride, int rows, int cols, std::byte* to) {
  for (int k = 0; k < cols; k += kPanelCols) {
    const int n = cols - k < kPanelCols ? cols - k : kPanelCols;
    for (int done = 0, size = 0; done < rows; done += size, to += std::int64_t{2} * n * size) {
      size = tile_size<W>(done, rows - done);
      for (int m = 0; m < size; ++m) {
        const std::byte* from = x + (done + m) * stride + 2 * std::int64_t{k};
        for (int i = 0; i < n / 32; ++i) {
          _mm512_store_si512(to + 64 * (size * i + m), _mm512_loadu_si512(from + 64 * i));
        }
      }
    }
  }
}

// A call's scratch.
struct alignas(64) PanelScratch {
  std::byte panel[2][2 * kPanelCols * kPanelRows];
  float kept[kPanelTokens * kPanelRows * 16];
  float totals[kPanelWeights / kPanelRows][kPanelTokens * kPanelRows];
  std::byte x[2 * kBf16Chunk * kPanelTokens];
  float x_scale[kBf16Chunk / kPanelCols][kPanelTokens * kPanelBlocks];
  float row_scale[kPanelBlocks * kPanelRows * 16];
};
static_assert(sizeof(PanelScratch) <= 4 * kLinearScratch);

// Multipliers of columns [k, k + n) for all rows of x. Rows of weights share a scale, or leave it
// to fill_row_scale.
template <class W>
static void fill_x_scale(const LinearParams& p, int row, int k, int n, float* to) {
  const ScaleRow scales = scale_row(p.w, row);
  const int blocks = (p.cols + kBlock - 1) / kBlock, first = k / kBlock;
  for (int b = 0; b < n / kBlock; ++b) {
    const float w_scale = W::kRowScales ? 1.0f : scales.at(first + b);
    for (int m = 0; m < p.num_rows; ++m) {
      const float x_scale = p.x_scale ? p.x_scale[std::int64_t{m} * blocks + first + b] : 1.0f;
      to[m * kPanelBlocks + b] = w_scale * x_scale;
    }
  }
}

static void fill_row_scale(LinearParams p, int row, int k, int n, float* to) {
  p.x_scale = nullptr;
  for (int b = 0; b < n / kBlock; ++b) {
    for (int r = 0; r < kPanelRows; ++r) {
      const ScaleRow scales = scale_row(p.w, row + r < p.last ? row + r : row);
      _mm512_store_ps(to + 16 * (kPanelRows * b + r), multiplier(p, scales, 0, k + b * kBlock));
    }
  }
}

// A line of the result at a time, of one row of x after the other: totals are read as they lie.
static void store_totals(const LinearParams& p, int first, int last, const PanelScratch& s) {
  constexpr int kLine = 32;
  for (int line = first; line < last; line += kLine) {
    for (int m = 0; m < p.num_rows; ++m) {
      for (int row = line; row < line + kLine && row < last; row += 2 * kPanelRows) {
        const int panel = (row - first) / kPanelRows;
        const __m256 low = _mm256_load_ps(s.totals[panel] + m * kPanelRows);
        const __m256 high = _mm256_load_ps(s.totals[panel + 1] + m * kPanelRows);
        const __m512 all = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
        store_lanes(p.out, p.type, m * p.out_stride + row, Lanes{all}, last - row);
      }
    }
  }
}

// Panels in the order in which they pass: of each chunk, all columns of 8 rows, then the next 8.
struct PanelPlace {
  int chunk, row, k;

  int chunk_end(const LinearParams& p) const {
    return p.cols - chunk < kBf16Chunk ? p.cols : chunk + kBf16Chunk;
  }
  int cols(const LinearParams& p) const {
    const int end = chunk_end(p);
    return end - k < kPanelCols ? end - k : kPanelCols;
  }
  PanelPlace next(const LinearParams& p, int first, int last) const {
    if (k + kPanelCols < chunk_end(p)) return {chunk, row, k + kPanelCols};
    if (row + kPanelRows < last) return {chunk, row + kPanelRows, chunk};
    return {chunk + kBf16Chunk, first, chunk + kBf16Chunk};
  }
};

// Rows [first, last) of weights, at most kPanelWeights; at most kPanelTokens rows of x, of which a
// chunk stays in the cache for all of them. A panel's rows share scales.
template <class W>
static void linear_panels(const LinearParams& p, int first, int last) {
  auto& s = *reinterpret_cast<PanelScratch*>(p.scratch);
  PanelPlace at{0, first, 0};
  PanelDecode decode = panel_decode<W>(p, first, 0, at.cols(p), s.panel[0]);
  decode_rest<W>(decode, 0, 0);
  for (int side = 0; at.chunk < p.cols; side ^= 1) {
    const int n = at.cols(p), padded = (n + kBlock - 1) / kBlock * kBlock;
    if (at.row == first && at.k == at.chunk) {
      const int cols = (at.chunk_end(p) - at.chunk + kBlock - 1) / kBlock * kBlock;
      copy_chunk<W>(packed_x(p, 0, at.k), packed_row_bytes(p.cols), p.num_rows, cols, s.x);
    }
    float* x_scale = s.x_scale[(at.k - at.chunk) / kPanelCols];
    if (W::kBlockwise && (at.row == first || at.row % kBlock == 0))
      fill_x_scale<W>(p, at.row, at.k, padded, x_scale);
    if (W::kRowScales) fill_row_scale(p, at.row, at.k, padded, s.row_scale);
    const PanelPlace next = at.next(p, first, last);
    const bool more = next.chunk < p.cols;
    if (more) decode = panel_decode<W>(p, next.row, next.k, next.cols(p), s.panel[side ^ 1]);
    panel_rows<W>({.panel = s.panel[side],
                   .x = s.x + std::int64_t{2} * p.num_rows * (at.k - at.chunk),
                   .n = padded,
                   .kept = s.kept,
                   .totals = s.totals[(at.row - first) / kPanelRows],
                   .resume = at.k > at.chunk,
                   .ends = at.k + n == at.chunk_end(p),
                   .has_total = at.chunk > 0,
                   .x_scale = x_scale,
                   .row_scale = s.row_scale,
                   .next = more ? &decode : nullptr,
                   .decode_row = 0,
                   .decode_blocks = 0},
                  p.num_rows);
    at = next;
  }
  store_totals(p, first, last, s);
}

// Blocks of rows of x of one size, each with all rows of weights.
template <class W>
static void linear_blocks(const LinearParams& p) {
  const int parts = (p.num_rows + kPanelTokens - 1) / kPanelTokens;
  const int tokens = (p.num_rows + parts - 1) / parts;
  for (int row = p.first; row < p.last;) {
    const int size = row % kPanelRows == 0 ? kPanelWeights : kBlock;  // no panel across blocks
    const int next = row / size * size + size, end = next < p.last ? next : p.last;
    for (int m = 0; m < p.num_rows; m += tokens) {
      const int n = p.num_rows - m < tokens ? p.num_rows - m : tokens;
      linear_panels<W>(rows_of_x(p, m, n), row, end);
    }
    row = end;
  }
}

template <class W>
static void linear_weights(const LinearParams& p) {
  if (linear_few<W>(p)) return;
  linear_blocks<W>(p);
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
