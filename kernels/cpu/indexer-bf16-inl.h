// Topic indexer with VDPBF16PS: queries and keys are e4m3 values, which BF16 holds exactly.
//
// Lanes = heads. A score is one chain of VDPBF16PS a head over the pairs of columns as decode_codes
// leaves them; sixteen lanes of weighted heads, in ascending blocks of 16; the tree of tree8.

constexpr int kScoreBatch = 24;  // keys decoded at once: what fits the first-level cache
constexpr int kScoreTile = 6;
constexpr int kScoreAhead = 4 * kPageSize;  // keys between asking for one and decoding it

// What lies in IndexScoresParams::scratch, in floats: queries, keys, sums, scales, and 15 at most
// before them, so that scores take the same time wherever the scratch lies.
static bool takes_bf16_index(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim;
  const int need = (round_up_16(p.num_heads) + kScoreBatch) * dim / 2 + kScoreBatch * 17 + 15;
  return p.layout.format != CacheLayout::Format::f32 && dim % 64 == 0 &&
         need <= kPageSize * (dim + 1);
}

static std::uint32_t* line_start(float* scratch) {
  const std::uintptr_t skip = -reinterpret_cast<std::uintptr_t>(scratch) % 64;
  return reinterpret_cast<std::uint32_t*>(scratch + skip / 4);
}

static void pack_index_query(const IndexScoresParams& p, std::uint32_t* out) {
  const int dim = p.layout.index_dim;
  HeadPacking{p.num_heads, dim / 2, out}.columns(dim, [&](int h, int c, __m512i* a, __m512i* b) {
    const float* from = p.q + std::int64_t{h} * dim + c;
    const auto half = [&](int i) {
      return reinterpret_cast<__m512i>(
          _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i)));
    };
    *a = half(0);
    *b = half(32);
  });
}

// Adds the weighted heads of 16 W lanes to sums[R][16], which start from zero if `first`.
template <int R, int W>
static void index_tile(const std::uint32_t* keys, const std::uint32_t* queries, int pairs,
                       const __m512* weights, bool first, float* sums) {
  __m512 sum[R][W];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) sum[r][w] = _mm512_setzero_ps();
  }
  for (int i = 0; i < pairs; ++i) {
    __m512i q[W];
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) q[w] = _mm512_loadu_si512(queries + (i * W + w) * 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i key = _mm512_set1_epi32(static_cast<int>(keys[r * pairs + i]));
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w) sum[r][w] = dp(sum[r][w], q[w], key);
    }
  }
  const __m512 zero = _mm512_setzero_ps();
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    __m512 all = first ? zero : _mm512_loadu_ps(sums + r * 16);
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {  // a NaN passes through MAXPS as the second operand
      all = _mm512_fmadd_ps(weights[w], _mm512_max_ps(zero, sum[r][w]), all);
    }
    _mm512_storeu_ps(sums + r * 16, all);
  }
}

template <int W>
static void index_block(const std::uint32_t* keys, int n, const std::uint32_t* queries, int pairs,
                        const __m512* weights, bool first, float* sums) {
  for (int i = 0; i < n; i += kScoreTile) {  // rows behind the last are computed and dropped
    index_tile<kScoreTile, W>(keys + i * pairs, queries, pairs, weights, first, sums + i * 16);
  }
}

static void index_batch(const IndexScoresParams& p, const std::uint32_t* all,
                        const std::uint32_t* keys, int n, float* sums) {
  const int padded = round_up_16(p.num_heads), pairs = p.layout.index_dim / 2;
  for (int h = 0; h < padded; h += kHeadBlock) {
    __m512 weights[4];
    for (int i = 0; i < 4; ++i) {
      const int left = p.num_heads - h - 16 * i;
      const __mmask16 mask = static_cast<__mmask16>(first_bytes(left < 16 ? left : 16));
      weights[i] = _mm512_maskz_loadu_ps(mask, p.weights + h + 16 * i);
    }
    const std::uint32_t* queries = all + h * pairs;
    switch (padded - h) {
      case 16:
        index_block<1>(keys, n, queries, pairs, weights, h == 0, sums);
        break;
      case 32:
        index_block<2>(keys, n, queries, pairs, weights, h == 0, sums);
        break;
      case 48:
        index_block<3>(keys, n, queries, pairs, weights, h == 0, sums);
        break;
      default:
        index_block<4>(keys, n, queries, pairs, weights, h == 0, sums);
    }
  }
}

// Keys [s, s + n) as rows of pairs, and their scales. Within a page the codes of keys follow each
// other, so a batch is one or two streams without a boundary that the loop has to know.
static void decode_keys(const IndexScoresParams& p, int s, int n, std::uint32_t* keys,
                        float* scale) {
  const Lut unit = load_lut(code_table(1.0f));
  const int dim = p.layout.index_dim;
  const auto page = [&](int at) {
    return p.pages + std::int64_t{p.page_table[at / kPageSize]} * p.layout.index_page();
  };
  for (const int end = s + n; s < end;) {
    const int place = s % kPageSize, left = kPageSize - place,
              run = end - s < left ? end - s : left;
    const std::byte* codes = page(s) + place * dim;
    const std::byte* scales = page(s) + std::int64_t{kPageSize} * dim + place * 4;
    const std::int64_t ahead =
        page(s + kScoreAhead < p.last ? s + kScoreAhead : s) + place * dim - codes;
    for (int i = 0; i < run * dim; i += 64, keys += 32) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + ahead + i), _MM_HINT_T1);
      __m512i first, second;
      decode_codes(_mm512_loadu_si512(codes + i), unit, &first, &second);
      _mm512_storeu_si512(keys, first);
      _mm512_storeu_si512(keys + 16, second);
    }
    for (int i = 0; i < run; i += 16) {  // 16 a line of memory
      _mm_prefetch(reinterpret_cast<const char*>(scales + ahead + 4 * i), _MM_HINT_T1);
      const __mmask16 mask = static_cast<__mmask16>(first_bytes(run - i < 16 ? run - i : 16));
      _mm512_mask_storeu_ps(scale + i, mask, _mm512_maskz_loadu_ps(mask, scales + 4 * i));
    }
    s += run;
    scale += run;
  }
}

static void index_scores_bf16(const IndexScoresParams& p) {
  if (!takes_bf16_index(p)) {
    index_scores(p);
    return;
  }
  const int pairs = p.layout.index_dim / 2;
  std::uint32_t* queries = line_start(p.scratch);
  std::uint32_t* keys = queries + round_up_16(p.num_heads) * pairs;
  float* sums = reinterpret_cast<float*>(keys + kScoreBatch * pairs);
  float* scale = sums + kScoreBatch * 16;
  pack_index_query(p, queries);
  for (int s = p.first; s < p.last; s += kScoreBatch) {
    const int n = p.last - s < kScoreBatch ? p.last - s : kScoreBatch;
    decode_keys(p, s, n, keys, scale);
    index_batch(p, queries, keys, n, sums);
    for (int i = 0; i < n; i += 8) {
      __m512 lanes[8];
      for (int j = 0; j < 8; ++j) lanes[j] = _mm512_loadu_ps(sums + (i + j) * 16);
      const __m256 score = _mm256_mul_ps(tree8(lanes), _mm256_loadu_ps(scale + i));
      const __mmask8 mask = static_cast<__mmask8>(first_bytes(n - i < 8 ? n - i : 8));
      _mm256_mask_storeu_ps(p.scores + s + i, mask, score);
    }
  }
}
