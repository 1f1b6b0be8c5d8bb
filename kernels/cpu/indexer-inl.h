// Topic indexer: index_store, index_query, index_scores, top_k.

constexpr int kMaxIndexDim = kBlock;  // one FP8 scale a key and a query

static void rotate_index(float* x, const float* rope, int n, bool interleave) {
  if (interleave) {
    rotate_pairs(x, rope, n);
    return;
  }
  const int half = n / 2;
  int i = 0;
  for (; i + 16 <= half; i += 16) {
    const Lanes c = lanes_load(rope + i), s = lanes_load(rope + half + i);
    const Lanes a = lanes_load(x + i), b = lanes_load(x + half + i);
    lanes_store(x + i, sub(mul(a, c), mul(b, s)));
    lanes_store(x + half + i, add(mul(a, s), mul(b, c)));
  }
  for (; i < half; ++i) {
    const float c = rope[i], s = rope[half + i];
    const float a = x[i], b = x[half + i];
    x[i] = a * c - b * s;
    x[half + i] = a * s + b * c;
  }
}

// x H / sqrt(n), H the Hadamard matrix in natural order; n a power of two.
static void hadamard(float* x, int n) {
  const float factor = 1.0f / __builtin_sqrtf(static_cast<float>(n));
  int width = 1;
  if (n % 16 == 0) {
    for (int i = 0; i < n; i += 16) lanes_store(x + i, hadamard16(lanes_load(x + i)));
    width = 16;
  }
  for (; width < n; width *= 2) {
    for (int i = 0; i < n; i += 2 * width) {
      int j = i;
      for (; j + 16 <= i + width; j += 16) {
        const Lanes a = lanes_load(x + j), b = lanes_load(x + j + width);
        lanes_store(x + j, add(a, b));
        lanes_store(x + j + width, sub(a, b));
      }
      for (; j < i + width; ++j) {
        const float a = x[j], b = x[j + width];
        x[j] = a + b;
        x[j + width] = a - b;
      }
    }
  }
  for (int i = 0; i < n; ++i) x[i] *= factor;
}

static void round_row(float* x, int n, ValueType type) {
  if (type == ValueType::f32) return;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    std::byte half[32];
    lanes_store_bf16(half, lanes_load(x + i));
    lanes_store(x + i, lanes_load_bf16(half));
  }
  for (; i < n; ++i) x[i] = round_bf16(x[i]);
}

// LayerNorm with the biased variance, in place, rounded to `type`.
static void layer_norm(float* x, const float* gain, const float* bias, int n, ValueType type) {
  float mean = 0.0f, variance = 0.0f;
  for (int i = 0; i < n; ++i) mean += x[i];
  mean /= static_cast<float>(n);
  for (int i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
  variance /= static_cast<float>(n);
  const float factor = 1.0f / __builtin_sqrtf(variance + kNormEps);
  for (int i = 0; i < n; ++i) x[i] = (x[i] - mean) * factor * gain[i] + bias[i];
  round_row(x, n, type);
}

// INT8 codes, and the scale as the result: NaN, which sorts last, if a value is not finite.
static float quantise_int8(const float* x, int n, std::uint8_t* out) {
  std::uint32_t largest = 0;  // as bits, where a NaN is largest
  for (int i = 0; i < n; ++i) {
    const std::uint32_t size = float_bits(x[i]) & 0x7FFFFFFFu;
    largest = size > largest ? size : largest;
  }
  const float scale = int8_scale(bits_float(largest));
  for (int i = 0; i < n; ++i) out[i] = static_cast<std::uint8_t>(to_int8(x[i], scale));
  return scale;
}

static void index_store(const IndexStoreParams& p) {
  const int dim = p.layout.index_dim;
  float x[kMaxIndexDim];
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    if (p.slots[t] < 0) continue;
    load_row(p.k, p.type, t * dim, dim, x);
    layer_norm(x, p.gain, p.bias, dim, p.type);
    rotate_index(x, p.rope + t * p.layout.rope, p.layout.rope, p.interleave);
    round_row(x, dim, p.type);
    const std::int64_t slot = p.slots[t], place = slot % kPageSize;
    std::byte* page = p.pages + slot / kPageSize * p.layout.index_page();
    if (p.layout.format == CacheLayout::Format::f32) {
      std::memcpy(page + place * dim * 4, x, static_cast<std::size_t>(dim) * 4);
      continue;
    }
    hadamard(x, dim);
    round_row(x, dim, p.type);
    auto* codes = reinterpret_cast<std::uint8_t*>(page) + place * dim;
    const float scale =
        p.layout.int8_index ? quantise_int8(x, dim, codes) : quantise_block(x, dim, p.pow2, codes);
    std::memcpy(page + std::int64_t{kPageSize} * dim + place * 4, &scale, sizeof scale);
  }
}

