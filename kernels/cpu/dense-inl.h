// Topic dense: embed, add_rms_norm, silu_mul, quantise. And what the other topics share: rows as
// f32, the dot product with its order of sums, exp. Included once by each isa_*.cc.

// `n` values from element `i` on; at most 16, the rest are zeros.
static Lanes load_lanes(const std::byte* data, ValueType type, std::int64_t i, int n) {
  if (n >= 16) {
    switch (type) {
      case ValueType::f32:
        return lanes_load(reinterpret_cast<const float*>(data + 4 * i));
      case ValueType::bf16:
        return lanes_load_bf16(data + 2 * i);
      case ValueType::f16:
        return lanes_load_f16(data + 2 * i);
      case ValueType::e4m3:
        return lanes_load_e4m3(data + i);
      case ValueType::int8:
        return lanes_load_int8(data + i);
      case ValueType::int4:
        break;
    }
  }
  float part[16] = {};
  for (int j = 0; j < n && j < 16; ++j) part[j] = load_value(data, type, i + j);
  return lanes_load(part);
}

// The first `n` lanes, at most 16, rounded to `type`, f32 or bf16.
static void store_lanes(std::byte* data, ValueType type, std::int64_t i, Lanes x, int n) {
  if (n >= 16 && type == ValueType::f32) {
    lanes_store(reinterpret_cast<float*>(data + 4 * i), x);
  } else if (n >= 16) {
    lanes_store_bf16(data + 2 * i, x);
  } else {
    float part[16];
    lanes_store(part, x);
    for (int j = 0; j < n; ++j) store_value(data, type, i + j, part[j]);
  }
}

// The one order of sums of a product of two rows: 16 lanes, each in ascending index, then a fixed
// tree over the lanes.
static float dot(const float* a, const float* b, int n) {
  Lanes sum = lanes_set(0.0f);
  int i = 0;
  for (; i + 16 <= n; i += 16) sum = fma(lanes_load(a + i), lanes_load(b + i), sum);
  if (i < n) {
    const auto* tail_a = reinterpret_cast<const std::byte*>(a + i);
    const auto* tail_b = reinterpret_cast<const std::byte*>(b + i);
    sum = fma(load_lanes(tail_a, ValueType::f32, 0, n - i),
              load_lanes(tail_b, ValueType::f32, 0, n - i), sum);
  }
  return fold(sum);
}

// e^x by Cody and Waite's reduction and a polynomial of degree 6: within 2 ulp; 0 below -87,
// infinity above 88.
static Lanes exp_lanes(Lanes x) {
  const Lanes magic = lanes_set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Lanes high = select_ge(x, 88.0f, lanes_set(88.0f), x);
  const Lanes in = select_ge(high, -87.0f, high, lanes_set(-87.0f));
  const Lanes n = sub(fma(in, lanes_set(1.44269504f), magic), magic);
  const Lanes r = fma(n, lanes_set(2.12194440e-4f), fma(n, lanes_set(-0.693359375f), in));
  Lanes p = lanes_set(1.9875691500e-4f);
  const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                                1.6666665459e-1f, 5.0000001201e-1f};
  for (const float c : coefficients) p = fma(p, r, lanes_set(c));
  p = add(fma(p, mul(r, r), r), lanes_set(1.0f));
  const Lanes power = scale_by_power(p, n);
  const Lanes infinity = lanes_set(bits_float(0x7F800000u));
  const Lanes finite = select_ge(x, 88.0f, infinity, power);
  return keep_nan(x, select_ge(x, -87.0f, finite, lanes_set(0.0f)));
}

static float exp_f32(float x) {
  float out[16];
  lanes_store(out, exp_lanes(lanes_set(x)));
  return out[0];
}

static Lanes sigmoid_lanes(Lanes x) {
  const Lanes one = lanes_set(1.0f);
  return div(one, add(one, exp_lanes(sub(lanes_set(0.0f), x))));
}

