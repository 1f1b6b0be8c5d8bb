// Sixteen floats in one register. Names and meaning: lanes_generic-inl.h.

struct Lanes {
  __m512 v;
};

static inline Lanes lanes_set(float x) { return {_mm512_set1_ps(x)}; }
static inline Lanes lanes_load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void lanes_store(float* p, Lanes a) { _mm512_storeu_ps(p, a.v); }
static inline Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Lanes sub(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline Lanes mul(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline Lanes div(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline Lanes abs(Lanes a) { return {_mm512_abs_ps(a.v)}; }
static inline Lanes scale_by_power(Lanes a, Lanes n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_mul_ps(a.v, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)))};
}
static inline Lanes select_ge(Lanes x, float limit, Lanes if_true, Lanes if_false) {
  const __mmask16 mask = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_GE_OQ);
  return {_mm512_mask_mov_ps(if_false.v, mask, if_true.v)};
}
static inline Lanes keep_nan(Lanes x, Lanes otherwise) {
  return {_mm512_mask_mov_ps(otherwise.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), x.v)};
}

static inline Lanes lanes_load_bf16(const std::byte* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
static inline Lanes lanes_load_f16(const std::byte* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
// An e4m3 code's bits, moved up by 7, are an f16 of 2^-8 its value; only NaN (0x7F) is none.
static inline Lanes lanes_load_e4m3(const std::byte* p) {
  const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
  const __m256i rest = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7F)), 7);
  const __m512 x = _mm512_cvtph_ps(_mm256_or_si256(sign, rest));
  const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(1.875f), _CMP_EQ_OQ);
  const __m512 value = _mm512_mul_ps(x, _mm512_set1_ps(256.0f));
  return {_mm512_mask_mov_ps(value, nan, _mm512_set1_ps(__builtin_nanf("")))};
}
static inline Lanes lanes_load_int8(const std::byte* p) {
  const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(code))};
}
static inline void lanes_store_bf16(std::byte* p, Lanes a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i even = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i rounded = _mm512_srli_epi32(_mm512_mask_mov_epi32(even, nan, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
static inline void lanes_store_e4m3(std::uint8_t* p, Lanes a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
  const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(size, 20), _mm512_set1_epi32(1));
  const __m512i even = _mm512_add_epi32(size, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFFF)));
  __m512i code = _mm512_sub_epi32(_mm512_srli_epi32(even, 20), _mm512_set1_epi32(120 << 3));
  // Below 2^-6: multiples of 2^-9, which adding 2^14 rounds to.
  const __m512 small = _mm512_add_ps(_mm512_castsi512_ps(size), _mm512_set1_ps(0x1p14f));
  const __m512i steps = _mm512_sub_epi32(_mm512_castps_si512(small), _mm512_set1_epi32(0x46800000));
  code = _mm512_mask_mov_epi32(code, _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x3C800000)),
                               steps);
  code = _mm512_mask_mov_epi32(code, _mm512_cmpge_epi32_mask(size, _mm512_set1_epi32(0x43E00000)),
                               _mm512_set1_epi32(0x7E));
  code = _mm512_mask_mov_epi32(code, _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7F800000)),
                               _mm512_set1_epi32(0x7F));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
}

static inline float fold(Lanes a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
static inline void fold_eight(const float* a, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = fold(lanes_load(a + 16 * i));
}
static inline float fold_max(Lanes a) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline Lanes hadamard16(Lanes a) {
  const auto step = [&a](__m512 other, __mmask16 upper) {
    a.v = _mm512_mask_sub_ps(_mm512_add_ps(a.v, other), upper, other, a.v);
  };
  step(_mm512_permute_ps(a.v, 0xB1), 0xAAAA);
  step(_mm512_permute_ps(a.v, 0x4E), 0xCCCC);
  step(_mm512_shuffle_f32x4(a.v, a.v, 0xB1), 0xF0F0);
  step(_mm512_shuffle_f32x4(a.v, a.v, 0x4E), 0xFF00);
  return a;
}
