// The oracle of every kernel: the same arguments, double precision, no tricks. What a newcomer
// reads first. Rounding points (to p.type, to e4m3) are the kernels'; sums are plain and in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/cpu/table.h"
#include "kernels/numbers.h"

namespace dsv32::kernels::reference {
namespace {

using Row = std::vector<double>;

Row load(const std::byte* data, ValueType type, std::int64_t first, int n) {
  Row row(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) row[static_cast<std::size_t>(i)] = load_value(data, type, first + i);
  return row;
}

void store(std::byte* data, ValueType type, std::int64_t first, const Row& row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    store_value(data, type, first + static_cast<std::int64_t>(i), static_cast<float>(row[i]));
  }
}

void round_row(Row& row, ValueType type) {
  for (double& x : row) x = round_to(type, static_cast<float>(x));
}

double weight(const Matrix& w, std::int64_t row, std::int64_t col) {
  const double value = load_value(w.data, w.type, row * w.stride + col);
  return has_scale(w.type) ? value * block_scale(w, row, col) : value;
}

double dot(const Row& a, const Row& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Codes and scales of one row, a block at a time; the row becomes what the codes mean.
void quantise_row(Row& row, bool pow2, std::uint8_t* codes, float* scales) {
  for (std::size_t first = 0; first < row.size(); first += kBlock) {
    const std::size_t last = std::min(row.size(), first + kBlock);
    double amax = 0;
    for (std::size_t i = first; i < last; ++i) amax = std::max(amax, std::fabs(row[i]));
    const float scale = fp8_scale(static_cast<float>(amax), pow2);
    scales[first / kBlock] = scale;
    for (std::size_t i = first; i < last; ++i) {
      codes[i] = to_e4m3(static_cast<float>(row[i]) / scale);
      row[i] = from_e4m3(codes[i]) * static_cast<double>(scale);
    }
  }
}

// INT8 codes of one row; the row becomes what they mean without the scale, which is the result.
float quantise_int8(Row& row, std::uint8_t* codes) {
  double amax = 0;
  bool finite = true;
  for (const double x : row) {
    amax = std::max(amax, std::fabs(x));
    finite = finite && std::isfinite(x);
  }
  const float scale = int8_scale(finite ? static_cast<float>(amax) : std::nanf(""));
  for (std::size_t i = 0; i < row.size(); ++i) {  // the quotient is an fp32 one
    const double code = finite ? std::nearbyint(static_cast<float>(row[i]) / scale) : 0;
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(code));
    row[i] = code;
  }
  return scale;
}

// Rotates the pairs (2i, 2i + 1), or (i, i + n / 2), of row[first, first + n).
void rotate(Row& row, std::size_t first, const float* rope, int n, bool interleaved) {
  const int half = n / 2;
  for (int i = 0; i < half; ++i) {
    double& a = row[first + static_cast<std::size_t>(interleaved ? 2 * i : i)];
    double& b = row[first + static_cast<std::size_t>(interleaved ? 2 * i + 1 : half + i)];
    const double c = rope[i], s = rope[half + i], x = a, y = b;
    a = x * c - y * s;
    b = x * s + y * c;
  }
}

void rms_norm(Row& row, const float* gain, double eps) {
  const double factor = 1 / std::sqrt(dot(row, row) / static_cast<double>(row.size()) + eps);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] *= factor * gain[i];
}

void embed(const EmbedParams& p) {
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    store(p.out, p.type, t * p.cols,
          load(p.table.data, p.table.type, p.tokens[t] * p.table.stride, p.cols));
  }
}

void add_rms_norm(const NormParams& p) {
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    Row s = load(p.x, p.x_type, t * p.x_stride, p.cols);
    if (p.residual) {
      const Row r = load(p.residual, p.type, t * p.residual_stride, p.cols);
      std::transform(s.begin(), s.end(), r.begin(), s.begin(), std::plus<>());
      store(p.residual, p.type, t * p.residual_stride, s);
    }
    rms_norm(s, p.gain, p.eps);
    store(p.out, p.type, t * p.out_stride, s);
  }
}

