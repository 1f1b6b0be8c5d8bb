// Topic mla with VDPBF16PS: sparse_mla on BF16 queries and FP8 or BF16 records.
//
// One group of kGroup list entries at a time, for all heads: records become BF16 keys and values
// once; scores with lanes = heads; the softmax step with lanes = heads; values with lanes =
// columns. BF16 probabilities (docs/numerics.md) meet pairs of values in VDPBF16PS; f32 ones take
// f32 multiply-adds.
//
// Order of sums of any head: a score is one chain of VDPBF16PS over the pairs of columns as
// decode_codes leaves them, the RoPE part last; an output column is one chain over the list, an
// entry or a pair of entries at a time. Neither knows of tiles, so heads may be split anywhere.

constexpr int kHeadBlock = 64;  // heads whose queries are interleaved: four registers of 16
constexpr int kKeyTile = 6;     // keys of a tile of scores

static int round_up_16(int n) { return (n + 15) / 16 * 16; }

// Where a call's parts lie in SparseMlaParams::scratch. Heads count from first_head and are padded
// to whole registers; padding lanes hold zeros.
struct MlaScratch {
  std::uint32_t* queries;  // [head block][pair][head]: two BF16 columns of one head
  std::uint32_t* keys;     // [kGroup][pairs]
  std::uint32_t* values;   // [latent / kColumns][kGroup][kColumns] f32, columns as split_columns
                           // orders them; or [latent / kColumns][kGroup / 2][kColumns] pairs
  float* weights;          // [heads / 16][kGroup][16]: scores, then probabilities or their pairs
  float* out;              // [latent / kColumns][heads][kColumns], unnormalised
  float *best, *total, *keep;  // [heads]
};

static MlaScratch mla_scratch(const SparseMlaParams& p) {
  const std::int64_t heads = round_up_16(p.last_head - p.first_head), latent = p.layout.latent;
  const std::int64_t pairs = (latent + p.layout.rope) / 2;
  MlaScratch s{};
  s.values = reinterpret_cast<std::uint32_t*>(p.scratch);
  s.out = p.scratch + latent * kGroup;
  s.weights = s.out + latent * heads;
  s.best = s.weights + heads * kGroup;
  s.total = s.best + heads;
  s.keep = s.total + heads;
  s.queries = reinterpret_cast<std::uint32_t*>(s.keep + heads);
  s.keys = s.queries + heads * pairs;
  return s;
}

