// Topic mla with VDPBF16PS: mla_absorb and mla_expand on BF16 queries and FP8 or BF16 weights. With
// few tokens these are a race against memory (16.8 MB a layer), with many one against the peak.
//
// A weight is dequantised and rounded to BF16 by the table of its scale, which says it for all 256
// codes: exact, whatever the scale. Each head's weights become BF16 once for all tokens of a call,
// a first-level cache's worth at a time, while the same lines of the next head are fetched.
//
// Order of sums, the same for any number of tokens: absorb has lanes = columns, each one chain of
// VDPBF16PS over ascending pairs of rows; expand has 16 lanes, each one chain over ascending blocks
// of 64 columns as decode_codes leaves them, then the tree of tree8.

constexpr int kAbsorbTile = 6;  // tokens
constexpr int kExpandRows = 8;  // of weights
constexpr int kExpandTile = 3;  // tokens

// Where a call's parts lie in mla_project_scratch().
struct ProjectScratch {
  CodeTable* tables;       // [blocks of rows of a head][blocks of columns]
  std::byte* weights;      // absorb: 64 columns of a head; expand: kExpandRows rows
  std::byte* activations;  // [num_tokens][nope or latent] BF16
  std::byte* out;          // expand: [num_tokens][v] BF16 of one head; the rows that they go to lie
                           // a power of two apart, in a few sets of a cache
};

static ProjectScratch project_scratch(float* scratch, int rows, int width, int latent) {
  ProjectScratch s{};
  s.tables = reinterpret_cast<CodeTable*>(scratch);
  s.weights = reinterpret_cast<std::byte*>(s.tables + mla_project_tables(rows, latent));
  s.activations = s.weights + 2 * std::int64_t{mla_project_weights(rows, latent)};
  s.out = s.activations + std::int64_t{2} * kRowTile * width;
  return s;
}

static bool takes_bf16_project(const Matrix& kv_b, ValueType type, int nope, int v, int latent) {
  return type == ValueType::bf16 && latent % kColumns == 0 && nope % 2 == 0 && v % 2 == 0 &&
         (kv_b.type == ValueType::bf16 || kv_b.type == ValueType::e4m3);
}

// The BF16 value of every code times `scale`, rounded. A negative scale flips the sign bit, which
// decode_codes takes as it comes.
static void make_scaled_table(float scale, CodeTable* out) {
  if (is_table_scale(scale)) {
    *out = *code_table(scale);
    return;
  }
  alignas(64) std::uint8_t code[64];
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 64; ++i) code[i] = static_cast<std::uint8_t>(64 * half + i);
    __m512i first, second;
    dequantise_codes(_mm512_load_si512(code), scale, load_lut(code_table(1.0f)), &first, &second);
    const __m512i mask = _mm512_set1_epi16(255);
    _mm512_store_si512(out->low + 64 * half, _mm512_packus_epi16(_mm512_and_si512(first, mask),
                                                                 _mm512_and_si512(second, mask)));
    _mm512_store_si512(out->high + 64 * half, _mm512_packus_epi16(_mm512_srli_epi16(first, 8),
                                                                  _mm512_srli_epi16(second, 8)));
  }
}

// The tables of rows [first, first + rows).
static void make_project_tables(const Matrix& w, std::int64_t first, int rows, int latent,
                                CodeTable* out) {
  if (w.type != ValueType::e4m3) return;
  const std::int64_t last = (first + rows - 1) / kBlock;
  for (std::int64_t block = first / kBlock; block <= last; ++block) {
    for (int c = 0; c < latent; c += kBlock) {
      make_scaled_table(block_scale(w, block * kBlock, c), out++);
    }
  }
}

static inline void fetch_line(const std::byte* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
}

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

// 64 columns from `c` on of a head's rows: [row pair][64 pairs]. Fetches as many lines of the next
// head, in their order in memory: those that begin at `next`, or none.
static void interleave_rows(const Matrix& w, const AbsorbedRows& rows, int c, const std::byte* next,
                            std::byte* out) {
  const int size = w.type == ValueType::e4m3 ? 1 : 2;
  const std::int64_t stride = w.stride * size;
  const std::byte* row = w.data + rows.first * stride + c * size;
  std::int64_t block = -1;
  Lut lut{};
  for (int d = 0; d < rows.count; d += 2, row += 2 * stride, out += 4 * 64) {
    if (next != nullptr) {
      for (int i = 0; i < 2 * size; ++i, next += 64) fetch_line(next);
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
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm512_store_si512(out + 64 * i, v[i]);
  }
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
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      std::int32_t pair;
      std::memcpy(&pair, q + std::int64_t{2} * m * nope, 4);
      const __m512i x = _mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[m][i] = dp(sum[m][i], w[i], x);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {  // 4 x 4 parts of 128 bits change places
    const __m512 a = _mm512_shuffle_f32x4(sum[m][0], sum[m][1], 0x44);
    const __m512 b = _mm512_shuffle_f32x4(sum[m][2], sum[m][3], 0x44);
    const __m512 c = _mm512_shuffle_f32x4(sum[m][0], sum[m][1], 0xEE);
    const __m512 d = _mm512_shuffle_f32x4(sum[m][2], sum[m][3], 0xEE);
    const auto join = [](__m512 x, __m512 y) {
      return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x));
    };
    std::byte* to = out + m * out_stride;
    _mm512_storeu_si512(to,
                        join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)));
    _mm512_storeu_si512(to + 64,
                        join(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xDD)));
  }
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
      interleave_rows(p.kv_b, rows, c, next, s.weights);
      if (next != nullptr) next += std::int64_t{p.nope} * kColumns * size;
      absorb_tokens(s.weights, s.activations, p.num_tokens, p.nope, out, out_stride);
    }
    if (p.rope_dim % 32 != 0) {
      absorb_rope(p, head);
      continue;
    }
    for (std::int64_t t = 0; t < p.num_tokens; ++t) rotate_query_bf16(p, t, head);
  }
}

