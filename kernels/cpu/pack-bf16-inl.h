// Topic gemm on VDPBF16PS, for BF16 rows against BF16, FP8, INT8 and INT4 weights where they lie.
// gemv-bf16-inl.h: few rows; gemm-bf16-inl.h: many.
//
// One order for every number of rows: K in chunks of kBf16Chunk; in a chunk 16 lanes, each one
// chain of VDPBF16PS over ascending blocks; a tree (tree8); chunk sums in ascending order.
// Power-of-two scales are part of the conversion. Other scales (blockwise) multiply a fresh chain
// of one block, lane by lane, before the tree.

constexpr int kBf16Chunk = 2048;

static bool takes_bf16(ValueType x, ValueType w) {
  return x != ValueType::f32 && w != ValueType::f32 && w != ValueType::f16;
}

// The order in which unpacking bytes leaves 64 columns: of each 16 the first 8, then the rest.
static __m512i unpack_order(int half) {
  const int add = half * 8;
  alignas(64) std::int16_t index[32];
  for (int i = 0; i < 32; ++i) index[i] = static_cast<std::int16_t>(i / 8 * 16 + i % 8 + add);
  return _mm512_load_si512(index);
}

// 128 values of a row of x as BF16 in natural order; zeros behind the last.
static void load_x_block(const PackParams& p, std::int64_t m, int k, __m512i* v) {
  const int n = p.cols - k < kBlock ? p.cols - k : kBlock;
  const std::int64_t first = m * p.x_stride + k;
  if (p.type == ValueType::bf16 && n == kBlock) {
    for (int i = 0; i < 4; ++i) v[i] = _mm512_loadu_si512(p.x + 2 * first + 64 * i);
    return;
  }
  alignas(64) std::uint16_t block[kBlock] = {};
  if (p.type == ValueType::bf16) {
    std::memcpy(block, p.x + 2 * first, 2 * static_cast<std::size_t>(n));
  } else {
    const int blocks = (p.cols + kBlock - 1) / kBlock;
    const Lanes scale = lanes_set(p.scale ? p.scale[m * blocks + k / kBlock] : 1.0f);
    for (int i = 0; i < n; i += 16) {
      const Lanes x = mul(load_lanes(p.x, p.type, first + i, n - i), scale);  // exact in BF16
      lanes_store_bf16(reinterpret_cast<std::byte*>(block + i), x);
    }
  }
  for (int i = 0; i < 4; ++i) v[i] = _mm512_load_si512(block + 32 * i);
}

// Whole blocks of codes as codes of weights become BF16. Whether it could.
static bool decode_x_block(const PackParams& p, std::int64_t m, int k, __m512i* v) {
  if (p.type != ValueType::e4m3 || p.w_type != ValueType::e4m3 || p.cols - k < kBlock) return false;
  const std::int64_t blocks = (p.cols + kBlock - 1) / kBlock;
  const float scale = p.scale ? p.scale[m * blocks + k / kBlock] : 1.0f;
  if (!is_table_scale(scale)) return false;
  Fp8Weights::decode<true>(p.x + m * p.x_stride + k, kBlock, load_lut(code_table(scale)), v);
  return true;
}

