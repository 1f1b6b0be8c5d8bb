// Topic dense: embed, add_rms_norm, silu_mul, quantise. And what the other topics share: rows as
// f32, the dot product with its order of sums, exp. Included once by each isa_*.cc.

// The fixed tree over 16 lanes.
static float fold(float* lane) {
  for (int width = 8; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

// The one order of sums of a product of two rows: 16 lanes, each in ascending index, then a fixed
// tree over the lanes.
static float dot(const float* a, const float* b, int n) {
  float lane[16] = {};
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; ++j) lane[j] += a[i + j] * b[i + j];
  }
  for (int j = 0; i + j < n; ++j) lane[j] += a[i + j] * b[i + j];
  return fold(lane);
}

// e^x by Cody and Waite's reduction and a polynomial of degree 6: within 2 ulp, the same bits
// wherever it is compiled.
static float exp_f32(float x) {
  if (!(x > -87.0f)) return x != x ? x : 0.0f;
  if (x > 88.0f) return bits_float(0x7F800000u);
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::uint32_t exponent = float_bits(shifted) - float_bits(12582912.0f) + 127u;
  return p * bits_float(exponent << 23);
}

static float sigmoid(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

// `n` values from element `first` on, as f32; e4m3 without scales.
static void load_row(const std::byte* data, ValueType type, std::int64_t first, int n, float* out) {
  switch (type) {
    case ValueType::f32:
      std::memcpy(out, data + 4 * first, 4 * static_cast<std::size_t>(n));
      return;
    case ValueType::bf16:
      for (int i = 0; i < n; ++i) out[i] = from_bf16(load_u16(data + 2 * (first + i)));
      return;
    case ValueType::f16:
      for (int i = 0; i < n; ++i) out[i] = from_f16(load_u16(data + 2 * (first + i)));
      return;
    case ValueType::e4m3:
      for (int i = 0; i < n; ++i) out[i] = kE4m3.value[static_cast<std::uint8_t>(data[first + i])];
      return;
  }
}

// `n` weights of one row from column `first` (a multiple of kBlock) on, times their scales.
static void load_weights(const Matrix& w, std::int64_t row, int first, int n, float* out) {
  load_row(w.data, w.type, row * w.stride + first, n, out);
  if (w.type != ValueType::e4m3) return;
  for (int i = 0; i < n; i += kBlock) {
    const float scale = block_scale(w, row, first + i);
    const int end = i + kBlock < n ? i + kBlock : n;
    for (int j = i; j < end; ++j) out[j] *= scale;
  }
}

// Rotates pairs (2i, 2i + 1) of x[0, n); `rope` holds n / 2 cosines, then as many sines.
static void rotate_pairs(float* x, const float* rope, int n) {
  for (int i = 0; i < n / 2; ++i) {
    const float c = rope[i], s = rope[n / 2 + i];
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = a * s + b * c;
  }
}

static void embed(const EmbedParams& p) {
  for (int t = 0; t < p.num_rows; ++t) {
    const std::int64_t row = p.tokens[t];
    for (int c = 0; c < p.cols; ++c) {
      const float x = load_value(p.table.data, p.table.type, row * p.table.stride + c);
      store_value(p.out, p.type, static_cast<std::int64_t>(t) * p.cols + c, x);
    }
  }
}

static void add_rms_norm(const NormParams& p) {
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    float lane[16] = {};
    for (int c = 0; c < p.cols; ++c) {
      float s = load_value(p.x, p.x_type, t * p.x_stride + c);
      if (p.residual) s += load_value(p.residual, p.type, t * p.residual_stride + c);
      lane[c % 16] += s * s;
    }
    const float mean = fold(lane) / static_cast<float>(p.cols);
    const float factor = 1.0f / __builtin_sqrtf(mean + p.eps);
    for (int c = 0; c < p.cols; ++c) {
      float s = load_value(p.x, p.x_type, t * p.x_stride + c);
      if (p.residual) {
        s += load_value(p.residual, p.type, t * p.residual_stride + c);
        store_value(p.residual, p.type, t * p.residual_stride + c, s);
      }
      store_value(p.out, p.type, t * p.out_stride + c, p.gain[c] * (s * factor));
    }
  }
}

static void silu_mul(const SiluMulParams& p) {
  const std::int64_t count = static_cast<std::int64_t>(p.num_rows) * p.cols;
  for (std::int64_t i = 0; i < count; ++i) {
    const float g = load_value(p.gate, p.type, i);
    store_value(p.out, p.type, i, g * sigmoid(g) * load_value(p.up, p.type, i));
  }
}

// One block of at most kBlock values: codes, and the scale as the result.
static float quantise_block(const float* x, int n, bool pow2, std::uint8_t* out) {
  float amax = 0.0f;
  for (int i = 0; i < n; ++i) {
    const float size = x[i] < 0 ? -x[i] : x[i];
    if (size > amax) amax = size;
  }
  const float scale = fp8_scale(amax, pow2);
  for (int i = 0; i < n; ++i) out[i] = to_e4m3(x[i] / scale);
  return scale;
}

static void quantise(const QuantiseParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  float block[kBlock];
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    for (int b = 0; b < blocks; ++b) {
      const int first = b * kBlock;
      const int n = p.cols - first < kBlock ? p.cols - first : kBlock;
      load_row(p.x, p.type, t * p.x_stride + first, n, block);
      p.scale[t * blocks + b] = quantise_block(block, n, p.pow2, p.out + t * p.cols + first);
    }
  }
}
