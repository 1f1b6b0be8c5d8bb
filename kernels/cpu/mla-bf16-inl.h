// Topic mla with VDPBF16PS: sparse_mla on BF16 queries and FP8 or BF16 records.
//
// One group of kGroup list entries at a time, for all heads: records become BF16 keys and f32
// values once; scores with lanes = heads; the softmax step with lanes = heads; values with lanes =
// columns. Probabilities stay f32 (docs/numerics.md), so values take f32 multiply-adds.
//
// Order of sums of any head: a score is one chain of VDPBF16PS over the pairs of columns as
// decode_codes leaves them, the RoPE part last; an output column is one chain of multiply-adds over
// the list. Neither knows of tiles, so heads may be split anywhere.

constexpr int kHeadBlock = 64;  // heads whose queries are interleaved: four registers of 16
constexpr int kKeyTile = 6;     // keys of a tile of scores
constexpr int kHeadTile = 6;    // heads of a tile of values
constexpr int kColumns = 64;    // columns of a block of values: four registers of 16

static int round_up_16(int n) { return (n + 15) / 16 * 16; }

// Where a call's parts lie in SparseMlaParams::scratch. Heads count from first_head and are padded
// to whole registers; padding lanes hold zeros.
struct MlaScratch {
  std::uint32_t* queries;  // [head block][pair][head]: two BF16 columns of one head
  std::uint32_t* keys;     // [kGroup][pairs]
  float* values;           // [latent / kColumns][kGroup][kColumns], as `split_pairs` orders them
  float* weights;          // [heads / 16][kGroup][16]: scores, then probabilities
  float* out;              // [latent / kColumns][heads][kColumns], unnormalised
  float *best, *total, *keep;  // [heads]
};

static MlaScratch mla_scratch(const SparseMlaParams& p) {
  const std::int64_t heads = round_up_16(p.last_head - p.first_head), latent = p.layout.latent;
  const std::int64_t pairs = (latent + p.layout.rope) / 2;
  MlaScratch s{};
  s.values = p.scratch;
  s.out = s.values + latent * kGroup;
  s.weights = s.out + latent * heads;
  s.best = s.weights + heads * kGroup;
  s.total = s.best + heads;
  s.keep = s.total + heads;
  s.queries = reinterpret_cast<std::uint32_t*>(s.keep + heads);
  s.keys = s.queries + heads * pairs;
  return s;
}

// 64 BF16 columns in the order of decode_codes, and back.
static inline void to_decoded(__m512i a, __m512i b, __m512i* first, __m512i* second) {
  const __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
  const __m512i odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
  *first = _mm512_permutex2var_epi64(a, even, b);
  *second = _mm512_permutex2var_epi64(a, odd, b);
}
static inline void from_decoded(__m512i first, __m512i second, __m512i* a, __m512i* b) {
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  *a = _mm512_permutex2var_epi64(first, low, second);
  *b = _mm512_permutex2var_epi64(first, high, second);
}

static inline __m512 even_columns(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
static inline __m512 odd_columns(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}
static inline __m512i join_columns(__m512 even, __m512 odd) {
  const __m512i low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even)));
  const __m512i high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd)));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// One token's queries of heads [first_head, last_head).
static void pack_queries(const SparseMlaParams& p, std::int64_t token, std::uint32_t* out) {
  const int latent = p.layout.latent, width = latent + p.layout.rope, pairs = width / 2;
  const int heads = p.last_head - p.first_head, padded = round_up_16(heads);
  for (int h = 0; h < padded; ++h) {
    const int block = h / kHeadBlock * kHeadBlock;
    const int wide = padded - block < kHeadBlock ? padded - block : kHeadBlock;
    std::uint32_t* to = out + std::int64_t{block} * pairs + (h - block);
    if (h >= heads) {
      for (int i = 0; i < pairs; ++i) to[i * wide] = 0;
      continue;
    }
    const std::byte* row = p.q + 2 * ((token * p.num_heads + p.first_head + h) * width);
    alignas(64) std::uint32_t line[kColumns / 2];
    for (int c = 0; c < latent; c += kColumns, to += kColumns / 2 * wide) {
      __m512i first, second;
      to_decoded(_mm512_loadu_si512(row + 2 * c), _mm512_loadu_si512(row + 2 * c + 64), &first,
                 &second);
      _mm512_store_si512(line, first);
      _mm512_store_si512(line + 16, second);
      for (int i = 0; i < kColumns / 2; ++i) to[i * wide] = line[i];
    }
    for (int i = 0; i < p.layout.rope / 2; ++i) {
      std::uint32_t pair;
      std::memcpy(&pair, row + 2 * latent + 4 * i, 4);
      to[i * wide] = pair;
    }
  }
}

