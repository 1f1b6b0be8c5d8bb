// Topic indexer: keys into pages, queries as the scores need them, scores. (top_k.cu chooses.)
#include "kernels/cuda/smxx/gemm_tile.cuh"

namespace dsv32::kernels::cuda {
namespace {

// ---- index_store and index_query: a row a warp, values [4 l, 4 l + 4) in lane l, zeros behind the
// last.
using Four = float[4];

// Rotates values [0, rope) of the row; a warp's copy of it is in `row`.
__device__ __forceinline__ void rotate(Four& x, float* row, const float* angles, int rope,
                                       bool interleave) {
  const int first = 4 * lane_id(), half = rope / 2;
  if (!interleave) {
    *reinterpret_cast<float4*>(row + first) = make_float4(x[0], x[1], x[2], x[3]);
    __syncwarp();
  }
  if (first >= rope) return;
  if (!interleave && (half & 3) == 0 && aligned(angles, 16)) {  // all four are of one half
    const bool low = first < half;
    const int i = low ? first : first - half;
    float other[4], c[4], s[4];
    F32::load_four(reinterpret_cast<const std::byte*>(row + (low ? first + half : i)), other);
    F32::load_four(reinterpret_cast<const std::byte*>(angles + i), c);
    F32::load_four(reinterpret_cast<const std::byte*>(angles + half + i), s);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float turned = other[j] * s[j];
      x[j] = x[j] * c[j] + (low ? -turned : turned);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int e = first + j;
    if (e >= rope || (interleave && j % 2 != 0)) continue;
    if (interleave) {
      const float c = angles[e / 2], s = angles[half + e / 2], a = x[j], b = x[j + 1];
      x[j] = a * c - b * s;
      x[j + 1] = a * s + b * c;
    } else {
      const bool low = e < half;
      const int i = low ? e : e - half;
      const float turned = row[low ? e + half : i] * angles[half + i];
      x[j] = x[j] * angles[i] + (low ? -turned : turned);
    }
  }
}

__device__ __forceinline__ void butterfly(float& a, float& b) {
  const float sum = a + b;
  b = a - b;
  a = sum;
}

// x H / sqrt(n), H the Hadamard matrix in natural order; n a power of two. Widths ascend.
__device__ __forceinline__ void hadamard(Four& x, int n) {
  if (n > 1) butterfly(x[0], x[1]), butterfly(x[2], x[3]);
  if (n > 2) butterfly(x[0], x[2]), butterfly(x[1], x[3]);
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    if (4 * distance < n) {
      const float sign = (lane_id() & distance) == 0 ? 1.0f : -1.0f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {  // the product is exact
        x[j] = fmaf(x[j], sign, __shfl_xor_sync(kAllLanes, x[j], distance));
      }
    }
  }
  const float factor = 1.0f / sqrtf(static_cast<float>(n));
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = 4 * lane_id() < n ? x[j] * factor : 0.0f;
}

template <class T>
__device__ __forceinline__ void round_four(Four& x) {
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = T::round(x[j]);
}

// INT8 codes of n values; the result is their scale: NaN, which is chosen last, if one is not
// finite. The row becomes what the codes mean without it.
__device__ __forceinline__ float quantise_int8(Four& x, int n, Byte* codes) {
  std::uint32_t largest = 0;  // as bits, where a NaN is largest
#pragma unroll
  for (int j = 0; j < 4; ++j) largest = max(largest, __float_as_uint(x[j]) & 0x7FFFFFFFu);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(kAllLanes, largest, distance));
  }
  const float amax = __uint_as_float(largest);
  const bool finite = largest < 0x7F800000u;
  const float scale =
      finite ? (amax > 1e-4f ? amax : 1e-4f) / 127.0f : __uint_as_float(0x7FC00000u);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int e = 4 * lane_id() + j;
    const std::uint32_t rounded = __float_as_uint(x[j] / scale + 0x1.8p23f);
    const int code = finite ? static_cast<std::int8_t>(rounded - __float_as_uint(0x1.8p23f)) : 0;
    x[j] = static_cast<float>(code);
    if (codes != nullptr && e < n) codes[e] = static_cast<Byte>(code);
  }
  return scale;
}

// LayerNorm with the biased variance.
__device__ __forceinline__ void layer_norm(Four& x, const IndexStoreArguments& a) {
  const int n = a.layout.index_dim, first = 4 * lane_id();
  const float mean = warp_sum((x[0] + x[1]) + (x[2] + x[3])) / static_cast<float>(n);
  float squares = 0.0f, gain[4], bias[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    x[j] -= mean;
    if (first + j < n) squares = fmaf(x[j], x[j], squares);
  }
  const float factor = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(n) + kNormEps);
  load_four<F32>(reinterpret_cast<const std::byte*>(a.gain), first, n, gain);
  load_four<F32>(reinterpret_cast<const std::byte*>(a.bias), first, n, bias);