void silu_mul(const SiluMulParams& p) {
  const std::int64_t count = std::int64_t{p.num_rows} * p.cols;
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = load_value(p.gate, p.type, i), u = load_value(p.up, p.type, i);
    store_value(p.out, p.type, i, static_cast<float>(g / (1 + std::exp(-g)) * u));
  }
}

void quantise(const QuantiseParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (std::int64_t t = 0; t < p.num_rows; ++t) {
    Row row = load(p.x, p.type, t * p.x_stride, p.cols);
    quantise_row(row, p.pow2, p.out + t * p.cols, p.scale + t * blocks);
  }
}

void pack(const PackParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (std::int64_t m = 0; m < p.num_rows; ++m) {
    auto* out = reinterpret_cast<float*>(p.out + m * packed_row_bytes(p.cols));
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const float x = load_value(p.x, p.type, m * p.x_stride + c);
      out[c] = p.scale ? x * p.scale[m * blocks + c / kBlock] : x;
    }
  }
}

void linear(const LinearParams& p) {
  const int blocks = (p.cols + kBlock - 1) / kBlock;
  for (std::int64_t m = 0; m < p.num_rows; ++m) {
    const auto* x = reinterpret_cast<const float*>(p.x + m * packed_row_bytes(p.cols));
    for (std::int64_t n = p.first; n < p.last; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < p.cols; ++k) {
        const double x_scale = p.x_scale ? p.x_scale[m * blocks + k / kBlock] : 1.0;
        sum += x[k] * x_scale * weight(p.w, n, k);
      }
      store_value(p.out, p.type, m * p.out_stride + n, static_cast<float>(sum));
    }
  }
}

ValueType stored_type(const CacheLayout& layout) {
  return layout.format == CacheLayout::Format::f32 ? ValueType::f32 : ValueType::bf16;
}

void mla_store(const MlaStoreParams& p) {
  const int latent = p.layout.latent, rope = p.layout.rope;
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    if (p.slots[t] < 0) continue;
    Row c = load(p.kv, p.type, t * (latent + rope), latent);
    Row k = load(p.kv, p.type, t * (latent + rope) + latent, rope);
    std::byte* record = p.latent + std::int64_t{p.slots[t]} * p.layout.latent_record();
    rms_norm(c, p.gain, kNormEps);
    round_row(c, p.type);
    if (p.layout.format == CacheLayout::Format::fp8) {
      std::vector<float> scales(static_cast<std::size_t>(p.layout.scales()));
      quantise_row(c, p.pow2, reinterpret_cast<std::uint8_t*>(record), scales.data());
      std::memcpy(record + latent, scales.data(), scales.size() * 4);
    } else {
      store(record, stored_type(p.layout), 0, c);
    }
    rotate(k, 0, p.rope + t * rope, rope, p.interleave);
    store(record + latent * p.layout.value_bytes() + 4 * p.layout.scales(), stored_type(p.layout),
          0, k);
  }
}

// kv_b as the absorbed form uses it: dequantised, then rounded to the activations' type.
double kv_b_weight(const Matrix& w, std::int64_t row, std::int64_t col, ValueType type) {
  const double x = weight(w, row, col);
  return w.type == ValueType::e4m3 ? round_to(type, static_cast<float>(x)) : x;
}

void mla_absorb(const MlaAbsorbParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    for (std::int64_t h = p.first_head; h < p.last_head; ++h) {
      Row q = load(p.q, p.type, (t * p.num_heads + h) * (p.nope + p.rope_dim), p.nope + p.rope_dim);
      rotate(q, static_cast<std::size_t>(p.nope), p.rope + t * p.rope_dim, p.rope_dim,
             p.interleave);
      Row out(static_cast<std::size_t>(p.latent));
      for (int c = 0; c < p.latent; ++c) {
        for (int d = 0; d < p.nope; ++d) {
          out[static_cast<std::size_t>(c)] +=
              q[static_cast<std::size_t>(d)] *
              kv_b_weight(p.kv_b, h * (p.nope + p.v) + d, c, p.type);
        }
      }
      out.insert(out.end(), q.begin() + p.nope, q.end());
      store(p.q_latent, p.type, (t * p.num_heads + h) * (p.latent + p.rope_dim), out);
    }
  }
}