// 64 codes times a scale, rounded to BF16.
static inline void dequantise_codes(__m512i codes, float scale, const Lut& unit, __m512i* first,
                                    __m512i* second) {
  decode_codes(codes, unit, first, second);
  const __m512 factor = _mm512_set1_ps(scale);
  *first = join_columns(_mm512_mul_ps(even_columns(*first), factor),
                        _mm512_mul_ps(odd_columns(*first), factor));
  *second = join_columns(_mm512_mul_ps(even_columns(*second), factor),
                         _mm512_mul_ps(odd_columns(*second), factor));
}

static bool is_table_scale(float scale) {
  const std::uint32_t bits = float_bits(scale);
  const int exponent = static_cast<int>(bits >> 23) - 127;  // a sign makes it large
  return bits == 0 ||
         ((bits & 0x7FFFFFu) == 0 && exponent >= -kMaxExponent && exponent <= kMaxExponent);
}

// A record as a key row and as a row of values.
static void unpack_record(const CacheLayout& layout, const std::byte* rec, std::uint32_t* key,
                          float* values) {
  const Lut unit = load_lut(code_table(1.0f));
  const bool fp8 = layout.format == CacheLayout::Format::fp8;
  for (int c = 0; c < layout.latent; c += kColumns) {
    __m512i first, second;
    if (fp8) {
      const float scale = load_f32(rec + layout.latent + c / kBlock * 4);
      const __m512i codes = _mm512_loadu_si512(rec + c);
      if (is_table_scale(scale)) {
        decode_codes(codes, load_lut(code_table(scale)), &first, &second);
      } else {
        dequantise_codes(codes, scale, unit, &first, &second);
      }
    } else {
      to_decoded(_mm512_loadu_si512(rec + 2 * c), _mm512_loadu_si512(rec + 2 * c + 64), &first,
                 &second);
    }
    _mm512_storeu_si512(key + c / 2, first);
    _mm512_storeu_si512(key + c / 2 + 16, second);
    float* to = values + c * kGroup;
    _mm512_storeu_ps(to, even_columns(first));
    _mm512_storeu_ps(to + 16, odd_columns(first));
    _mm512_storeu_ps(to + 32, even_columns(second));
    _mm512_storeu_ps(to + 48, odd_columns(second));
  }
  std::memcpy(key + layout.latent / 2,
              rec + layout.latent * layout.value_bytes() + 4 * layout.scales(),
              static_cast<std::size_t>(layout.rope) * 2);
}

// Scores of R keys and 16 W heads.
template <int R, int W>
static void score_tile(const std::uint32_t* keys, const std::uint32_t* queries, int pairs,
                       float* scores) {
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
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) _mm512_storeu_ps(scores + (w * kGroup + r) * 16, sum[r][w]);
  }
}

template <int W>
static void score_block(const std::uint32_t* keys, int n, const std::uint32_t* queries, int pairs,
                        float* scores) {
  int i = 0;
  for (; i + kKeyTile <= n; i += kKeyTile) {
    score_tile<kKeyTile, W>(keys + i * pairs, queries, pairs, scores + i * 16);
  }
  for (; i + 4 <= n; i += 4) {
    score_tile<4, W>(keys + i * pairs, queries, pairs, scores + i * 16);
  }
  for (; i < n; ++i) score_tile<1, W>(keys + i * pairs, queries, pairs, scores + i * 16);
}

static void score_group(const MlaScratch& s, int n, int heads, int pairs) {
  for (int h = 0; h < heads; h += kHeadBlock) {
    const std::uint32_t* queries = s.queries + std::int64_t{h} * pairs;
    float* scores = s.weights + h * kGroup;
    switch (heads - h) {
      case 16:
        score_block<1>(s.keys, n, queries, pairs, scores);
        break;
      case 32:
        score_block<2>(s.keys, n, queries, pairs, scores);
        break;
      case 48:
        score_block<3>(s.keys, n, queries, pairs, scores);
        break;
      default:
        score_block<4>(s.keys, n, queries, pairs, scores);
    }
  }
}

// Scores to probabilities against the best so far, for 16 heads; `keep` is the factor of what is
// there already.
static void softmax_step(const MlaScratch& s, int n, int h, float scale) {
  const __m512 factor = _mm512_set1_ps(scale);
  float* weights = s.weights + h * kGroup;
  const __m512 old = _mm512_loadu_ps(s.best + h);
  __m512 best = old;
  for (int i = 0; i < n; ++i) {
    const __m512 score = _mm512_mul_ps(_mm512_loadu_ps(weights + i * 16), factor);
    _mm512_storeu_ps(weights + i * 16, score);
    best = _mm512_max_ps(best, score);
  }
  const __mmask16 same = _mm512_cmp_ps_mask(old, best, _CMP_EQ_OQ);
  const __m512 moved = exp_lanes(Lanes{_mm512_sub_ps(old, best)}).v;
  const __m512 keep = _mm512_mask_mov_ps(moved, same, _mm512_set1_ps(1.0f));
  __m512 total = _mm512_mul_ps(_mm512_loadu_ps(s.total + h), keep);
  for (int i = 0; i < n; ++i) {
    const __m512 weight =
        exp_lanes(Lanes{_mm512_sub_ps(_mm512_loadu_ps(weights + i * 16), best)}).v;
    _mm512_storeu_ps(weights + i * 16, weight);
    total = _mm512_add_ps(total, weight);
  }
  _mm512_storeu_ps(s.best + h, best);
  _mm512_storeu_ps(s.total + h, total);
  _mm512_storeu_ps(s.keep + h, keep);
}

