// How each weight type becomes BF16 in registers: for gemm-bf16-inl.h and mla-bf16-inl.h.

// BF16 of every e4m3 magnitude times 2^k: 128 low bytes, then 128 high bytes.
struct alignas(64) CodeTable {
  std::uint8_t low[128], high[128];
};
constexpr int kMaxExponent = 100;  // Matrix::scales_are_pow2

// One table for every exponent field of a scale that Matrix::scales_are_pow2 allows, 0 for zero.
struct CodeTables {
  CodeTable at[256];
};

static constexpr CodeTable make_code_table(int field) {
  CodeTable t{};
  const bool zero = field < 127 - kMaxExponent || field > 127 + kMaxExponent;
  for (int code = 0; code < 128; ++code) {
    int mantissa = code & 7, power = code >> 3;
    if (power == 0) {  // subnormal: mantissa * 2^-9
      power = 1;
      while (mantissa != 0 && mantissa < 8) {
        mantissa *= 2;
        --power;
      }
    }
    // Value (1 + m / 8) * 2^(power - 7); BF16 keeps the 3 bits at the top of its 7.
    int bits = ((power - 7 + field) << 7) | ((mantissa & 7) << 4);
    if (code == 0 || zero) bits = 0;
    if (code == 127) bits = 0x7FC0;
    t.low[code] = static_cast<std::uint8_t>(bits & 255);
    t.high[code] = static_cast<std::uint8_t>(bits >> 8);
  }
  return t;
}

static constexpr CodeTables make_code_tables() {
  CodeTables all{};
  for (int field = 0; field < 256; ++field) all.at[field] = make_code_table(field);
  return all;
}
static constexpr CodeTables kCodeTables = make_code_tables();
// The table of a scale that is 0 or 2^k, |k| <= kMaxExponent.
static const CodeTable* code_table(float scale) { return &kCodeTables.at[float_bits(scale) >> 23]; }
// Whether a scale is such a one.
static bool is_table_scale(float scale) {
  const std::uint32_t bits = float_bits(scale);
  const int exponent = static_cast<int>(bits >> 23) - 127;  // a sign makes it large
  return bits == 0 ||
         ((bits & 0x7FFFFFu) == 0 && exponent >= -kMaxExponent && exponent <= kMaxExponent);
}

// The scales of one row: found once, read a block at a time.
struct ScaleRow {
  const std::byte* first;
  ScaleType type;

  float at(int block) const {
    if (type == ScaleType::f32) return load_f32(first + std::int64_t{4} * block);
    if (type == ScaleType::f16) return from_f16(load_u16(first + std::int64_t{2} * block));
    return from_e8m0(static_cast<std::uint8_t>(first[block]));
  }
  const CodeTable* table(int block) const {  // power-of-two scales
    if (type == ScaleType::e8m0) return &kCodeTables.at[static_cast<std::uint8_t>(first[block])];
    return code_table(load_f32(first + std::int64_t{4} * block));
  }
};

static ScaleRow scale_row(const Matrix& w, std::int64_t row) {
  const int bytes = w.scale_type == ScaleType::f32 ? 4 : w.scale_type == ScaleType::f16 ? 2 : 1;
  const std::int64_t block = w.scale_rows == 1 ? row : row / kBlock;
  return {w.scale + block * w.scale_stride * bytes, w.scale_type};
}

static inline __mmask64 first_bytes(int n) {
  return n >= 64 ? ~__mmask64{0} : n <= 0 ? 0 : (__mmask64{1} << n) - 1;
}

// The first n of 64 bytes at p, zeros behind. A whole line needs no mask.
template <bool Whole>
static inline __m512i load_bytes(const std::byte* p, int n) {
  return Whole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(first_bytes(n), p);
}

struct Lut {
  __m512i low0, low1, high0, high1;
};
static inline Lut load_lut(const CodeTable* t) {
  return {_mm512_load_si512(t->low), _mm512_load_si512(t->low + 64), _mm512_load_si512(t->high),
          _mm512_load_si512(t->high + 64)};
}