Row load_record(const CacheLayout& layout, const std::byte* record) {
  Row row = load(record,
                 layout.format == CacheLayout::Format::fp8 ? ValueType::e4m3 : stored_type(layout),
                 0, layout.latent);
  for (int c = 0; c < layout.latent && layout.scales() > 0; ++c) {
    const float scale = load_f32(record + layout.latent + c / kBlock * 4);
    double& x = row[static_cast<std::size_t>(c)];
    x = round_bf16(static_cast<float>(x) * scale);
  }
  const Row rope = load(record + layout.latent * layout.value_bytes() + 4 * layout.scales(),
                        stored_type(layout), 0, layout.rope);
  row.insert(row.end(), rope.begin(), rope.end());
  return row;
}

// Softmax over all scores at once.
Row attend(const Row& scores, const std::vector<Row>& keys) {
  Row out(keys.empty() ? 0 : keys[0].size());
  double best = -std::numeric_limits<double>::infinity(), total = 0;
  for (const double s : scores) best = std::max(best, s);
  for (const double s : scores) total += std::exp(s - best);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    for (std::size_t c = 0; c < out.size(); ++c) {
      out[c] += std::exp(scores[i] - best) / total * keys[i][c];
    }
  }
  return out;
}

// What is rounded depends on the best score so far, and so on the groups.
Row attend_rounded(const Row& scores, const std::vector<Row>& keys) {
  Row out(keys.empty() ? 0 : keys[0].size());
  double best = -std::numeric_limits<double>::infinity(), total = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i % kGroup == 0) {
      const double before = best;
      for (std::size_t j = i; j < std::min(keys.size(), i + kGroup); ++j) {
        best = std::max(best, scores[j]);
      }
      for (double& x : out) x *= std::exp(before - best);
      total *= std::exp(before - best);
    }
    const double weight = std::exp(scores[i] - best);
    total += weight;
    const double rounded = round_bf16(static_cast<float>(weight));
    for (std::size_t c = 0; c < out.size(); ++c) out[c] += rounded * keys[i][c];
  }
  for (double& x : out) x /= total;
  return out;
}

void sparse_mla(const SparseMlaParams& p) {
  const int latent = p.layout.latent, width = latent + p.layout.rope;
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    std::vector<Row> keys;
    for (int i = 0; i < p.top_k && p.indices[t * p.top_k + i] >= 0; ++i) {
      const std::int64_t slot = p.indices[t * p.top_k + i];
      keys.push_back(load_record(p.layout, p.latent + slot * p.layout.latent_record()));
    }
    for (std::int64_t h = p.first_head; h < p.last_head; ++h) {
      const Row q = load(p.q, p.type, (t * p.num_heads + h) * width, width);
      Row scores;
      for (const Row& key : keys) scores.push_back(dot(q, key) * p.scale);
      Row out = p.bf16_probabilities ? attend_rounded(scores, keys) : attend(scores, keys);
      out.resize(static_cast<std::size_t>(latent));
      store(p.out, p.type, (t * p.num_heads + h) * latent, out);
    }
  }
}

void mla_expand(const MlaExpandParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    for (std::int64_t h = p.first_head; h < p.last_head; ++h) {
      const Row x = load(p.out_latent, p.type, (t * p.num_heads + h) * p.latent, p.latent);
      Row out(static_cast<std::size_t>(p.v));
      for (int i = 0; i < p.v; ++i) {
        const std::int64_t row = h * (p.nope + p.v) + p.nope + i;
        for (int c = 0; c < p.latent; ++c) {
          out[static_cast<std::size_t>(i)] +=
              x[static_cast<std::size_t>(c)] * kv_b_weight(p.kv_b, row, c, p.type);
        }
      }
      store(p.out, p.type, (t * p.num_heads + h) * p.v, out);
    }
  }
}

// x H / sqrt(n): H[i][j] is -1 to the number of common one bits of i and j.
Row hadamard(const Row& x) {
  Row out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < x.size(); ++j) {
      out[i] += __builtin_parityll(i & j) ? -x[j] : x[j];
    }
    out[i] /= std::sqrt(static_cast<double>(x.size()));
  }
  return out;
}