// `n` values from element `first` on, as f32; codes without scales.
static void load_row(const std::byte* data, ValueType type, std::int64_t first, int n, float* out) {
  int i = 0;
  if (type == ValueType::e4m3) {  // of the types that most weights have, loops without a choice
    for (; i + 16 <= n; i += 16) lanes_store(out + i, lanes_load_e4m3(data + first + i));
  } else if (type == ValueType::bf16) {
    for (; i + 16 <= n; i += 16) lanes_store(out + i, lanes_load_bf16(data + 2 * (first + i)));
  }
  for (; i + 16 <= n; i += 16) lanes_store(out + i, load_lanes(data, type, first + i, 16));
  for (; i < n; ++i) out[i] = load_value(data, type, first + i);
}

// `n` weights of one row from column `first` (a multiple of its scale's columns) on, times their
// scales.
static void load_weights(const Matrix& w, std::int64_t row, int first, int n, float* out) {
  load_row(w.data, w.type, row * w.stride + first, n, out);
  if (!has_scale(w.type)) return;
  for (int i = 0; i < n; i += w.scale_cols) {
    const float scale = block_scale(w, row, first + i);
    const int end = i + w.scale_cols < n ? i + w.scale_cols : n;
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
    const std::int64_t row = p.tokens[t], out = static_cast<std::int64_t>(t) * p.cols;
    for (int c = 0; c < p.cols; c += 16) {
      const Lanes x = load_lanes(p.table.data, p.table.type, row * p.table.stride + c, p.cols - c);
      store_lanes(p.out, p.type, out + c, x, p.cols - c);
    }
  }
}

static void add_rms_norm(const NormParams& p) {
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    const std::int64_t x = t * p.x_stride, r = t * p.residual_stride;
    const auto sum_at = [&](int c) {
      const Lanes s = load_lanes(p.x, p.x_type, x + c, p.cols - c);
      return p.residual ? add(s, load_lanes(p.residual, p.type, r + c, p.cols - c)) : s;
    };
    Lanes squares = lanes_set(0.0f);
    for (int c = 0; c < p.cols; c += 16) {
      const Lanes s = sum_at(c);
      squares = fma(s, s, squares);
    }
    const float mean = fold(squares) / static_cast<float>(p.cols);
    const Lanes factor = lanes_set(1.0f / __builtin_sqrtf(mean + p.eps));
    for (int c = 0; c < p.cols; c += 16) {
      const Lanes s = sum_at(c);
      if (p.residual) store_lanes(p.residual, p.type, r + c, s, p.cols - c);
      const auto* gain = reinterpret_cast<const std::byte*>(p.gain);
      const Lanes scaled = mul(load_lanes(gain, ValueType::f32, c, p.cols - c), mul(s, factor));
      store_lanes(p.out, p.type, t * p.out_stride + c, scaled, p.cols - c);
    }
  }
}

static void silu_mul(const SiluMulParams& p) {
  const std::int64_t count = static_cast<std::int64_t>(p.num_rows) * p.cols;
  for (std::int64_t i = 0; i < count; i += 16) {
    const int n = count - i < 16 ? static_cast<int>(count - i) : 16;
    const Lanes g = load_lanes(p.gate, p.type, i, n), u = load_lanes(p.up, p.type, i, n);
    store_lanes(p.out, p.type, i, mul(mul(g, sigmoid_lanes(g)), u), n);
  }
}

// One block of at most kBlock values: codes, and the scale as the result. NaN does not raise the
// largest magnitude, and becomes a NaN code.
static float quantise_block(const float* x, int n, bool pow2, std::uint8_t* out) {
  Lanes largest = lanes_set(0.0f);
  const auto* from = reinterpret_cast<const std::byte*>(x);
  for (int i = 0; i < n; i += 16) {
    largest = max(abs(load_lanes(from, ValueType::f32, i, n - i)), largest);
  }
  const float scale = fp8_scale(fold_max(largest), pow2);
  int i = 0;
  if (pow2) {  // multiplying by its inverse is the same
    const Lanes factor = lanes_set(1.0f / scale);
    for (; i + 16 <= n; i += 16) lanes_store_e4m3(out + i, mul(lanes_load(x + i), factor));
  } else {
    const Lanes divisor = lanes_set(scale);
    for (; i + 16 <= n; i += 16) lanes_store_e4m3(out + i, div(lanes_load(x + i), divisor));
  }
  for (; i < n; ++i) out[i] = to_e4m3(x[i] / scale);
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