#pragma unroll
  for (int j = 0; j < 4; ++j) x[j] = first + j < n ? x[j] * factor * gain[j] + bias[j] : 0.0f;
}

template <class T>
__device__ __forceinline__ void store_key(const IndexStoreArguments& a, std::int64_t t,
                                          std::int64_t slot, float* row) {
  const int dim = a.layout.index_dim;
  Four x;
  load_four<T>(a.k + t * dim * static_cast<int>(sizeof(typename T::Stored)), 4 * lane_id(), dim, x);
  layer_norm(x, a);
  round_four<T>(x);
  rotate(x, row, a.rope + t * a.layout.rope, a.layout.rope, a.interleave);
  round_four<T>(x);
  const std::int64_t place = slot % kPageSize;
  std::byte* page = a.pages + slot / kPageSize * a.layout.index_page();
  if (a.layout.format == CacheLayout::Format::f32) {
    store_four<F32>(page + place * dim * 4, 4 * lane_id(), dim, x);
    return;
  }
  hadamard(x, dim);
  round_four<T>(x);
  auto* codes = reinterpret_cast<Byte*>(page) + place * dim;
  const float scale =
      a.layout.int8_index ? quantise_int8(x, dim, codes) : quantise_block(x, dim, a.pow2, codes);
  if (lane_id() == 0) F32::store(page + kPageSize * dim, place, scale);
}

// Head `h` of all tokens' heads.
template <class T>
__device__ __forceinline__ void make_query(const IndexQueryArguments& a, std::int64_t h,
                                           float* row) {
  const int dim = a.index_dim;
  const std::int64_t t = h / a.num_heads;
  Four x;
  load_four<T>(a.q + h * dim * static_cast<int>(sizeof(typename T::Stored)), 4 * lane_id(), dim, x);
  rotate(x, row, a.rope + t * a.rope_dim, a.rope_dim, a.interleave);
  round_four<T>(x);
  float scale = 1.0f;
  if (sizeof(typename T::Stored) == 2) {
    hadamard(x, dim);
    round_four<T>(x);
    if (a.int8) {
      scale = quantise_int8(x, dim, nullptr);
    } else {
      scale = fp8_scale(warp_max(largest_of(x)), a.pow2);
#pragma unroll
      for (int j = 0; j < 4; ++j) x[j] = from_e4m3(to_e4m3(x[j] / scale));
    }
  }
  store_four<F32>(reinterpret_cast<std::byte*>(a.out + h * dim), 4 * lane_id(), dim, x);
  const float head_factor = 1.0f / sqrtf(static_cast<float>(a.num_heads));
  const float dim_factor = 1.0f / sqrtf(static_cast<float>(dim));
  if (lane_id() == 0) a.out_weights[h] = a.head_weights[h] * head_factor * scale * dim_factor;
}

// ---- index_scores: kKeyTile keys at a time, one a lane; sixteen heads, four a warp.
constexpr int kHeadTile = 16;
constexpr int kWarpHeads = kHeadTile / static_cast<int>(kWarps);
static_assert(kKeyTile == 32 && kPageSize % kKeyTile == 0);

struct ScoreTile {
  float q[kHeadTile][kBlock];
  float keys[kKeyTile][kBlock + 1];
  float lanes[kHeadTile][kKeyTile];  // weighted heads of each key
  float weights[kHeadTile];
};

// Heads [first, first + kHeadTile) of one query; zeros behind the last.
__device__ __forceinline__ void stage_heads(const IndexScoresArguments& a, int first,
                                            ScoreTile& s) {
  const int dim = a.layout.index_dim;
  const std::int64_t heads = std::int64_t{blockIdx.y} * a.num_heads;
  const auto* q = reinterpret_cast<const std::byte*>(a.q + heads * dim);
  for (int h = warp_id(); h < kHeadTile; h += kWarps) {
    float v[4] = {};
    if (first + h < a.num_heads) {
      load_four<F32>(q + std::int64_t{first + h} * dim * 4, 4 * lane_id(), dim, v);
    }
    *reinterpret_cast<float4*>(&s.q[h][4 * lane_id()]) = make_float4(v[0], v[1], v[2], v[3]);
  }
  const int h = static_cast<int>(threadIdx.x);
  if (h < kHeadTile) s.weights[h] = first + h < a.num_heads ? a.weights[heads + first + h] : 0.0f;
}

// Keys [first, first + n) of a page; zeros behind the last column.
__device__ __forceinline__ void stage_keys(const IndexScoresArguments& a, const std::byte* page,
                                           int first, int n, ScoreTile& s) {
  const int dim = a.layout.index_dim, c = 4 * lane_id();
  if (c >= dim) return;
  for_fours<kKeyTile, kBlock, true>(
      Values(page, first, dim, a.layout.index_type()), n, 0, dim,
      [](int, int, const float(&)[4]) {},
      [&](int key, const float(&v)[4]) {
#pragma unroll
        for (int j = 0; j < 4; ++j) s.keys[key][c + j] = v[j];
      });
}

