// Topic mla: mla_store, mla_absorb, sparse_mla, mla_expand.

static ValueType stored_type(const CacheLayout& layout) {
  return layout.format == CacheLayout::Format::f32 ? ValueType::f32 : ValueType::bf16;
}

// Writes normed latent values; block by block, because widths have no bound.
static void store_latent(const MlaStoreParams& p, const float* x, int first, int n,
                         std::byte* rec) {
  if (p.layout.format == CacheLayout::Format::fp8) {
    const float scale = quantise_block(x, n, p.pow2, reinterpret_cast<std::uint8_t*>(rec) + first);
    std::memcpy(rec + p.layout.latent + first / kBlock * 4, &scale, sizeof scale);
  } else {
    for (int i = 0; i < n; ++i) store_value(rec, stored_type(p.layout), first + i, x[i]);
  }
}

// Where the values of rotated pair i lie: at i * step, and `gap` behind that.
struct PairPlaces {
  int step, gap;
};

static PairPlaces pair_places(int rope, bool interleave) {
  return interleave ? PairPlaces{2, 1} : PairPlaces{1, rope / 2};
}

static void mla_store(const MlaStoreParams& p) {
  const int latent = p.layout.latent, rope = p.layout.rope;
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    if (p.slots[t] < 0) continue;
    const std::int64_t row = t * (latent + rope);
    std::byte* rec = p.latent + std::int64_t{p.slots[t]} * p.layout.latent_record();
    float block[kBlock];
    Lanes squares = lanes_set(0.0f);
    for (int c = 0; c < latent; c += 16) {
      const Lanes x = load_lanes(p.kv, p.type, row + c, latent - c);
      squares = fma(x, x, squares);
    }
    const float mean = fold(squares) / static_cast<float>(latent);
    const float factor = 1.0f / __builtin_sqrtf(mean + kNormEps);
    for (int first = 0; first < latent; first += kBlock) {
      const int n = latent - first < kBlock ? latent - first : kBlock;
      load_row(p.kv, p.type, row + first, n, block);
      for (int i = 0; i < n; ++i) {
        block[i] = round_to(p.type, p.gain[first + i] * (block[i] * factor));
      }
      store_latent(p, block, first, n, rec);
    }
    std::byte* tail = rec + latent * p.layout.value_bytes() + 4 * p.layout.scales();
    const float* angle = p.rope + t * rope;
    const PairPlaces place = pair_places(rope, p.interleave);
    for (int i = 0; i < rope / 2; ++i) {
      const int a = i * place.step, b = a + place.gap;
      float pair[2] = {load_value(p.kv, p.type, row + latent + a),
                       load_value(p.kv, p.type, row + latent + b)};
      const float cs[2] = {angle[i], angle[rope / 2 + i]};
      rotate_pairs(pair, cs, 2);
      store_value(tail, stored_type(p.layout), a, pair[0]);
      store_value(tail, stored_type(p.layout), b, pair[1]);
    }
  }
}

// A weight row as the absorbed form uses it: dequantised, then rounded to the activations' type.
static void load_kv_b(const Matrix& kv_b, std::int64_t row, int first, int n, ValueType type,
                      float* out) {
  load_weights(kv_b, row, first, n, out);
  if (type == ValueType::bf16 && kv_b.type == ValueType::e4m3) {
    for (int i = 0; i < n; ++i) out[i] = round_bf16(out[i]);
  }
}

// Columns [first, first + n) of every token's W_UK^T q_nope, for one head.
static void absorb_block(const MlaAbsorbParams& p, int head, int first, int n) {
  float sum[kRowTile][kBlock], w[kBlock];
  for (int t = 0; t < p.num_tokens; ++t) {
    for (int c = 0; c < n; ++c) sum[t][c] = 0.0f;
  }
  const std::int64_t q_row = p.nope + p.rope_dim, out_row = p.latent + p.rope_dim;
  for (int d = 0; d < p.nope; ++d) {
    load_kv_b(p.kv_b, std::int64_t{head} * (p.nope + p.v) + d, first, n, p.type, w);
    for (std::int64_t t = 0; t < p.num_tokens; ++t) {
      const float q = load_value(p.q, p.type, (t * p.num_heads + head) * q_row + d);
      for (int c = 0; c < n; ++c) sum[t][c] += q * w[c];
    }
  }
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    const std::int64_t out = (t * p.num_heads + head) * out_row + first;
    for (int c = 0; c < n; ++c) store_value(p.q_latent, p.type, out + c, sum[t][c]);
  }
}

// Every token's rotated part, for one head.
static void absorb_rope(const MlaAbsorbParams& p, int head) {
  const int half = p.rope_dim / 2;
  const PairPlaces place = pair_places(p.rope_dim, p.interleave);
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    const std::int64_t from = (t * p.num_heads + head) * (p.nope + p.rope_dim) + p.nope;
    const std::int64_t to = (t * p.num_heads + head) * (p.latent + p.rope_dim) + p.latent;
    for (int i = 0; i < half; ++i) {
      const int a = i * place.step, b = a + place.gap;
      float pair[2] = {load_value(p.q, p.type, from + a), load_value(p.q, p.type, from + b)};
      const float cs[2] = {p.rope[t * p.rope_dim + i], p.rope[t * p.rope_dim + half + i]};
      rotate_pairs(pair, cs, 2);
      store_value(p.q_latent, p.type, to + a, pair[0]);
      store_value(p.q_latent, p.type, to + b, pair[1]);
    }
  }
}

