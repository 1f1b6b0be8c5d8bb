// Sixteen floats in two registers. Names and meaning: lanes_generic-inl.h.

struct Lanes {
  __m256 lo, hi;
};

static inline Lanes lanes_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline Lanes lanes_load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void lanes_store(float* p, Lanes a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
static inline Lanes add(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline Lanes sub(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
static inline Lanes mul(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline Lanes div(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
static inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline Lanes max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
static inline Lanes abs(Lanes a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}
static inline __m256 power_of_two(__m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
static inline Lanes scale_by_power(Lanes a, Lanes n) {
  return {_mm256_mul_ps(a.lo, power_of_two(n.lo)), _mm256_mul_ps(a.hi, power_of_two(n.hi))};
}
static inline Lanes select_ge(Lanes x, float limit, Lanes if_true, Lanes if_false) {
  const __m256 least = _mm256_set1_ps(limit);
  return {_mm256_blendv_ps(if_false.lo, if_true.lo, _mm256_cmp_ps(x.lo, least, _CMP_GE_OQ)),
          _mm256_blendv_ps(if_false.hi, if_true.hi, _mm256_cmp_ps(x.hi, least, _CMP_GE_OQ))};
}
static inline Lanes keep_nan(Lanes x, Lanes otherwise) {
  return {_mm256_blendv_ps(otherwise.lo, x.lo, _mm256_cmp_ps(x.lo, x.lo, _CMP_UNORD_Q)),
          _mm256_blendv_ps(otherwise.hi, x.hi, _mm256_cmp_ps(x.hi, x.hi, _CMP_UNORD_Q))};
}

static inline __m128i load_128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
static inline __m128i load_64(const void* p) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
static inline __m256 widen_bf16(const std::byte* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
}
static inline Lanes lanes_load_bf16(const std::byte* p) {
  return {widen_bf16(p), widen_bf16(p + 16)};
}
static inline Lanes lanes_load_f16(const std::byte* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 16))};
}
// As halves: their bias of 15 instead of 7 is made up for by 2^8. A code goes into the top of a
// word, sign and rest to their places by one signed shift. The two NaNs come out as +-480.
static inline __m256i halves_of_e4m3(__m128i codes) {
  const __m256i top = _mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 8);
  return _mm256_and_si256(_mm256_srai_epi16(top, 1), _mm256_set1_epi16(static_cast<short>(0xBF80)));
}
static inline __m256 spoil_480(__m256 x) {
  const __m256 size = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)));
  return _mm256_or_ps(x, _mm256_cmp_ps(size, _mm256_set1_ps(480.0f), _CMP_EQ_OQ));
}
static inline Lanes lanes_load_e4m3(const std::byte* p) {
  const __m128i codes = load_128(p), rest = _mm_and_si128(codes, _mm_set1_epi8(0x7F));
  const __m256i halves = halves_of_e4m3(codes);
  const __m256 up = _mm256_set1_ps(256.0f);
  Lanes x{_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), up),
          _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), up)};
  if (_mm_movemask_epi8(_mm_cmpeq_epi8(rest, _mm_set1_epi8(0x7F))) != 0) {
    x = {spoil_480(x.lo), spoil_480(x.hi)};
  }
  return x;
}
static inline Lanes lanes_load_int8(const std::byte* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_64(p))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_64(p + 8)))};
}
static inline __m256i round_to_bf16(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i even = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_srli_epi32(_mm256_blendv_epi8(even, quiet, nan), 16);
}
static inline void lanes_store_bf16(std::byte* p, Lanes a) {
  const __m256i packed = _mm256_packus_epi32(round_to_bf16(a.lo), round_to_bf16(a.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}
static inline __m256i to_e4m3_codes(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
  const __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(size, 20), _mm256_set1_epi32(1));
  const __m256i even = _mm256_add_epi32(size, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF)));
  __m256i code = _mm256_sub_epi32(_mm256_srli_epi32(even, 20), _mm256_set1_epi32(120 << 3));
  const __m256 small = _mm256_add_ps(_mm256_castsi256_ps(size), _mm256_set1_ps(0x1p14f));
  const __m256i steps = _mm256_sub_epi32(_mm256_castps_si256(small), _mm256_set1_epi32(0x46800000));
  code = _mm256_blendv_epi8(code, steps, _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3C800000), size));
  code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7E),
                            _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x43DFFFFF)));
  code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7F),
                            _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7F800000)));
  return _mm256_or_si256(code, sign);
}
static inline void lanes_store_e4m3(std::uint8_t* p, Lanes a) {
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packus_epi32(to_e4m3_codes(a.lo), to_e4m3_codes(a.hi)), 0xD8);
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0xD8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bytes));
}

static inline float fold(Lanes a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
// Eight trees side by side: two in the halves of a register, then four, then all.
static inline __m256 fold_two(const float* a) {
  const __m256 x = _mm256_add_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(a + 8));
  const __m256 y = _mm256_add_ps(_mm256_loadu_ps(a + 16), _mm256_loadu_ps(a + 24));
  return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}
static inline __m256 fold_four(const float* a) {  // 0 and 2 in the lower half, 1 and 3 in the upper
  const __m256 x = fold_two(a), y = fold_two(a + 32);
  return _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xEE));
}
static inline void fold_eight(const float* a, float* out) {
  const __m256 x = fold_four(a), y = fold_four(a + 64);
  const __m256 sums = _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x88), _mm256_shuffle_ps(x, y, 0xDD));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(sums, order));
}
static inline float fold_max(Lanes a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline __m256 hadamard8(__m256 a) {
  __m256 b = _mm256_permute_ps(a, 0xB1);
  a = _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(b, a), 0xAA);
  b = _mm256_permute_ps(a, 0x4E);
  a = _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(b, a), 0xCC);
  b = _mm256_permute2f128_ps(a, a, 0x01);
  return _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(b, a), 0xF0);
}
static inline Lanes hadamard16(Lanes a) {
  const Lanes x{hadamard8(a.lo), hadamard8(a.hi)};
  return {_mm256_add_ps(x.lo, x.hi), _mm256_sub_ps(x.lo, x.hi)};
}