// Adds this thread's four heads, weighted, of its key.
__device__ __forceinline__ void add_heads(const ScoreTile& s, int dim, float (&lanes)[kWarpHeads]) {
  const int first = warp_id() * kWarpHeads;
  const float* key = s.keys[lane_id()];
  float dot[kWarpHeads] = {};
#pragma unroll 4
  for (int c = 0; c < dim; c += 4) {
    const float k[4] = {key[c], key[c + 1], key[c + 2], key[c + 3]};
#pragma unroll
    for (int i = 0; i < kWarpHeads; ++i) {
      const float4 q = *reinterpret_cast<const float4*>(&s.q[first + i][c]);
      dot[i] = fmaf(q.x, k[0], dot[i]);
      dot[i] = fmaf(q.y, k[1], dot[i]);
      dot[i] = fmaf(q.z, k[2], dot[i]);
      dot[i] = fmaf(q.w, k[3], dot[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kWarpHeads; ++i) {
    const float positive = dot[i] > 0.0f ? dot[i] : dot[i] == dot[i] ? 0.0f : dot[i];
    lanes[i] += s.weights[first + i] * positive;
  }
}

// Adds the upper half of 2 n lanes to the lower.
template <int n>
__device__ __forceinline__ void add_half(float (&v)[kHeadTile]) {
#pragma unroll
  for (int i = 0; i < n; ++i) v[i] += v[i + n];
}

// Halves of the sixteen lanes of a key are added until one is left.
__device__ __forceinline__ float fold(const ScoreTile& s, int key) {
  float v[kHeadTile];
#pragma unroll
  for (int i = 0; i < kHeadTile; ++i) v[i] = s.lanes[i][key];
  add_half<8>(v);
  add_half<4>(v);
  add_half<2>(v);
  add_half<1>(v);
  return v[0];
}

// Scores of keys [first, first + n), which lie in one page.
__device__ __forceinline__ void score_tile(const IndexScoresArguments& a, int first, int n,
                                           ScoreTile& s) {
  const int dim = a.layout.index_dim, place = first % kPageSize;
  const std::int64_t token = blockIdx.y;
  const std::int32_t* table = a.keys.page_table + a.keys.seq_of_token[token] * a.keys.page_stride;
  const std::byte* page = a.pages + std::int64_t{table[first / kPageSize]} * a.layout.index_page();
  float lanes[kWarpHeads] = {};
  stage_keys(a, page, place, n, s);
  for (int h = 0; h < a.num_heads; h += kHeadTile) {
    if (a.num_heads > kHeadTile) {  // else they are there
      __syncthreads();
      stage_heads(a, h, s);
    }
    __syncthreads();
    if (lane_id() < n) add_heads(s, dim, lanes);
  }
#pragma unroll
  for (int i = 0; i < kWarpHeads; ++i) {
    s.lanes[warp_id() * kWarpHeads + i][lane_id()] = lanes[i];
  }
  __syncthreads();
  const int key = static_cast<int>(threadIdx.x);
  if (key >= n) return;
  float score = fold(s, key);
  if (a.layout.format != CacheLayout::Format::f32) {
    score *= F32::load(page + kPageSize * dim, place + key);
  }
  a.scores[token * a.score_stride + first + key] = score;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_index_store(IndexStoreArguments a) {
  __shared__ __align__(16) float rows[kWarps][kBlock];
  const std::int64_t t = warp_piece();
  if (t >= a.num_tokens) return;
  const std::int64_t slot = a.slots[t];
  if (slot < 0) return;
  with_type(a.type, [&](auto type) { store_key<decltype(type)>(a, t, slot, rows[warp_id()]); });
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_index_query(IndexQueryArguments a) {
  __shared__ __align__(16) float rows[kWarps][kBlock];
  const std::int64_t h = warp_piece();
  if (h >= std::int64_t{a.num_tokens} * a.num_heads) return;
  if (a.positions != nullptr && a.positions[h / a.num_heads] < a.top_k) return;
  with_type(a.type, [&](auto type) { make_query<decltype(type)>(a, h, rows[warp_id()]); });
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_index_scores(IndexScoresArguments a) {
  __shared__ __align__(16) ScoreTile s;
  const int count = a.keys.positions[blockIdx.y] + 1;
  if (count <= a.top_k) return;  // every key is chosen
  int first = static_cast<int>(blockIdx.x) * kKeyTile;
  if (first >= count) return;
  if (a.num_heads <= kHeadTile) stage_heads(a, 0, s);
  for (; first < count; first += static_cast<int>(gridDim.x) * kKeyTile) {
    score_tile(a, first, min(kKeyTile, count - first), s);
    __syncthreads();
  }
}

}  // namespace dsv32::kernels::cuda