void index_store(const IndexStoreParams& p) {
  const int dim = p.layout.index_dim;
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    if (p.slots[t] < 0) continue;
    Row k = load(p.k, p.type, t * dim, dim);
    const double mean = std::accumulate(k.begin(), k.end(), 0.0) / dim;
    double variance = 0;
    for (const double x : k) variance += (x - mean) * (x - mean) / dim;
    for (int i = 0; i < dim; ++i) {
      double& x = k[static_cast<std::size_t>(i)];
      x = (x - mean) / std::sqrt(variance + kNormEps) * p.gain[i] + p.bias[i];
    }
    round_row(k, p.type);
    rotate(k, 0, p.rope + t * p.layout.rope, p.layout.rope, p.interleave);
    round_row(k, p.type);
    const std::int64_t place = p.slots[t] % kPageSize;
    std::byte* page = p.pages + p.slots[t] / kPageSize * std::int64_t{p.layout.index_page()};
    if (p.layout.format == CacheLayout::Format::f32) {
      store(page, ValueType::f32, place * dim, k);
      continue;
    }
    k = hadamard(k);
    round_row(k, p.type);
    float scale = 0;
    auto* codes = reinterpret_cast<std::uint8_t*>(page) + place * dim;
    if (p.layout.int8_index) {
      scale = quantise_int8(k, codes);
    } else {
      quantise_row(k, p.pow2, codes, &scale);
    }
    std::memcpy(page + std::int64_t{kPageSize} * dim + place * 4, &scale, 4);
  }
}

void index_query(const IndexQueryParams& p) {
  const double factor = 1 / std::sqrt(static_cast<double>(p.num_heads) * p.index_dim);
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    for (std::int64_t h = t * p.num_heads; h < (t + 1) * p.num_heads; ++h) {
      Row q = load(p.q, p.type, h * p.index_dim, p.index_dim);
      rotate(q, 0, p.rope + t * p.rope_dim, p.rope_dim, p.interleave);
      round_row(q, p.type);
      float scale = 1;
      if (p.type == ValueType::bf16) {
        q = hadamard(q);
        round_row(q, p.type);
        std::vector<std::uint8_t> codes(q.size());
        if (p.int8) {
          scale = quantise_int8(q, codes.data());
        } else {
          quantise_row(q, p.pow2, codes.data(), &scale);
          for (std::size_t i = 0; i < q.size(); ++i) q[i] = from_e4m3(codes[i]);
        }
      }
      std::copy(q.begin(), q.end(), p.out + h * p.index_dim);
      p.out_weights[h] = static_cast<float>(p.head_weights[h] * factor * scale);
    }
  }
}

void index_scores(const IndexScoresParams& p) {
  const int dim = p.layout.index_dim;
  const bool f32 = p.layout.format == CacheLayout::Format::f32;
  for (int s = p.first; s < p.last; ++s) {
    const std::byte* page =
        p.pages + std::int64_t{p.page_table[s / kPageSize]} * p.layout.index_page();
    const std::int64_t place = s % kPageSize;
    const Row k = load(page, p.layout.index_type(), place * dim, dim);
    const double scale = f32 ? 1.0 : load_f32(page + std::int64_t{kPageSize} * dim + place * 4);
    double sum = 0;
    for (int h = 0; h < p.num_heads; ++h) {
      const Row q(p.q + std::int64_t{h} * dim, p.q + std::int64_t{h + 1} * dim);
      const double x = dot(q, k);
      sum += p.weights[h] * (x < 0 ? 0 : x);
    }
    p.scores[s] = static_cast<float>(sum * scale);
  }
}

void top_k(const TopKParams& p) {
  std::vector<int> order(static_cast<std::size_t>(p.count));
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](int s) {  // NaN is worst
    return std::isnan(p.scores[s]) ? std::make_pair(0, 0.0f) : std::make_pair(1, p.scores[s]);
  };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return rank(a) > rank(b); });
  order.resize(static_cast<std::size_t>(std::min(p.count, p.top_k)));
  std::sort(order.begin(), order.end());
  std::fill_n(p.positions, p.top_k, -1);
  std::copy(order.begin(), order.end(), p.positions);
}

