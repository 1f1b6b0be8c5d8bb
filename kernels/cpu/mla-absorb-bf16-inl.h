// Topic mla with VDPBF16PS: mla_absorb.
//
// Order of sums, the same for any number of tokens: lanes = columns, each one chain of VDPBF16PS
// over ascending pairs of rows.

constexpr int kAbsorbTile = 6;  // tokens
constexpr int kAbsorbFew = 4;   // tokens whose sums fit beside the decoding

// Pairs (row, row + 1) of 64 columns: lane 4 l + i of register j is column 16 l + 4 j + i.
static inline void interleave_codes(const std::byte* a, const std::byte* b, const Lut& lut,
                                    __m512i* out) {
  const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  decode_codes(_mm512_unpacklo_epi8(x, y), lut, out, out + 1);
  decode_codes(_mm512_unpackhi_epi8(x, y), lut, out + 2, out + 3);
}
static inline void interleave_bf16(const std::byte* a, const std::byte* b, __m512i* out) {
  const __m512i a0 = _mm512_loadu_si512(a), a1 = _mm512_loadu_si512(a + 64);
  const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
  const __m512i low0 = _mm512_unpacklo_epi16(a0, b0), high0 = _mm512_unpackhi_epi16(a0, b0);
  const __m512i low1 = _mm512_unpacklo_epi16(a1, b1), high1 = _mm512_unpackhi_epi16(a1, b1);
  out[0] = _mm512_shuffle_i64x2(low0, low1, 0x88);
  out[1] = _mm512_shuffle_i64x2(high0, high1, 0x88);
  out[2] = _mm512_shuffle_i64x2(low0, low1, 0xDD);
  out[3] = _mm512_shuffle_i64x2(high0, high1, 0xDD);
}

// The rows of one head that absorb reads, and the tables of their scales: `blocks` a row of blocks.
struct AbsorbedRows {
  std::int64_t first;
  int count, blocks;
  const CodeTable* tables;
};

// Pairs of rows of a head, 64 columns from `c` on: visit(row, v) gets each as four registers.
// Fetches as many lines of the next head, in their order in memory: those that begin at `next`, or
// none.
template <class Visit>
[[gnu::always_inline]] static inline void visit_row_pairs(const Matrix& w, const AbsorbedRows& rows,
                                                          int c, const std::byte* next,
                                                          Visit&& visit) {
  const int size = w.type == ValueType::e4m3 ? 1 : 2;
  const std::int64_t stride = w.stride * size;
  const std::byte* row = w.data + rows.first * stride + c * size;
  std::int64_t block = -1;
  Lut lut{};
  for (int d = 0; d < rows.count; d += 2, row += 2 * stride) {
    if (next != nullptr) {
      for (int i = 0; i < 2 * size; ++i, next += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      }
    }
    __m512i v[4];
    if (size == 1) {
      const std::int64_t now = (rows.first + d) / kBlock - rows.first / kBlock;
      if (now != block) lut = load_lut(rows.tables + now * rows.blocks + c / kBlock);
      block = now;
      interleave_codes(row, row + stride, lut, v);
    } else {
      interleave_bf16(row, row + stride, v);
    }
    visit(d, v);
  }
}

// Pairs as absorb_tile reads them: [row pair][64 pairs].
static void interleave_rows(const Matrix& w, const AbsorbedRows& rows, int c, const std::byte* next,
                            std::byte* out) {
  visit_row_pairs(w, rows, c, next, [&](int, const __m512i* v) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_store_si512(out + 64 * i, v[i]);
    out += 4 * 64;
  });
}

// sum[m] += of a pair of rows, for M tokens.
template <int M>
static inline void absorb_pair(const __m512i* w, const std::byte* q, int nope, __m512 (*sum)[4]) {
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    std::int32_t pair;
    std::memcpy(&pair, q + std::int64_t{2} * m * nope, 4);
    const __m512i x = _mm512_set1_epi32(pair);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[m][i] = dp(sum[m][i], w[i], x);
  }
}

// 64 columns, rounded: 4 x 4 parts of 128 bits change places.
static inline void store_absorbed(const __m512* sum, std::byte* to) {
  const __m512 a = _mm512_shuffle_f32x4(sum[0], sum[1], 0x44);
  const __m512 b = _mm512_shuffle_f32x4(sum[2], sum[3], 0x44);
  const __m512 c = _mm512_shuffle_f32x4(sum[0], sum[1], 0xEE);
  const __m512 d = _mm512_shuffle_f32x4(sum[2], sum[3], 0xEE);
  const auto join = [](__m512 x, __m512 y) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x));
  };
  _mm512_storeu_si512(to, join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)));
  _mm512_storeu_si512(to + 64,
                      join(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xDD)));
}

// The same 64 columns of M tokens, at most kAbsorbFew, without scratch.
template <int M>
static void absorb_few(const Matrix& w, const AbsorbedRows& rows, int c, const std::byte* next,
                       const std::byte* q, std::byte* out, std::int64_t out_stride) {
  __m512 sum[M][4];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[m][i] = _mm512_setzero_ps();
  }
  visit_row_pairs(w, rows, c, next,
                  [&](int d, const __m512i* v) { absorb_pair<M>(v, q + 2 * d, rows.count, sum); });
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) store_absorbed(sum[m], out + m * out_stride);
}