static void pack_bf16(const PackParams& p) {
  if (!takes_bf16(p.type, p.w_type)) {
    pack(p);
    return;
  }
  const __m512i first = unpack_order(0), second = unpack_order(1);
  alignas(64) std::int16_t step[32];
  for (int i = 0; i < 32; ++i) step[i] = static_cast<std::int16_t>(2 * i);
  const __m512i even = _mm512_load_si512(step);
  const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
  for (std::int64_t m = 0; m < p.num_rows; ++m) {
    std::byte* out = p.out + m * packed_row_bytes(p.cols);
    for (int k = 0; k < p.cols; k += kBlock, out += 2 * kBlock) {
      __m512i v[4];
      const bool ordered = decode_x_block(p, m, k, v);
      if (!ordered) load_x_block(p, m, k, v);
      if (p.w_type == ValueType::int4) {  // columns 4i, then 4i + 1, 4i + 2, 4i + 3
        const __m512i e0 = _mm512_permutex2var_epi16(v[0], even, v[1]);
        const __m512i e1 = _mm512_permutex2var_epi16(v[2], even, v[3]);
        const __m512i o0 = _mm512_permutex2var_epi16(v[0], odd, v[1]);
        const __m512i o1 = _mm512_permutex2var_epi16(v[2], odd, v[3]);
        v[0] = _mm512_permutex2var_epi16(e0, even, e1);
        v[1] = _mm512_permutex2var_epi16(o0, even, o1);
        v[2] = _mm512_permutex2var_epi16(e0, odd, e1);
        v[3] = _mm512_permutex2var_epi16(o0, odd, o1);
      } else if (p.w_type != ValueType::bf16 && !ordered) {
        for (int i = 0; i < 4; i += 2) {
          const __m512i a = _mm512_permutex2var_epi16(v[i], first, v[i + 1]);
          v[i + 1] = _mm512_permutex2var_epi16(v[i], second, v[i + 1]);
          v[i] = a;
        }
      }
      for (int i = 0; i < 4; ++i) _mm512_storeu_si512(out + 64 * i, v[i]);
    }
  }
}

static inline const std::byte* packed_x(const LinearParams& p, std::int64_t m, int k) {
  return p.x + m * packed_row_bytes(p.cols) + 2 * std::int64_t{k};
}

// The same product for rows [m, m + n) of x alone.
static LinearParams rows_of_x(LinearParams p, int m, int n) {
  p.x += m * packed_row_bytes(p.cols);
  if (p.x_scale) p.x_scale += std::int64_t{m} * ((p.cols + kBlock - 1) / kBlock);
  p.out += m * p.out_stride * (p.type == ValueType::f32 ? 4 : 2);
  p.num_rows = n;
  return p;
}

static inline __m512 dp(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// What a block's chain is multiplied by: both scales, lane by lane.
static inline __m512 multiplier(const LinearParams& p, const ScaleRow& scales, std::int64_t m,
                                int k) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  const float x_scale = p.x_scale ? p.x_scale[m * blocks + k / kBlock] : 1.0f;
  if (p.w.scale_cols == kBlock) return _mm512_set1_ps(scales.at(k / kBlock) * x_scale);
  const float a = scales.at(k / 64) * x_scale;  // as Int4Weights lays the lanes
  const float b = k + 64 < p.cols ? scales.at(k / 64 + 1) * x_scale : 0.0f;
  return _mm512_mask_mov_ps(_mm512_set1_ps(a), 0xFF00, _mm512_set1_ps(b));
}

// The tree over sixteen lanes: in each four of them (0 + 2) + (1 + 3), then of the four fours
// (0 + 1) + (2 + 3). Shuffles within 128 bits run beside VDPBF16PS, those across compete with it
// (Zen 4): here four out of sixteen cross, eight registers at a time; a tree that adds halves first
// has thirteen, and took a point of peak from the products with many rows.
static inline __m512 add_unpacked(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
// Four registers' fours, one lane for each register.
[[gnu::always_inline]] static inline __m512 tree_fours(const __m512* v) {
  const __m512d a = _mm512_castps_pd(add_unpacked(v[0], v[1]));
  const __m512d b = _mm512_castps_pd(add_unpacked(v[2], v[3]));
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}
[[gnu::always_inline]] static inline __m128 tree4(const __m512* v) {
  const __m512 fours = tree_fours(v);
  const __m512 pairs = _mm512_add_ps(fours, _mm512_shuffle_f32x4(fours, fours, 0xB1));
  return _mm512_castps512_ps128(_mm512_add_ps(pairs, _mm512_shuffle_f32x4(pairs, pairs, 0x4E)));
}
[[gnu::always_inline]] static inline __m256 tree8(const __m512* v) {
  const __m512 a = tree_fours(v), b = tree_fours(v + 4);
  const __m512 pairs =
      _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_shuffle_f32x4(pairs, pairs, 0xB1));
  return _mm512_castps512_ps256(_mm512_shuffle_f32x4(sums, sums, 0x08));
}
