// Topic mla with VDPBF16PS: mla_expand.
//
// Order of sums, the same for any number of tokens: 16 lanes, each one chain of VDPBF16PS over
// ascending blocks of 64 columns as decode_codes leaves them, then the tree of tree8.

constexpr int kExpandRows = 8;  // of weights
constexpr int kExpandTile = 3;  // tokens
constexpr int kExpandFew = 2;   // tokens whose sums fit beside the decoding

// Rows of expand's weights: `count` from `first` on, at most kExpandRows, of one block of scales.
// What is to be fetched lies `ahead` bytes further on; 0 behind the last head.
struct ExpandedRows {
  std::int64_t first;
  int count, latent;
  const CodeTable* tables;
  std::int64_t ahead;
};

// visit(c, r, a, b) gets columns c to c + 63 of row r, ascending in c; zeros for rows that are
// none.
template <class Visit>
[[gnu::always_inline]] static inline void visit_columns(const Matrix& w, const ExpandedRows& rows,
                                                        Visit&& visit) {
  const int size = w.type == ValueType::e4m3 ? 1 : 2;
  for (int c = 0; c < rows.latent; c += kColumns) {
    const Lut lut = size == 1 ? load_lut(rows.tables + c / kBlock) : Lut{};
#pragma GCC unroll 8
    for (int r = 0; r < kExpandRows; ++r) {
      __m512i a = _mm512_setzero_si512(), b = a;
      if (r < rows.count) {
        const std::byte* from = w.data + ((rows.first + r) * w.stride + c) * size;
        for (int i = 0; i < size; ++i) {
          _mm_prefetch(reinterpret_cast<const char*>(from) + rows.ahead + 64 * i, _MM_HINT_T1);
        }
        if (size == 1) {
          decode_codes(_mm512_loadu_si512(from), lut, &a, &b);
        } else {
          to_decoded(_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64), &a, &b);
        }
      }
      visit(c, r, a, b);
    }
  }
}

// Rows as expand_tile reads them: [latent / 32][kExpandRows][32].
static void decode_expand_rows(const Matrix& w, const ExpandedRows& rows, std::byte* out) {
  visit_columns(w, rows, [&](int c, int r, __m512i a, __m512i b) {
    std::byte* to = out + 64 * (c / 32 * kExpandRows + r);
    _mm512_store_si512(to, a);
    _mm512_store_si512(to + 64 * kExpandRows, b);
  });
}

// The outputs of `rows` rows, rounded. A copy: with its address taken, GCC keeps `sum` in memory.
static inline void store_expanded(const __m512* sum, int rows, std::byte* out) {
  const __m512 each[kExpandRows] = {sum[0], sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[7]};
  const __m128i eight = reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(tree8(each)));
  std::memcpy(out, &eight, std::size_t{2} * static_cast<std::size_t>(rows));
}

// The same of M tokens, at most kExpandFew, without scratch.
template <int M>
static void expand_few(const Matrix& w, const ExpandedRows& rows, const std::byte* x,
                       std::byte* out, std::int64_t out_stride) {
  __m512 sum[M][kExpandRows];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int r = 0; r < kExpandRows; ++r) sum[m][r] = _mm512_setzero_ps();
  }
  visit_columns(w, rows, [&](int c, int r, __m512i a, __m512i b) {
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const std::byte* at = x + 2 * (std::int64_t{m} * rows.latent + c);
      sum[m][r] = dp(dp(sum[m][r], a, _mm512_load_si512(at)), b, _mm512_load_si512(at + 64));
    }
  });
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) store_expanded(sum[m], rows.count, out + m * out_stride);
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
  for (int m = 0; m < M; ++m) store_expanded(sum[m], rows, out + m * out_stride);
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
      const ExpandedRows which{row + i, rows, p.latent, tables, ahead};
      std::byte* out = s.out + 2 * i;
      const std::byte* x = s.activations;
      if (p.num_tokens <= kExpandFew) {
        p.num_tokens == 1 ? expand_few<1>(p.kv_b, which, x, out, out_stride)
                          : expand_few<2>(p.kv_b, which, x, out, out_stride);
        continue;
      }
      decode_expand_rows(p.kv_b, which, s.weights);
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