static void mla_absorb(const MlaAbsorbParams& p) {
  for (int head = p.first_head; head < p.last_head; ++head) {
    for (int first = 0; first < p.latent; first += kBlock) {
      absorb_block(p, head, first, p.latent - first < kBlock ? p.latent - first : kBlock);
    }
    absorb_rope(p, head);
  }
}

// A record as f32: latent values, then the rotated part.
static void load_record(const CacheLayout& layout, const std::byte* rec, float* out) {
  const int latent = layout.latent;
  const ValueType type = stored_type(layout);
  if (layout.format == CacheLayout::Format::fp8) {
    load_row(rec, ValueType::e4m3, 0, latent, out);
    for (int c = 0; c < latent; ++c) {
      out[c] = round_bf16(out[c] * load_f32(rec + latent + c / kBlock * 4));
    }
  } else {
    load_row(rec, type, 0, latent, out);
  }
  load_row(rec + latent * layout.value_bytes() + 4 * layout.scales(), type, 0, layout.rope,
           out + latent);
}

// State of one head's online softmax.
struct Softmax {
  float* out;  // [latent], unnormalised
  float *best, *total;
};

// One step: `n` keys [n, width] against one query.
static void softmax_group(const SparseMlaParams& p, const float* q, const float* keys, int n,
                          const Softmax& s) {
  const int latent = p.layout.latent, width = latent + p.layout.rope;
  float score[kGroup];
  float best = *s.best;
  for (int i = 0; i < n; ++i) {
    score[i] = dot(q, keys + static_cast<std::int64_t>(i) * width, width) * p.scale;
    if (score[i] > best || score[i] != score[i]) best = score[i];
  }
  const float keep = *s.best == best ? 1.0f : exp_f32(*s.best - best);
  float total = *s.total * keep;
  for (int c = 0; c < latent; ++c) s.out[c] *= keep;
  for (int i = 0; i < n; ++i) {
    const float weight = exp_f32(score[i] - best);
    total += weight;
    const float factor = p.bf16_probabilities ? round_bf16(weight) : weight;
    const float* value = keys + static_cast<std::int64_t>(i) * width;
    for (int c = 0; c < latent; ++c) s.out[c] += factor * value[c];
  }
  *s.best = best;
  *s.total = total;
}

static void sparse_mla(const SparseMlaParams& p) {
  const int latent = p.layout.latent, width = latent + p.layout.rope;
  float* keys = p.scratch;
  float* queries = keys + static_cast<std::int64_t>(kGroup) * width;
  float* out = queries + static_cast<std::int64_t>(p.num_heads) * width;
  float* best = out + static_cast<std::int64_t>(p.num_heads) * latent;
  float* total = best + p.num_heads;
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    load_row(p.q, p.type, t * p.num_heads * width, p.num_heads * width, queries);
    for (int h = p.first_head; h < p.last_head; ++h) {
      best[h] = -3.0e38f;
      total[h] = 0.0f;
      for (int c = 0; c < latent; ++c) out[static_cast<std::int64_t>(h) * latent + c] = 0.0f;
    }
    const std::int32_t* list = p.indices + t * p.top_k;
    for (int first = 0; first < p.top_k && list[first] >= 0; first += kGroup) {
      int n = 0;
      for (; n < kGroup && first + n < p.top_k && list[first + n] >= 0; ++n) {
        load_record(p.layout, p.latent + std::int64_t{list[first + n]} * p.layout.latent_record(),
                    keys + static_cast<std::int64_t>(n) * width);
      }
      for (int h = p.first_head; h < p.last_head; ++h) {
        const Softmax state{out + static_cast<std::int64_t>(h) * latent, best + h, total + h};
        softmax_group(p, queries + static_cast<std::int64_t>(h) * width, keys, n, state);
      }
    }
    for (int h = p.first_head; h < p.last_head; ++h) {
      const std::int64_t row = (t * p.num_heads + h) * latent;
      for (int c = 0; c < latent; ++c) {
        const float x = out[static_cast<std::int64_t>(h) * latent + c];
        store_value(p.out, p.type, row + c, total[h] == 0.0f ? 0.0f : x / total[h]);
      }
    }
  }
}

static void mla_expand(const MlaExpandParams& p) {
  float w[kBlock], x[kBlock];
  for (int head = p.first_head; head < p.last_head; ++head) {
    for (int i = 0; i < p.v; ++i) {
      float sum[kRowTile] = {};
      const std::int64_t row = std::int64_t{head} * (p.nope + p.v) + p.nope + i;
      for (int first = 0; first < p.latent; first += kBlock) {
        const int n = p.latent - first < kBlock ? p.latent - first : kBlock;
        load_kv_b(p.kv_b, row, first, n, p.type, w);
        for (std::int64_t t = 0; t < p.num_tokens; ++t) {
          load_row(p.out_latent, p.type, (t * p.num_heads + head) * p.latent + first, n, x);
          sum[t] += dot(x, w, n);
        }
      }
      for (std::int64_t t = 0; t < p.num_tokens; ++t) {
        store_value(p.out, p.type, (t * p.num_heads + head) * p.v + i, sum[t]);
      }
    }
  }
}
