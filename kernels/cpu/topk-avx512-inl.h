// top_k with AVX-512: one pass over the scores, bounded memory, never a look at an order.
//
// A sample gives a limit that a little more than k scores should reach. The pass keeps what reaches
// it; when the buffer is full, all but the k best go, and later scores must then be above the worst
// of those, since of equal scores the earlier one wins. Too few kept: `top_k` of indexer-inl.h.

constexpr int kSampleLines = 192;  // of 16 scores

// A float's bits as an integer of the same order: NaN lowest; -0 equals 0.
static inline __m512i order_key(__m512 x) {
  const __m512i bits = _mm512_castps_si512(_mm512_add_ps(x, _mm512_setzero_ps()));
  const __m512i flip = _mm512_srli_epi32(_mm512_srai_epi32(bits, 31), 1);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(_mm512_xor_si512(bits, flip), nan, _mm512_set1_epi32(INT32_MIN));
}

static inline float key_score(std::int32_t key) {
  return bits_float(static_cast<std::uint32_t>(
      key ^ static_cast<std::int32_t>(static_cast<std::uint32_t>(key >> 31) >> 1)));
}

static inline __mmask16 first_lanes(int n) {
  return static_cast<__mmask16>(n >= 16 ? 0xFFFFu : n <= 0 ? 0u : (1u << n) - 1u);
}

// Stores the lanes of `mask` at `to`, which has room for 16, and returns their number. (A compress
// into memory is microcode on Zen 4.)
static inline int keep_lanes(std::int32_t* to, __mmask16 mask, __m512i lanes) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(mask, lanes));
  return __builtin_popcount(mask);
}

struct KeyRange {
  std::int32_t low, high;
};
static KeyRange key_range(const std::int32_t* keys, int n) {
  __m512i low = _mm512_set1_epi32(INT32_MAX), high = _mm512_set1_epi32(INT32_MIN);
  for (int i = 0; i < n; i += 16) {
    const __m512i x = _mm512_loadu_si512(keys + i);
    const __mmask16 mask = first_lanes(n - i);
    low = _mm512_mask_min_epi32(low, mask, low, x);
    high = _mm512_mask_max_epi32(high, mask, high, x);
  }
  return {_mm512_reduce_min_epi32(low), _mm512_reduce_max_epi32(high)};
}

// The `rank`-th largest of `n` keys: halves the range of values until it holds one. `rank` becomes
// its rank among its equals. Room for n + 16 in `work`; the keys stay.
static std::int32_t select_key(const std::int32_t* keys, int n, int* rank, std::int32_t* work) {
  const std::int32_t* from = keys;
  for (;;) {
    const KeyRange range = key_range(from, n);
    if (range.low == range.high) return range.low;
    const std::int32_t middle =
        static_cast<std::int32_t>((std::int64_t{range.low} + range.high) >> 1);
    const __m512i limit = _mm512_set1_epi32(middle);
    int above = 0;
    for (int i = 0; i < n; i += 16) {
      const __m512i x = _mm512_loadu_si512(from + i);
      above += __builtin_popcount(_mm512_mask_cmpgt_epi32_mask(first_lanes(n - i), x, limit));
    }
    const bool upper = *rank <= above;
    if (!upper) *rank -= above;
    int kept = 0;
    for (int i = 0; i < n; i += 16) {
      const __m512i x = _mm512_loadu_si512(from + i);
      const __mmask16 mask = first_lanes(n - i), more = _mm512_cmpgt_epi32_mask(x, limit);
      kept += keep_lanes(work + kept, mask & (upper ? more : static_cast<__mmask16>(~more)), x);
    }
    from = work;
    n = kept;
  }
}

struct Candidates {
  std::int32_t *keys, *positions, *work;
  int count, keyed;  // how many there are, and how many of `keys` are keys and not yet scores
};

// Drops all but the k best, in their order, and returns the worst of them.
static std::int32_t shrink(Candidates* c, int k) {
  int equal = k;
  const std::int32_t worst = select_key(c->keys, c->count, &equal, c->work);
  const __m512i limit = _mm512_set1_epi32(worst);
  int kept = 0;
  for (int i = 0; i < c->count; i += 16) {
    const __m512i key = _mm512_loadu_si512(c->keys + i), at = _mm512_loadu_si512(c->positions + i);
    const __mmask16 lanes = first_lanes(c->count - i);
    __mmask16 same = _mm512_mask_cmpeq_epi32_mask(lanes, key, limit);
    __mmask16 mask = _mm512_mask_cmpgt_epi32_mask(lanes, key, limit);
    for (; same != 0 && equal > 0; --equal) {
      mask |= static_cast<__mmask16>(same & -same);
      same &= static_cast<__mmask16>(same - 1);
    }
    keep_lanes(c->keys + kept, mask, key);
    kept += keep_lanes(c->positions + kept, mask, at);
  }
  c->count = c->keyed = kept;
  return worst;
}