// `rows` rows from `first` on, at most kExpandRows, of one block of scales; those behind them are
// zeros: [latent / 32][kExpandRows][32]. Fetches the same lines `ahead` bytes further on, if not 0.
static void decode_expand_rows(const Matrix& w, std::int64_t first, int rows, int latent,
                               const CodeTable* tables, std::int64_t ahead, std::byte* out) {
  const int size = w.type == ValueType::e4m3 ? 1 : 2;
  for (int c = 0; c < latent; c += kColumns, out += 2 * 64 * kExpandRows) {
    const Lut lut = size == 1 ? load_lut(tables + c / kBlock) : Lut{};
#pragma GCC unroll 8
    for (int r = 0; r < kExpandRows; ++r) {
      __m512i a = _mm512_setzero_si512(), b = a;
      if (r < rows) {
        const std::byte* from = w.data + ((first + r) * w.stride + c) * size;
        if (ahead != 0) {
          for (int i = 0; i < size; ++i) fetch_line(from + ahead + 64 * i);
        }
        if (size == 1) {
          decode_codes(_mm512_loadu_si512(from), lut, &a, &b);
        } else {
          to_decoded(_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64), &a, &b);
        }
      }
      _mm512_store_si512(out + 64 * r, a);
      _mm512_store_si512(out + 64 * (kExpandRows + r), b);
    }
  }
}

// `rows` outputs of M tokens.
template <int M>
static void expand_tile(const std::byte* weights, const std::byte* x, int latent, int rows,
                        std::byte* out, std::int64_t out_stride) {
  __m512 sum[M][kExpandRows];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < kExpandRows; ++r) sum[m][r] = _mm512_setzero_ps();
  }
  for (int c = 0; c < latent; c += 32, weights += 64 * kExpandRows, x += 64) {
    __m512i v[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) v[m] = _mm512_load_si512(x + std::int64_t{2} * m * latent);
#pragma GCC unroll 8
    for (int r = 0; r < kExpandRows; ++r) {
      const __m512i w = _mm512_load_si512(weights + 64 * r);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[m][r] = dp(sum[m][r], w, v[m]);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {  // a copy: with its address taken, GCC keeps `sum` in memory
    const __m512 each[kExpandRows] = {sum[m][0], sum[m][1], sum[m][2], sum[m][3],
                                      sum[m][4], sum[m][5], sum[m][6], sum[m][7]};
    const __m128i eight = reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(tree8(each)));
    std::memcpy(out + m * out_stride, &eight, std::size_t{2} * static_cast<std::size_t>(rows));
  }
}

static void mla_expand_bf16(const MlaExpandParams& p) {
  if (!takes_bf16_project(p.kv_b, p.type, p.nope, p.v, p.latent)) {
    mla_expand(p);
    return;
  }
  const ProjectScratch s = project_scratch(p.scratch, p.v, p.latent, p.latent);
  const int size = p.kv_b.type == ValueType::e4m3 ? 1 : 2;
  const int blocks = (p.latent + kBlock - 1) / kBlock;
  const std::int64_t out_stride = std::int64_t{2} * p.v, x_row = 2 * p.latent;
  for (int head = p.first_head; head < p.last_head; ++head) {
    const std::int64_t row = std::int64_t{head} * (p.nope + p.v) + p.nope;
    make_project_tables(p.kv_b, row, p.v, p.latent, s.tables);
    for (std::int64_t t = 0; t < p.num_tokens; ++t) {
      const std::byte* from = p.out_latent + (t * p.num_heads + head) * x_row;
      for (std::int64_t c = 0; c < x_row; c += 128) {
        __m512i a, b;
        to_decoded(_mm512_loadu_si512(from + c), _mm512_loadu_si512(from + c + 64), &a, &b);
        _mm512_store_si512(s.activations + t * x_row + c, a);
        _mm512_store_si512(s.activations + t * x_row + c + 64, b);
      }
    }
    const std::int64_t ahead = head + 1 < p.last_head ? (p.nope + p.v) * p.kv_b.stride * size : 0;
    for (int i = 0, rows = 0; i < p.v; i += rows) {
      const int in_block = kBlock - static_cast<int>((row + i) % kBlock);
      rows = p.v - i < kExpandRows ? p.v - i : kExpandRows;
      if (in_block < rows) rows = in_block;
      const CodeTable* tables = s.tables + ((row + i) / kBlock - row / kBlock) * blocks;
      decode_expand_rows(p.kv_b, row + i, rows, p.latent, tables, ahead, s.weights);
      std::byte* out = s.out + 2 * i;
      const std::byte* x = s.activations;
      int left = p.num_tokens;
      for (; left >= kExpandTile; left -= kExpandTile) {
        expand_tile<kExpandTile>(s.weights, x, p.latent, rows, out, out_stride);
        x += kExpandTile * x_row;
        out += kExpandTile * out_stride;
      }
      if (left == 2) expand_tile<2>(s.weights, x, p.latent, rows, out, out_stride);
      if (left == 1) expand_tile<1>(s.weights, x, p.latent, rows, out, out_stride);
    }
    for (std::int64_t t = 0; t < p.num_tokens; ++t) {
      std::memcpy(p.out + 2 * (t * p.num_heads + head) * p.v, s.out + t * out_stride,
                  std::size_t{2} * static_cast<std::size_t>(p.v));
    }
  }
}