// 64 codes as BF16, in the order that unpacking leaves: of each 16 the first 8 to a, the rest to b.
static inline void decode_codes(__m512i codes, const Lut& t, __m512i* a, __m512i* b) {
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512i low = _mm512_permutex2var_epi8(t.low0, codes, t.low1);
  const __m512i size = _mm512_permutex2var_epi8(t.high0, codes, t.high1);
  // Flips the sign. As size ^ (codes & sign) it would become a VPTERNLOG, which has three sources,
  // as VDPBF16PS, and waits for it (Zen 4: 4 rows of x take 5 % longer).
  const __m512i high = _mm512_add_epi8(size, _mm512_and_si512(codes, sign));
  *a = _mm512_unpacklo_epi8(low, high);
  *b = _mm512_unpackhi_epi8(low, high);
}

namespace {  // members of a class are weak symbols elsewhere

// How rows of one weight type become blocks of 128 BF16 values in four registers, in the order in
// which pack() lays x out for that type. `n` columns exist; the rest are zeros, or meet zeros of x.
// `half` gives two of the four. kNear: gemv-bf16-inl.h.
struct Bf16Weights {
  static constexpr bool kBlockwise = false, kRowScales = false;
  static constexpr int kNear = 0;
  static inline Lut lut(const ScaleRow&, int) { return Lut{}; }
  static inline const std::byte* at(const Matrix& w, std::int64_t row, int k) {
    return w.data + 2 * (row * w.stride + k);
  }
  static constexpr int kBytes = 256;  // of a block
  template <bool Whole, int Half>
  static inline void half(const std::byte* p, int n, const Lut&, __m512i* v) {
    v[0] = load_bytes<Whole>(p + 128 * Half, 2 * n - 128 * Half);
    v[1] = load_bytes<Whole>(p + 128 * Half + 64, 2 * n - 128 * Half - 64);
  }
  template <bool Whole>
  static inline void decode(const std::byte* p, int n, const Lut& t, __m512i* v) {
    half<Whole, 0>(p, n, t, v);
    half<Whole, 1>(p, n, t, v + 2);
  }
};

struct Fp8Pow2Weights {
  static constexpr bool kBlockwise = false, kRowScales = false;
  static constexpr int kNear = 0;
  static inline Lut lut(const ScaleRow& scales, int block) { return load_lut(scales.table(block)); }
  static inline const std::byte* at(const Matrix& w, std::int64_t row, int k) {
    return w.data + row * w.stride + k;
  }
  static constexpr int kBytes = 128;
  template <bool Whole, int Half>
  static inline void half(const std::byte* p, int n, const Lut& t, __m512i* v) {
    decode_codes(load_bytes<Whole>(p + 64 * Half, n - 64 * Half), t, v, v + 1);
  }
  template <bool Whole>
  static inline void decode(const std::byte* p, int n, const Lut& t, __m512i* v) {
    half<Whole, 0>(p, n, t, v);
    half<Whole, 1>(p, n, t, v + 2);
  }
};

// Codes are read once, by force: a look-up destroys its index, and GCC would read them anew for
// each use. With one row of x loads are what bounds (Zen 4, from L2: 6.5 to 6.0 cycles a line);
// with more it is slower.
struct Fp8Pow2Once : Fp8Pow2Weights {
  static constexpr int kNear = 1024;
  template <bool Whole, int Half>
  static inline void half(const std::byte* p, int n, const Lut& t, __m512i* v) {
    if (!Whole) return Fp8Pow2Weights::half<Whole, Half>(p, n, t, v);
    decode_codes(*reinterpret_cast<const volatile __m512i_u*>(p + 64 * Half), t, v, v + 1);
  }
};

struct Fp8Weights : Fp8Pow2Weights {
  static constexpr bool kBlockwise = true;
  static constexpr int kNear = 1024;
  static inline Lut lut(const ScaleRow&, int) { return load_lut(code_table(1.0f)); }
};

// Magnitudes 0 to 127 through a table as e4m3's; -128 alone has none.
static constexpr CodeTable make_integer_table() {
  CodeTable t{};
  for (int i = 1; i < 128; ++i) {
    int top = 0;
    while ((i >> (top + 1)) != 0) ++top;
    const int bits = ((top + 127) << 7) | ((i << (7 - top)) & 127);
    t.low[i] = static_cast<std::uint8_t>(bits & 255);
    t.high[i] = static_cast<std::uint8_t>(bits >> 8);
  }
  return t;
}
static constexpr CodeTable kIntegerTable = make_integer_table();

struct Int8Weights {
  static constexpr bool kBlockwise = true, kRowScales = true;
  static constexpr int kNear = 1024;
  static inline Lut lut(const ScaleRow&, int) { return load_lut(&kIntegerTable); }
  static inline const std::byte* at(const Matrix& w, std::int64_t row, int k) {
    return w.data + row * w.stride + k;
  }
  static constexpr int kBytes = 128;
  template <bool Whole, int Half>
  static inline void half(const std::byte* p, int n, const Lut& t, __m512i* v) {
    const __m512i codes = load_bytes<Whole>(p + 64 * Half, n - 64 * Half);
    const __m512i size = _mm512_abs_epi8(codes), sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const __m512i low = _mm512_permutex2var_epi8(t.low0, size, t.low1);
    __m512i high = _mm512_permutex2var_epi8(t.high0, size, t.high1);
    high = _mm512_mask_mov_epi8(high, _mm512_cmpeq_epi8_mask(codes, sign), _mm512_set1_epi8(0x43));
    high = _mm512_ternarylogic_epi64(high, codes, sign, 0xF8);
    v[0] = _mm512_unpacklo_epi8(low, high);
    v[1] = _mm512_unpackhi_epi8(low, high);
  }
  template <bool Whole>
  static inline void decode(const std::byte* p, int n, const Lut& t, __m512i* v) {
    half<Whole, 0>(p, n, t, v);
    half<Whole, 1>(p, n, t, v + 2);
  }
};

// BF16 of n - 8 for a nibble n. The nibble above is the fifth bit of an index, and changes nothing.
struct alignas(64) NibbleTable {
  std::uint16_t at[32];
};
static constexpr NibbleTable make_nibble_table() {
  NibbleTable t{};
  for (int i = 0; i < 32; ++i) {
    const int value = i % 16 - 8, size = value < 0 ? -value : value;
    int top = 0;
    while ((size >> (top + 1)) != 0) ++top;
    const int bits = ((top + 127) << 7) | ((size << (7 - top)) & 127) | (value < 0 ? 0x8000 : 0);
    t.at[i] = static_cast<std::uint16_t>(size == 0 ? 0 : bits);
  }
  return t;
}
static constexpr NibbleTable kNibbleTable = make_nibble_table();

// Columns i, 4 + i, 8 + i, ... to register i: the i-th nibbles of 16-bit words.
struct Int4Weights {
  static constexpr bool kBlockwise = true, kRowScales = true;
  static constexpr int kNear = 1024;
  static inline Lut lut(const ScaleRow&, int) {
    return {_mm512_load_si512(kNibbleTable.at), __m512i{}, __m512i{}, __m512i{}};
  }
  static inline const std::byte* at(const Matrix& w, std::int64_t row, int k) {
    return w.data + ((row * w.stride + k) >> 1);
  }
  static constexpr int kBytes = 64;
  template <bool Whole, int Half>
  static inline void half(const std::byte* p, int n, const Lut& t, __m512i* v) {
    const __m512i words = load_bytes<Whole>(p, (n + 1) / 2);
    const __m512i first = Half == 0 ? words : shifted<8>(words);
    v[0] = _mm512_permutexvar_epi16(first, t.low0);
    v[1] = _mm512_permutexvar_epi16(shifted<8 * Half + 4>(words), t.low0);
  }
  template <bool Whole>
  static inline void decode(const std::byte* p, int n, const Lut& t, __m512i* v) {
    half<Whole, 0>(p, n, t, v);
    half<Whole, 1>(p, n, t, v + 2);
  }
  template <int Bits>
  static inline __m512i shifted(__m512i words) {
    return _mm512_srli_epi16(words, Bits);
  }
};

}  // namespace
