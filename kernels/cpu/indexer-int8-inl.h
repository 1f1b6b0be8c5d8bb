// Topic indexer, INT8 keys, with VPDPBUSD: it multiplies unsigned by signed bytes, so a key's codes
// get 128 added on their way, and a head begins at -128 times the sum of its query's codes.
//
// Lanes = heads, as in indexer-bf16-inl.h. Keys are read where they lie.

constexpr int kInt8Batch = 24;  // keys whose lanes are folded together
constexpr int kInt8Tile = 6;

// GCC 12 keeps an array of __m512i, whose lanes are of 64 bits, in memory under these instructions.
using IntLanes = std::int32_t __attribute__((vector_size(64)));

namespace {  // members of a class are weak symbols elsewhere

// What lies in IndexScoresParams::scratch.
struct Int8Scratch {
  float* sums;             // [kInt8Batch][16] lanes of weighted heads
  std::int32_t* start;     // [heads], padded to whole registers
  std::uint32_t* queries;  // [head block][dim / 4][head]: four codes of one head
};

}  // namespace

static bool takes_vnni(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim, heads = round_up_16(p.num_heads);
  return dim % 16 == 0 && kInt8Batch * 16 + heads * (1 + dim / 4) <= kPageSize * (dim + 1);
}

static Int8Scratch pack_int8_query(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim, heads = round_up_16(p.num_heads);
  auto* start = reinterpret_cast<std::int32_t*>(p.scratch + kInt8Batch * 16);
  const Int8Scratch s{p.scratch, start, reinterpret_cast<std::uint32_t*>(start + heads)};
  const HeadPacking packing{p.num_heads, dim / 4, s.queries};
  for (int h = 0; h < heads; h += 16) {
    __m512i sum[16] = {};
    for (int c = 0; c < dim; c += 16) {
      __m512i v[16] = {};  // of heads that are none, too
      for (int i = 0; i < 16 && h + i < p.num_heads; ++i) {
        const float* from = p.q + std::int64_t{h + i} * dim + c;
        const __m512i codes = _mm512_cvtps_epi32(_mm512_loadu_ps(from));
        sum[i] = _mm512_add_epi32(sum[i], codes);
        v[i] = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(codes));
      }
      packing.lines(h, c / 4, 4, v);
    }
    for (int i = 0; i < 16; ++i) s.start[h + i] = -128 * _mm512_reduce_add_epi32(sum[i]);
  }
  return s;
}

static inline IntLanes dp(IntLanes sum, __m512i a, __m512i b) {
  return reinterpret_cast<IntLanes>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), a, b));
}

// Adds the weighted heads of 16 W lanes to sums[kR][16], which start from zero if `first`. `keys`
// are kInt8Tile keys' codes.
template <int W>
static void int8_tile(const std::byte* const* keys, int quads, const std::uint32_t* queries,
                      const std::int32_t* start, const __m512* weights, bool first, float* sums) {
  constexpr int kR = kInt8Tile;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(-128));
  IntLanes sum[kR][W];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {
      sum[r][w] = reinterpret_cast<IntLanes>(_mm512_loadu_si512(start + 16 * w));
    }
  }
  for (int i = 0; i < quads; ++i) {
    __m512i q[W];
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) q[w] = _mm512_loadu_si512(queries + (i * W + w) * 16);
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
      int four;
      std::memcpy(&four, keys[r] + 4 * i, 4);
      const __m512i key = _mm512_xor_si512(_mm512_set1_epi32(four), flip);
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w) sum[r][w] = dp(sum[r][w], key, q[w]);
    }
  }
  const __m512i zero = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
    __m512 all = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * 16);
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {  // two roundings, as in sets without fused sums
      const __m512 x =
          _mm512_cvtepi32_ps(_mm512_max_epi32(zero, reinterpret_cast<__m512i>(sum[r][w])));
      all = _mm512_add_ps(all, _mm512_mul_ps(weights[w], x));
    }
    _mm512_storeu_ps(sums + r * 16, all);
  }
}

// The lanes of n keys.
static void int8_batch(const IndexScoresParams& p, const Int8Scratch& s,
                       const std::byte* const* keys, int n) {
  const int padded = round_up_16(p.num_heads), quads = p.layout.index_dim / 4;
  for (int h = 0; h < padded; h += kHeadBlock) {
    __m512 weights[4];
    for (int i = 0; i < 4; ++i) {
      const int left = p.num_heads - h - 16 * i;
      const __mmask16 mask = static_cast<__mmask16>(first_bytes(left < 16 ? left : 16));
      weights[i] = _mm512_maskz_loadu_ps(mask, p.weights + h + 16 * i);
    }
    const std::uint32_t* queries = s.queries + h * quads;
    for (int i = 0; i < n; i += kInt8Tile) {
      float* sums = s.sums + i * 16;
      switch (padded - h) {
        case 16:
          int8_tile<1>(keys + i, quads, queries, s.start + h, weights, h == 0, sums);
          break;
        case 32:
          int8_tile<2>(keys + i, quads, queries, s.start + h, weights, h == 0, sums);
          break;
        case 48:
          int8_tile<3>(keys + i, quads, queries, s.start + h, weights, h == 0, sums);
          break;
        default:
          int8_tile<4>(keys + i, quads, queries, s.start + h, weights, h == 0, sums);
      }
    }
  }
}

// Tree of `fold` over eight registers at once. Inline, or they would pass through memory.
[[gnu::always_inline]] static inline __m256 fold8(const __m512* v) {
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

static void int8_scores(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim;
  const Int8Scratch scratch = pack_int8_query(p);
  const auto page = [&](int s) {
    return p.pages + std::int64_t{p.page_table[s / kPageSize]} * p.layout.index_page();
  };
  for (int s = p.first; s < p.last; s += kInt8Batch) {
    const int n = p.last - s < kInt8Batch ? p.last - s : kInt8Batch;
    const std::byte* keys[kInt8Batch];
    float scale[kInt8Batch];
    for (int i = 0; i < kInt8Batch; ++i) {  // behind the last: the last again, dropped below
      const int at = s + (i < n ? i : n - 1), place = at % kPageSize, ahead = at + kScoreAhead;
      const std::byte* from = page(at);
      keys[i] = from + place * dim;
      scale[i] = load_f32(from + std::int64_t{kPageSize} * dim + place * 4);
      if (ahead >= p.last) continue;
      const auto* next = reinterpret_cast<const char*>(page(ahead));
      for (int c = 0; c < dim; c += 64) _mm_prefetch(next + place * dim + c, _MM_HINT_T1);
      if (place % 16 == 0) _mm_prefetch(next + kPageSize * dim + 4 * place, _MM_HINT_T1);
    }
    int8_batch(p, scratch, keys, n);
    for (int i = 0; i < n; i += 8) {
      __m512 lanes[8];
      for (int j = 0; j < 8; ++j) lanes[j] = _mm512_loadu_ps(scratch.sums + (i + j) * 16);
      const __m256 score = _mm256_mul_ps(fold8(lanes), _mm256_loadu_ps(scale + i));
      const __mmask8 mask = static_cast<__mmask8>(first_bytes(n - i < 8 ? n - i : 8));
      _mm256_mask_storeu_ps(p.scores + s + i, mask, score);
    }
  }
}

static void index_scores_vnni(const IndexScoresParams& p) {
  if (!p.layout.int8_index) {
    index_scores_bf16(p);
  } else if (takes_vnni(p)) {
    int8_scores(p);
  } else {
    index_scores(p);
  }
}