void gate_row(const MoeGateParams& p, const float* z, std::int32_t* ids, float* weights) {
  const int size = p.num_experts / p.n_group;
  const double worst = -std::numeric_limits<double>::infinity();
  const auto number = [&](double x) { return std::isnan(x) ? worst : x; };
  Row choice, group;
  for (int e = 0; e < p.num_experts; ++e) {
    choice.push_back(number(1 / (1 + std::exp(-static_cast<double>(z[e]))) + p.bias[e]));
  }
  for (int g = 0; g < p.n_group; ++g) {
    Row members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(members.begin(), members.end(), std::greater<>());
    group.push_back(members[0] + members[1]);
  }
  const auto best_first = [](const Row& values) {
    std::vector<int> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
    });
    return order;
  };
  const std::vector<int> groups = best_first(group);
  std::vector<bool> kept(static_cast<std::size_t>(p.n_group));
  for (int i = 0; i < p.topk_group; ++i) {
    kept[static_cast<std::size_t>(groups[static_cast<std::size_t>(i)])] = true;
  }
  int count = 0;
  for (const int e : best_first(choice)) {
    if (count < p.top && kept[static_cast<std::size_t>(e / size)]) ids[count++] = e;
  }
  std::sort(ids, ids + p.top);
  double sum = 0;
  for (int i = 0; i < p.top; ++i) sum += 1 / (1 + std::exp(-static_cast<double>(z[ids[i]])));
  for (int i = 0; i < p.top; ++i) {
    const double s = 1 / (1 + std::exp(-static_cast<double>(z[ids[i]])));
    weights[i] = static_cast<float>(s / (p.norm_topk_prob ? sum : 1.0) * p.routed_scaling_factor);
  }
}

void moe_gate(const MoeGateParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    gate_row(p, p.scores + t * p.num_experts, p.ids + t * p.top, p.weights + t * p.top);
  }
}

void moe_combine(const MoeCombineParams& p) {
  for (std::int64_t t = 0; t < p.num_tokens; ++t) {
    for (std::int64_t c = 0; c < p.cols; ++c) {
      double sum = p.shared ? load_value(p.shared, p.type, t * p.cols + c) : 0.0;
      for (std::int64_t j = t * p.top; j < (t + 1) * p.top; ++j) {
        if (p.rows[j] < 0) continue;
        sum += static_cast<double>(p.weights[j]) *
               load_value(p.x, p.type, p.rows[j] * std::int64_t{p.cols} + c);
      }
      store_value(p.out, p.out_type, t * p.cols + c, static_cast<float>(sum));
    }
  }
}

void logit_maxima(const LogitMaximaParams& p) {
  *p.usable = true;
  for (std::int64_t b = 0; b < p.num_blocks; ++b) {
    float best = -std::numeric_limits<float>::infinity();
    for (std::int64_t i = b * kLogitBlock; i < (b + 1) * kLogitBlock; ++i) {
      if (!(p.row[i] < std::numeric_limits<float>::infinity())) *p.usable = false;
      best = std::max(best, p.row[i]);
    }
    p.maxima[b] = best;
  }
}

void logit_weights(const LogitWeightsParams& p) {
  for (std::int64_t b = 0; b < p.num_blocks; ++b) {
    double sum = 0;
    for (std::int64_t i = b * kLogitBlock; i < (b + 1) * kLogitBlock; ++i) {
      const double t = (static_cast<double>(p.row[i]) - p.best) * p.scale;
      const double weight = t < -124 ? 0 : std::exp2(t);
      p.weights[i] = static_cast<float>(weight);
      sum += weight;
    }
    p.sums[b] = sum;
  }
}

}  // namespace

extern const CpuKernels table;
const CpuKernels table = {"reference", 0,          embed,       add_rms_norm, silu_mul,
                          quantise,    pack,       linear,      mla_store,    mla_absorb,
                          sparse_mla,  mla_expand, index_store, index_query,  index_scores,
                          top_k,       moe_gate,   moe_combine, logit_maxima, logit_weights};

}  // namespace dsv32::kernels::reference