// A score that more than k of all should reach: from lines spread over the whole.
static float sampled_limit(const TopKParams& p, std::int32_t* sample, std::int32_t* work) {
  const int step = p.count / kSampleLines / 16 * 16, n = kSampleLines * 16;
  for (int i = 0; i < kSampleLines; ++i) {
    _mm512_storeu_si512(sample + i * 16, order_key(_mm512_loadu_ps(p.scores + i * step)));
  }
  const float share = static_cast<float>(p.top_k) / static_cast<float>(p.count);
  const float wanted = share * static_cast<float>(n);
  int rank = static_cast<int>(wanted + 4.0f * __builtin_sqrtf(wanted)) + 1;
  return rank < n ? key_score(select_key(sample, n, &rank, work)) : -__builtin_inff();
}

// Scores of the candidates that are not yet keys become keys.
static void make_keys(Candidates* c) {
  for (int i = c->keyed; i < c->count; i += 16) {
    _mm512_storeu_si512(c->keys + i, order_key(_mm512_loadu_ps(c->keys + i)));
  }
  c->keyed = c->count;
}

// Keeps what reaches the limit: few of 64 scores, taken one by one (a compress for each line that
// holds one costs more). The buffer takes `capacity`, and 64 more.
static void gather_candidates(const TopKParams& p, float limit, int capacity, Candidates* c) {
  __m512 least = _mm512_set1_ps(limit);
  for (int i = 0; i < p.count; i += 64) {
    std::uint64_t found = 0;
#pragma GCC unroll 4
    for (int j = 0; j < 64; j += 16) {
      const __m512 x = i + 64 <= p.count
                           ? _mm512_loadu_ps(p.scores + i + j)
                           : _mm512_maskz_loadu_ps(first_lanes(p.count - i - j), p.scores + i + j);
      found |= std::uint64_t{_mm512_cmp_ps_mask(x, least, _CMP_GE_OQ)} << j;
    }
    if (i + 64 > p.count) found &= (std::uint64_t{1} << (p.count - i)) - 1;  // not the zeros behind
    for (; found != 0; found &= found - 1) {
      const int at = i + __builtin_ctzll(found);
      c->positions[c->count] = at;
      std::memcpy(c->keys + c->count++, p.scores + at, sizeof(float));
    }
    if (c->count < capacity) continue;
    make_keys(c);
    least = _mm512_set1_ps(key_score(shrink(c, p.top_k) + 1));
  }
  make_keys(c);
}

// Everything is a candidate. False if there are NaNs.
static bool take_all(const TopKParams& p, Candidates* c) {
  __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int nan = 0;
  for (int i = 0; i < p.count; i += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
    const __m512 x = _mm512_maskz_loadu_ps(first_lanes(p.count - i), p.scores + i);
    nan |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    _mm512_storeu_si512(c->keys + i, order_key(x));
    _mm512_storeu_si512(c->positions + i, at);
  }
  c->count = c->keyed = p.count;
  return nan == 0;
}

static void top_k_avx512(const TopKParams& p) {
  const int capacity = 4 * p.top_k > 2 * kSampleLines * 16 ? 4 * p.top_k : 2 * kSampleLines * 16;
  Candidates c{};
  c.keys = reinterpret_cast<std::int32_t*>(p.scratch);
  c.positions = c.keys + capacity + kTopKSlack;
  c.work = c.positions + capacity + kTopKSlack;
  if (p.count <= p.top_k) return top_k(p);
  if (p.count <= capacity) {
    if (!take_all(p, &c)) return top_k(p);
  } else {
    const bool sample = p.top_k < p.count / 4;
    const float limit = sample ? sampled_limit(p, c.keys, c.work) : -__builtin_inff();
    gather_candidates(p, limit, capacity, &c);
    if (c.count < p.top_k) return top_k(p);  // NaNs among the best, or an unlucky sample
  }
  if (c.count > p.top_k) shrink(&c, p.top_k);
  std::memcpy(p.positions, c.positions, static_cast<std::size_t>(p.top_k) * sizeof(std::int32_t));
}
