// Sixteen floats, portable: the same names as in lanes_avx2-inl.h and lanes_avx512-inl.h. A sum of
// products rounds twice here and once there; otherwise the sets agree.

struct Lanes {
  float v[16];
};

static inline Lanes lanes_set(float x) {
  Lanes r;
  for (float& lane : r.v) lane = x;
  return r;
}
static inline Lanes lanes_load(const float* p) {
  Lanes r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
static inline void lanes_store(float* p, Lanes a) { std::memcpy(p, a.v, sizeof a.v); }
static inline Lanes add(Lanes a, Lanes b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
static inline Lanes sub(Lanes a, Lanes b) {
  for (int i = 0; i < 16; ++i) a.v[i] -= b.v[i];
  return a;
}
static inline Lanes mul(Lanes a, Lanes b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
static inline Lanes div(Lanes a, Lanes b) {
  for (int i = 0; i < 16; ++i) a.v[i] /= b.v[i];
  return a;
}
// a b + c
static inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  for (int i = 0; i < 16; ++i) c.v[i] += a.v[i] * b.v[i];
  return c;
}
// The larger; b where either is NaN, as maxps.
static inline Lanes max(Lanes a, Lanes b) {
  for (int i = 0; i < 16; ++i) b.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return b;
}
static inline Lanes abs(Lanes a) {
  for (float& lane : a.v) lane = bits_float(float_bits(lane) & 0x7FFFFFFFu);
  return a;
}
// 2^n for whole n in [-126, 127], times a.
static inline Lanes scale_by_power(Lanes a, Lanes n) {
  for (int i = 0; i < 16; ++i) {
    a.v[i] *= bits_float(static_cast<std::uint32_t>(static_cast<std::int32_t>(n.v[i]) + 127) << 23);
  }
  return a;
}
// if_true where x is at least limit, else if_false (also where x is NaN).
static inline Lanes select_ge(Lanes x, float limit, Lanes if_true, Lanes if_false) {
  for (int i = 0; i < 16; ++i) if_false.v[i] = x.v[i] >= limit ? if_true.v[i] : if_false.v[i];
  return if_false;
}
// x where it is NaN, else `otherwise`.
static inline Lanes keep_nan(Lanes x, Lanes otherwise) {
  for (int i = 0; i < 16; ++i) otherwise.v[i] = x.v[i] != x.v[i] ? x.v[i] : otherwise.v[i];
  return otherwise;
}

static inline Lanes lanes_load_bf16(const std::byte* p) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = from_bf16(load_u16(p + 2 * i));
  return r;
}
static inline Lanes lanes_load_f16(const std::byte* p) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = from_f16(load_u16(p + 2 * i));
  return r;
}
static inline Lanes lanes_load_e4m3(const std::byte* p) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = kE4m3.value[static_cast<std::uint8_t>(p[i])];
  return r;
}
static inline Lanes lanes_load_int8(const std::byte* p) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(static_cast<std::int8_t>(p[i]));
  return r;
}
// Round to nearest even; a NaN stays one.
static inline void lanes_store_bf16(std::byte* p, Lanes a) {
  for (int i = 0; i < 16; ++i) {
    const std::uint16_t half = to_bf16(a.v[i]);
    std::memcpy(p + 2 * i, &half, sizeof half);
  }
}
// Round to nearest even, saturating at +-448.
static inline void lanes_store_e4m3(std::uint8_t* p, Lanes a) {
  for (int i = 0; i < 16; ++i) p[i] = to_e4m3(a.v[i]);
}

// The fixed tree over the lanes: halves are added until one is left.
static inline float fold(Lanes a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) a.v[j] += a.v[j + width];
  }
  return a.v[0];
}
// The same of eight, whose lanes lie behind each other.
static inline void fold_eight(const float* a, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = fold(lanes_load(a + 16 * i));
}
static inline float fold_max(Lanes a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) a.v[j] = a.v[j] > a.v[j + width] ? a.v[j] : a.v[j + width];
  }
  return a.v[0];
}

// The lanes times the Hadamard matrix of order 16 in natural order, unscaled.
static inline Lanes hadamard16(Lanes a) {
  for (int width = 1; width < 16; width *= 2) {
    for (int i = 0; i < 16; ++i) {
      if ((i & width) != 0) continue;
      const float x = a.v[i], y = a.v[i + width];
      a.v[i] = x + y;
      a.v[i + width] = x - y;
    }
  }
  return a;
}