// out = keep out + sum of weight value, for R heads from lane `lane` of a register of weights and
// kColumns columns.
template <int R>
static void value_tile(const float* weights, const float* values, int n, const float* keep,
                       float* out) {
  __m512 sum[R][4];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const __m512 factor = _mm512_set1_ps(keep[r]);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      sum[r][c] = _mm512_mul_ps(_mm512_loadu_ps(out + r * kColumns + 16 * c), factor);
    }
  }
  for (int i = 0; i < n; ++i) {
    __m512 value[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) value[c] = _mm512_loadu_ps(values + i * kColumns + 16 * c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 weight = _mm512_set1_ps(weights[i * 16 + r]);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[r][c] = _mm512_fmadd_ps(weight, value[c], sum[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) _mm512_storeu_ps(out + r * kColumns + 16 * c, sum[r][c]);
  }
}

static void value_group(const SparseMlaParams& p, const MlaScratch& s, int n, int heads) {
  const int blocks = p.layout.latent / kColumns;
  for (int b = 0; b < blocks; ++b) {
    const float* values = s.values + b * kColumns * kGroup;
    for (int h = 0; h < heads; h += 16) {
      const float* weights = s.weights + h * kGroup;
      float* out = s.out + (static_cast<std::int64_t>(b) * heads + h) * kColumns;
      value_tile<6>(weights, values, n, s.keep + h, out);
      value_tile<6>(weights + 6, values, n, s.keep + h + 6, out + 6 * kColumns);
      value_tile<4>(weights + 12, values, n, s.keep + h + 12, out + 12 * kColumns);
    }
  }
}

static void store_out(const SparseMlaParams& p, const MlaScratch& s, std::int64_t token,
                      int heads) {
  const int latent = p.layout.latent;
  for (int h = 0; h < p.last_head - p.first_head; ++h) {
    const float total = s.total[h];
    const __m512 divisor = _mm512_set1_ps(total);
    const __mmask16 any = total == 0.0f ? 0 : 0xFFFF;
    std::byte* row = p.out + 2 * ((token * p.num_heads + p.first_head + h) * latent);
    for (int c = 0; c < latent; c += kColumns, row += 2 * kColumns) {
      const float* from = s.out + (static_cast<std::int64_t>(c / kColumns) * heads + h) * kColumns;
      __m512 x[4];
      for (int i = 0; i < 4; ++i) {
        x[i] = _mm512_maskz_div_ps(any, _mm512_loadu_ps(from + 16 * i), divisor);
      }
      __m512i a, b;
      from_decoded(join_columns(x[0], x[1]), join_columns(x[2], x[3]), &a, &b);
      _mm512_storeu_si512(row, a);
      _mm512_storeu_si512(row + 64, b);
    }
  }
}

static void prefetch_record(const CacheLayout& layout, const std::byte* rec) {
  for (int i = 0; i < layout.latent_record(); i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(rec) + i, _MM_HINT_T1);
  }
}

// Latents of whole FP8 blocks; others take the f32 form.
static void sparse_mla_bf16(const SparseMlaParams& p) {
  const CacheLayout& layout = p.layout;
  if (p.type != ValueType::bf16 || layout.latent % kBlock != 0 || layout.rope % 2 != 0) {
    sparse_mla(p);
    return;
  }
  const MlaScratch s = mla_scratch(p);
  const int heads = round_up_16(p.last_head - p.first_head);
  const int pairs = (layout.latent + layout.rope) / 2;
  const auto record = [&](std::int32_t slot) {
    return p.latent + std::int64_t{slot} * layout.latent_record();
  };
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    const std::int32_t* list = p.indices + t * p.top_k;
    pack_queries(p, t, s.queries);
    for (int h = 0; h < heads; ++h) {
      s.best[h] = -3.0e38f;
      s.total[h] = 0.0f;
    }
    std::memset(
        s.out, 0,
        static_cast<std::size_t>(layout.latent) * static_cast<std::size_t>(heads) * sizeof(float));
    for (int first = 0; first < p.top_k && list[first] >= 0; first += kGroup) {
      int n = 0;
      for (; n < kGroup && first + n < p.top_k && list[first + n] >= 0; ++n) {
        const int ahead = first + n + kGroup / 4;
        if (ahead < p.top_k && list[ahead] >= 0) prefetch_record(layout, record(list[ahead]));
        unpack_record(layout, record(list[first + n]), s.keys + n * pairs, s.values + n * kColumns);
      }
      score_group(s, n, heads, pairs);
      for (int h = 0; h < heads; h += 16) softmax_step(s, n, h, p.scale);
      value_group(p, s, n, heads);
    }
    store_out(p, s, t, heads);
  }
}