static void index_query(const IndexQueryParams& p) {
  const int dim = p.index_dim;
  const float head_factor = 1.0f / __builtin_sqrtf(static_cast<float>(p.num_heads));
  const float dim_factor = 1.0f / __builtin_sqrtf(static_cast<float>(dim));
  std::uint8_t codes[kMaxIndexDim];
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    for (std::int64_t h = t * p.num_heads; h < (t + 1) * p.num_heads; ++h) {
      float* x = p.out + h * dim;
      load_row(p.q, p.type, h * dim, dim, x);
      rotate_index(x, p.rope + t * p.rope_dim, p.rope_dim, p.interleave);
      round_row(x, dim, p.type);
      float scale = 1.0f;
      if (p.type == ValueType::bf16) {
        hadamard(x, dim);
        round_row(x, dim, p.type);
        scale = p.int8 ? quantise_int8(x, dim, codes) : quantise_block(x, dim, p.pow2, codes);
        load_row(reinterpret_cast<const std::byte*>(codes),
                 p.int8 ? ValueType::int8 : ValueType::e4m3, 0, dim, x);
      }
      p.out_weights[h] = p.head_weights[h] * head_factor * scale * dim_factor;
    }
  }
}

// One key's heads, in ascending order.
static float weighted_heads(const IndexScoresParams& p, const float* key) {
  const int dim = p.layout.index_dim;
  float sum = 0.0f;
  for (int h = 0; h < p.num_heads; ++h) {
    const float x = dot(p.q + std::int64_t{h} * dim, key, dim);
    sum += p.weights[h] * (x > 0.0f ? x : x == x ? 0.0f : x);
  }
  return sum;
}

// The same of codes, in lanes: what a set with instructions for bytes can repeat to the bit. A dot
// is an integer below 2^24, so exact in any order.
static float weighted_heads_int8(const IndexScoresParams& p, const float* key) {
  static_assert(kMaxIndexDim * 127 * 127 < 1 << 24);
  const int dim = p.layout.index_dim;
  Lanes sum = lanes_set(0.0f);
  for (int h = 0; h < p.num_heads; h += 16) {
    float dots[16] = {}, weights[16] = {};
    for (int i = 0; i < 16 && h + i < p.num_heads; ++i) {
      dots[i] = dot(p.q + std::int64_t{h + i} * dim, key, dim);
      weights[i] = p.weights[h + i];
    }
    sum = add(sum, mul(lanes_load(weights), max(lanes_load(dots), lanes_set(0.0f))));
  }
  return fold(sum);
}

static void index_scores(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim;
  const bool f32 = p.layout.format == CacheLayout::Format::f32;
  float* scale = p.scratch + std::int64_t{kPageSize} * dim;
  for (int s = p.first; s < p.last;) {
    const std::byte* page =
        p.pages + std::int64_t{p.page_table[s / kPageSize]} * p.layout.index_page();
    const int begin = s % kPageSize;
    const int n = p.last - s < kPageSize - begin ? p.last - s : kPageSize - begin;
    load_row(page, p.layout.index_type(), std::int64_t{begin} * dim, n * dim, p.scratch);
    for (int i = 0; i < n; ++i) {
      scale[i] = f32 ? 1.0f : load_f32(page + std::int64_t{kPageSize} * dim + (begin + i) * 4);
    }
    for (int i = 0; i < n; ++i, ++s) {
      const float* key = p.scratch + std::int64_t{i} * dim;
      const float sum = p.layout.int8_index ? weighted_heads_int8(p, key) : weighted_heads(p, key);
      p.scores[s] = sum * scale[i];
    }
  }
}

// A float as an integer of the same order: NaN lowest, then -infinity; -0 equals 0.
static std::uint32_t ordered(float x) {
  if (x != x) return 0;
  const std::uint32_t bits = float_bits(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The `wanted`-th largest of the ordered scores, by three histograms of 11, 11 and 10 bits. On
// return `wanted` says how many of those that equal it are among the best.
static std::uint32_t threshold(const TopKParams& p, int* wanted) {
  const int shifts[3] = {21, 10, 0}, sizes[3] = {2048, 2048, 1024};
  std::uint32_t prefix = 0, mask = 0;
  for (int pass = 0; pass < 3; ++pass) {
    for (int i = 0; i < sizes[pass]; ++i) p.scratch[i] = 0;
    for (int i = 0; i < p.count; ++i) {
      const std::uint32_t key = ordered(p.scores[i]);
      if ((key & mask) == prefix) {
        ++p.scratch[(key >> shifts[pass]) & static_cast<std::uint32_t>(sizes[pass] - 1)];
      }
    }
    int digit = sizes[pass] - 1;
    for (; static_cast<int>(p.scratch[digit]) < *wanted; --digit) {
      *wanted -= static_cast<int>(p.scratch[digit]);
    }
    prefix |= static_cast<std::uint32_t>(digit) << shifts[pass];
    mask |= static_cast<std::uint32_t>(sizes[pass] - 1) << shifts[pass];
  }
  return prefix;
}

static void top_k(const TopKParams& p) {
  int filled = 0;
  if (p.count <= p.top_k) {
    for (; filled < p.count; ++filled) p.positions[filled] = filled;
  } else {
    int equal = p.top_k;
    const std::uint32_t limit = threshold(p, &equal);
    for (int s = 0; s < p.count && filled < p.top_k; ++s) {
      const std::uint32_t key = ordered(p.scores[s]);
      if (key > limit || (key == limit && equal-- > 0)) p.positions[filled++] = s;
    }
  }
  for (; filled < p.top_k; ++filled) p.positions[filled] = -1;
}