// A row of 16 becomes a lane of 16.
static inline void transpose(__m512i* v) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // in lanes of 128 bits: columns 0 to 3 of rows i to i + 3
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      v[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
      v[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(v[j], v[j + 4], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(v[j], v[j + 4], 0xDD);
    const __m512i c = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0xDD);
    t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[j + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
    t[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[j + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

namespace {  // members of a class are weak symbols elsewhere

// Queries as tiles of scores read them: [head block][pair][head], heads padded to whole registers.
// Sixteen heads at a time: one by one, each pair would be a store to a line of its own.
struct HeadPacking {
  int heads, pairs;
  std::uint32_t* out;

  // How far the next pair of the same head is: the heads of its block.
  int wide(int h) const {
    const int left = round_up_16(heads) - h / kHeadBlock * kHeadBlock;
    return left < kHeadBlock ? left : kHeadBlock;
  }
  std::uint32_t* at(int h, int pair) const {
    const std::int64_t block = h / kHeadBlock * kHeadBlock;
    return out + block * pairs + std::int64_t{pair} * wide(h) + h % kHeadBlock;
  }
  // Pairs [first, first + n), n <= 16, of heads h to h + 15.
  void lines(int h, int first, int n, __m512i* v) const {
    transpose(v);
    std::uint32_t* to = at(h, first);
    for (int i = 0; i < n; ++i, to += wide(h)) _mm512_storeu_si512(to, v[i]);
  }
  // Columns [0, count), 64 at a time, in the order of decode_codes; zeros for heads that are none.
  // load(head, column, a, b) gives them as BF16 in their own order.
  template <class Load>
  void columns(int count, Load&& load) const {
    for (int h = 0; h < round_up_16(heads); h += 16) {
      for (int c = 0; c < count; c += kColumns) {
        __m512i v[2][16] = {};
        for (int i = 0; i < 16 && h + i < heads; ++i) {
          __m512i a, b;
          load(h + i, c, &a, &b);
          to_decoded(a, b, &v[0][i], &v[1][i]);
        }
        lines(h, c / 2, 16, v[0]);
        lines(h, c / 2 + 16, 16, v[1]);
      }
    }
  }
  // Pairs [first, first + count) as they lie at from(head).
  template <class From>
  void plain(int first, int count, From&& from) const {
    for (int h = 0; h < round_up_16(heads); h += 16) {
      for (int j = 0; j < count; j += 16) {
        const int n = count - j < 16 ? count - j : 16;
        __m512i v[16] = {};
        for (int i = 0; i < 16 && h + i < heads; ++i) {
          v[i] = load_bytes<false>(from(h + i) + 4 * j, 4 * n);
        }
        lines(h, first + j, n, v);
      }
    }
  }
};

}  // namespace

// One token's queries of heads [first_head, last_head).
static void pack_queries(const SparseMlaParams& p, std::int64_t token, std::uint32_t* out) {
  const int latent = p.layout.latent, rope = p.layout.rope, width = latent + rope;
  const int heads = p.last_head - p.first_head;
  const std::byte* rows = p.q + 2 * (token * p.num_heads + p.first_head) * width;
  const HeadPacking packing{heads, width / 2, out};
  packing.columns(latent, [&](int h, int c, __m512i* a, __m512i* b) {
    const std::byte* from = rows + 2 * (std::int64_t{h} * width + c);
    *a = _mm512_loadu_si512(from);
    *b = _mm512_loadu_si512(from + 64);
  });
  packing.plain(latent / 2, rope / 2,
                [&](int h) { return rows + 2 * (std::int64_t{h} * width + latent); });
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

// 2^x for x <= 0 within 2 ulp; NaN stays one.
static inline __m512 exp2_lanes(__m512 x) {
  const __m512 in = _mm512_max_ps(_mm512_set1_ps(-160.0f), x);
  const __m512 n = _mm512_roundscale_ps(in, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(in, n);
  __m512 p = _mm512_set1_ps(1.535336188e-4f);
  const float coefficients[] = {1.339887440e-3f, 9.618437358e-3f, 5.550332471e-2f,
                                2.402264791e-1f, 6.931472029e-1f, 1.0f};
  for (const float c : coefficients) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}

// Scores to probabilities against the best so far, for 16 heads; `factor` takes scores to powers
// of two, `keep` is the factor of what is there already.
template <bool Bf16>
static void softmax_step(const MlaScratch& s, int n, int h, __m512 factor) {
  float* weights = s.weights + h * kGroup;
  const __m512 old = _mm512_loadu_ps(s.best + h);
  __m512 best = old;
  for (int i = 0; i < n; ++i) best = _mm512_max_ps(best, _mm512_loadu_ps(weights + i * 16));
  const __m512 keep = exp2_lanes(_mm512_mul_ps(_mm512_sub_ps(old, best), factor));
  __m512 total = _mm512_mul_ps(_mm512_loadu_ps(s.total + h), keep);
  const auto weight = [&](int i) {
    const __m512 score = _mm512_loadu_ps(weights + i * 16);
    const __m512 x = exp2_lanes(_mm512_mul_ps(_mm512_sub_ps(score, best), factor));
    total = _mm512_add_ps(total, x);
    return x;
  };
  if (Bf16) {
    for (int i = 0; i < n; i += 2) {
      const __m512 a = weight(i), b = i + 1 < n ? weight(i + 1) : _mm512_setzero_ps();
      _mm512_storeu_si512(weights + i / 2 * 16, pair_bf16(a, b));
    }
  } else {
    for (int i = 0; i < n; ++i) _mm512_storeu_ps(weights + i * 16, weight(i));
  }
  _mm512_storeu_ps(s.best + h, best);
  _mm512_storeu_ps(s.total + h, total);
  _mm512_storeu_ps(s.keep + h, keep);
}

template <bool Bf16>
static inline __m512 add_value(__m512 sum, __m512i weight, __m512i value) {
  return Bf16 ? dp(sum, weight, value)
              : _mm512_fmadd_ps(_mm512_castsi512_ps(weight), _mm512_castsi512_ps(value), sum);
}

// out = keep out + sum of weight value over `n` entries or pairs of entries, for R heads from lane
// `lane` of a register of weights and kColumns columns.
template <bool Bf16, int R>
static void value_tile(const float* weights, const std::uint32_t* values, int n, const float* keep,
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
    __m512i value[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) value[c] = _mm512_loadu_si512(values + i * kColumns + 16 * c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i weight = _mm512_castps_si512(_mm512_set1_ps(weights[i * 16 + r]));
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[r][c] = add_value<Bf16>(sum[r][c], weight, value[c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) _mm512_storeu_ps(out + r * kColumns + 16 * c, sum[r][c]);
  }
}

// Values of `n` entries of a list, for all heads. Between the tiles it asks for the records of the
// `ahead` entries behind them.
template <bool Bf16>
static void value_group(const SparseMlaParams& p, const MlaScratch& s, const std::int32_t* list,
                        int n, int ahead) {
  const int heads = round_up_16(p.last_head - p.first_head);
  const int blocks = p.layout.latent / kColumns, steps = Bf16 ? (n + 1) / 2 : n;
  const int share = (ahead * 16 + blocks * heads - 1) / (blocks * heads);
  const std::int32_t *next = list + n, *end = next + ahead;
  for (int b = 0; b < blocks; ++b) {
    const std::uint32_t* values = s.values + b * kColumns * (Bf16 ? kGroup / 2 : kGroup);
    for (int h = 0; h < heads; h += 16) {
      for (int i = 0; i < share && next < end; ++i, ++next) {
        prefetch_record(p.layout, p.latent + std::int64_t{*next} * p.layout.latent_record());
      }
      const float* weights = s.weights + h * kGroup;
      float* out = s.out + (static_cast<std::int64_t>(b) * heads + h) * kColumns;
      value_tile<Bf16, 6>(weights, values, steps, s.keep + h, out);
      value_tile<Bf16, 6>(weights + 6, values, steps, s.keep + h + 6, out + 6 * kColumns);
      value_tile<Bf16, 4>(weights + 12, values, steps, s.keep + h + 12, out + 12 * kColumns);
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

// One token's attention over its list, unnormalised.
template <bool Bf16>
static void attend_list(const SparseMlaParams& p, const MlaScratch& s, const std::int32_t* list) {
  const CacheLayout& layout = p.layout;
  const int heads = round_up_16(p.last_head - p.first_head);
  const int pairs = (layout.latent + layout.rope) / 2;
  const __m512 factor = _mm512_set1_ps(p.scale * 1.44269504f);
  const auto record = [&](std::int32_t slot) {
    return p.latent + std::int64_t{slot} * layout.latent_record();
  };
  int count = 0;
  while (count < p.top_k && list[count] >= 0) ++count;
  for (int i = 0; i < kGroup / 4 && i < count; ++i) prefetch_record(layout, record(list[i]));
  for (int first = 0; first < count; first += kGroup) {
    const int left = count - first, n = left < kGroup ? left : kGroup;
    const std::int32_t* group = list + first;
    for (int i = 0; i < n; i += Bf16 ? 2 : 1) {
      std::uint32_t* key = s.keys + i * pairs;
      if (Bf16) {
        unpack_pair(layout, record(group[i]), i + 1 < n ? record(group[i + 1]) : nullptr, key,
                    s.values + i / 2 * kColumns);
      } else {
        unpack_record(layout, record(group[i]), key, s.values + i * kColumns);
      }
    }
    score_group(s, n, heads, pairs);
    for (int h = 0; h < heads; h += 16) softmax_step<Bf16>(s, n, h, factor);
    value_group<Bf16>(p, s, group, n, left - n < kGroup ? left - n : kGroup);
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
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    pack_queries(p, t, s.queries);
    for (int h = 0; h < heads; ++h) {
      s.best[h] = -3.0e38f;
      s.total[h] = 0.0f;
    }
    std::memset(
        s.out, 0,
        static_cast<std::size_t>(layout.latent) * static_cast<std::size_t>(heads) * sizeof(float));
    const std::int32_t* list = p.indices + t * p.top_k;
    if (p.bf16_probabilities) {
      attend_list<true>(p, s, list);
    } else {
      attend_list<false>(p, s, list);
    }
    store_out(p, s, t, heads);
  }
}