// 64 columns of M tokens of one head.
template <int M>
static void absorb_tile(const std::byte* weights, const std::byte* q, int nope, std::byte* out,
                        std::int64_t out_stride) {
  __m512 sum[M][4];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[m][i] = _mm512_setzero_ps();
  }
  for (int d = 0; d < nope; d += 2, weights += 4 * 64, q += 4) {
    __m512i w[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) w[i] = _mm512_load_si512(weights + 64 * i);
    absorb_pair<M>(w, q, nope, sum);
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) store_absorbed(sum[m], out + m * out_stride);
}

static void absorb_tokens(const std::byte* weights, const std::byte* q, int tokens, int nope,
                          std::byte* out, std::int64_t out_stride) {
  for (; tokens >= kAbsorbTile; tokens -= kAbsorbTile) {
    absorb_tile<kAbsorbTile>(weights, q, nope, out, out_stride);
    q += std::int64_t{2} * kAbsorbTile * nope;
    out += kAbsorbTile * out_stride;
  }
  switch (tokens) {
    case 1:
      return absorb_tile<1>(weights, q, nope, out, out_stride);
    case 2:
      return absorb_tile<2>(weights, q, nope, out, out_stride);
    case 3:
      return absorb_tile<3>(weights, q, nope, out, out_stride);
    case 4:
      return absorb_tile<4>(weights, q, nope, out, out_stride);
    case 5:
      return absorb_tile<5>(weights, q, nope, out, out_stride);
    default:
      return;
  }
}

// The rotated part of one head's query.
static void rotate_query_bf16(const MlaAbsorbParams& p, std::int64_t t, int head) {
  const std::byte* from = p.q + 2 * ((t * p.num_heads + head) * (p.nope + p.rope_dim) + p.nope);
  std::byte* to = p.q_latent + 2 * ((t * p.num_heads + head) * (p.latent + p.rope_dim) + p.latent);
  const float *cosine = p.rope + t * p.rope_dim, *sine = cosine + p.rope_dim / 2;
  for (int i = 0; i < p.rope_dim / 2; i += 16) {
    const __m512i pair = _mm512_loadu_si512(from + 4 * i);
    const __m512 a = even_columns(pair), b = odd_columns(pair);
    const __m512 c = _mm512_loadu_ps(cosine + i), s = _mm512_loadu_ps(sine + i);
    const __m512 x = _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s));
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(a, s), _mm512_mul_ps(b, c));
    _mm512_storeu_si512(to + 4 * i, pair_bf16(x, y));
  }
}

static void mla_absorb_bf16(const MlaAbsorbParams& p) {
  if (!takes_bf16_project(p.kv_b, p.type, p.nope, p.v, p.latent)) {
    mla_absorb(p);
    return;
  }
  const ProjectScratch s = project_scratch(p.scratch, p.nope, p.nope, p.latent);
  const int size = p.kv_b.type == ValueType::e4m3 ? 1 : 2;
  const std::int64_t q_stride = std::int64_t{p.num_heads} * (p.nope + p.rope_dim);
  const std::int64_t out_stride = std::int64_t{2} * p.num_heads * (p.latent + p.rope_dim);
  for (int head = p.first_head; head < p.last_head; ++head) {
    const std::int64_t row = std::int64_t{head} * (p.nope + p.v);
    make_project_tables(p.kv_b, row, p.nope, p.latent, s.tables);
    for (std::int64_t t = 0; t < p.num_tokens; ++t) {
      std::memcpy(s.activations + 2 * t * p.nope,
                  p.q + 2 * (t * q_stride + std::int64_t{head} * (p.nope + p.rope_dim)),
                  std::size_t{2} * static_cast<std::size_t>(p.nope));
    }
    const std::byte* next = head + 1 < p.last_head
                                ? p.kv_b.data + (row + p.nope + p.v) * p.kv_b.stride * size
                                : nullptr;
    const AbsorbedRows rows{row, p.nope, (p.latent + kBlock - 1) / kBlock, s.tables};
    std::byte* out = p.q_latent + std::int64_t{2} * head * (p.latent + p.rope_dim);
    for (int c = 0; c < p.latent; c += kColumns, out += 2 * kColumns) {
      switch (p.num_tokens) {
        case 1:
          absorb_few<1>(p.kv_b, rows, c, next, s.activations, out, out_stride);
          break;
        case 2:
          absorb_few<2>(p.kv_b, rows, c, next, s.activations, out, out_stride);
          break;
        case 3:
          absorb_few<3>(p.kv_b, rows, c, next, s.activations, out, out_stride);
          break;
        case 4:
          absorb_few<4>(p.kv_b, rows, c, next, s.activations, out, out_stride);
          break;
        default:
          interleave_rows(p.kv_b, rows, c, next, s.weights);
          absorb_tokens(s.weights, s.activations, p.num_tokens, p.nope, out, out_stride);
      }
      if (next != nullptr) next += std::int64_t{p.nope} * kColumns * size;
    }
    if (p.rope_dim % 32 != 0 || !p.interleave) {
      absorb_rope(p, head);
      continue;
    }
    for (std::int64_t t = 0; t < p.num_tokens; ++t) rotate_query_bf16(p, t, head);
  }
}
