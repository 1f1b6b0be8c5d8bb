// BF16 columns in registers, and latent records as rows of them: for mla-bf16-inl.h,
// mla-absorb-bf16-inl.h, mla-expand-bf16-inl.h and indexer-bf16-inl.h.

constexpr int kColumns = 64;  // columns of a block of values: four registers of 16

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

// BF16 columns next to those of another row: 16 dwords (a, b) of columns 0 to 3 of each lane of
// 128 bits, then of columns 4 to 7. With zeros for `a` they are b's columns as f32.
static inline void split_columns(__m512i a, __m512i b, __m512i* low, __m512i* high) {
  *low = _mm512_unpacklo_epi16(a, b);
  *high = _mm512_unpackhi_epi16(a, b);
}
static inline __m512i join_columns(__m512 low, __m512 high) {
  const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), both);
}

// Lanes of (a, b) as BF16, and back.
static inline __m512i pair_bf16(__m512 a, __m512 b) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)));
}
static inline __m512 even_columns(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
static inline __m512 odd_columns(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

// 32 BF16 values times a scale, rounded.
static inline __m512i scale_columns(__m512i x, __m512 scale) {
  __m512i low, high;
  split_columns(_mm512_setzero_si512(), x, &low, &high);
  return join_columns(_mm512_mul_ps(_mm512_castsi512_ps(low), scale),
                      _mm512_mul_ps(_mm512_castsi512_ps(high), scale));
}

// 64 codes times a scale, rounded to BF16.
static inline void dequantise_codes(__m512i codes, float scale, const Lut& unit, __m512i* first,
                                    __m512i* second) {
  decode_codes(codes, unit, first, second);
  *first = scale_columns(*first, _mm512_set1_ps(scale));
  *second = scale_columns(*second, _mm512_set1_ps(scale));
}

// 64 columns of a record from `c` on, in the order of decode_codes.
static inline void load_columns(const CacheLayout& layout, const std::byte* rec, int c,
                                __m512i* first, __m512i* second) {
  if (layout.format != CacheLayout::Format::fp8) {
    to_decoded(_mm512_loadu_si512(rec + 2 * c), _mm512_loadu_si512(rec + 2 * c + 64), first,
               second);
    return;
  }
  const float scale = load_f32(rec + layout.latent + c / kBlock * 4);
  const __m512i codes = _mm512_loadu_si512(rec + c);
  if (is_table_scale(scale)) {
    decode_codes(codes, load_lut(code_table(scale)), first, second);
  } else {
    dequantise_codes(codes, scale, load_lut(code_table(1.0f)), first, second);
  }
}

static inline void copy_rope(const CacheLayout& layout, const std::byte* rec, std::uint32_t* key) {
  std::memcpy(key + layout.latent / 2,
              rec + layout.latent * layout.value_bytes() + 4 * layout.scales(),
              static_cast<std::size_t>(layout.rope) * 2);
}

// A record as a key row and as a row of f32 values.
static void unpack_record(const CacheLayout& layout, const std::byte* rec, std::uint32_t* key,
                          std::uint32_t* values) {
  const __m512i zero = _mm512_setzero_si512();
  for (int c = 0; c < layout.latent; c += kColumns) {
    __m512i x[2], out[4];
    load_columns(layout, rec, c, x, x + 1);
    split_columns(zero, x[0], out, out + 1);
    split_columns(zero, x[1], out + 2, out + 3);
    for (int i = 0; i < 2; ++i) _mm512_storeu_si512(key + c / 2 + 16 * i, x[i]);
    for (int i = 0; i < 4; ++i) _mm512_storeu_si512(values + c * kGroup + 16 * i, out[i]);
  }
  copy_rope(layout, rec, key);
}

// Two records as key rows and as a row of pairs of values; the second may be absent.
static void unpack_pair(const CacheLayout& layout, const std::byte* a, const std::byte* b,
                        std::uint32_t* key, std::uint32_t* values) {
  const int pairs = (layout.latent + layout.rope) / 2;
  for (int c = 0; c < layout.latent; c += kColumns) {
    __m512i x[2], y[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()}, out[4];
    load_columns(layout, a, c, x, x + 1);
    if (b != nullptr) load_columns(layout, b, c, y, y + 1);
    split_columns(x[0], y[0], out, out + 1);
    split_columns(x[1], y[1], out + 2, out + 3);
    for (int i = 0; i < 2; ++i) _mm512_storeu_si512(key + c / 2 + 16 * i, x[i]);
    for (int i = 0; i < 2; ++i) _mm512_storeu_si512(key + pairs + c / 2 + 16 * i, y[i]);
    for (int i = 0; i < 4; ++i) _mm512_storeu_si512(values + c * (kGroup / 2) + 16 * i, out[i]);
  }
  copy_rope(layout, a, key);
  if (b != nullptr) copy_rope(layout, b, key + pairs);
}

// Always inline: GCC 12 takes a function that only prefetches for one without effects, and drops
// its calls.
[[gnu::always_inline]] static inline void prefetch_record(const CacheLayout& layout,
                                                          const std::byte* rec) {
  for (int i = 0; i < layout.latent_record(); i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(rec) + i, _MM_HINT_T1);
  }
}
