// Topic mla: what goes into a latent record, and the two products with kv_b around the attention.
#include "kernels/cuda/smxx/mma_tile.cuh"

namespace dsv32::kernels::cuda {
namespace {

// Where the values of a rotated pair lie in a row of `rope`.
struct Pair {
  int a, b;

  __device__ __forceinline__ Pair(int i, int rope, bool interleave)
      : a(interleave ? 2 * i : i), b(interleave ? 2 * i + 1 : i + rope / 2) {}
};

// Pair `i` of from[0, rope), turned by the angle that `angles` has for it, to `to`.
template <class From, class To>
__device__ __forceinline__ void rotate_pair(const std::byte* from, const float* angles, int rope,
                                            int i, bool interleave, std::byte* to) {
  const Pair at(i, rope, interleave);
  const float x = From::load(from, at.a), y = From::load(from, at.b);
  const float c = angles[i], s = angles[rope / 2 + i];
  To::store(to, at.a, x * c - y * s);
  To::store(to, at.b, x * s + y * c);
}

// ---- mla_store: a token a warp
template <class T, class Stored>
__device__ __forceinline__ void store_record(const MlaStoreArguments& a, std::int64_t t,
                                             std::int64_t slot) {
  const int latent = a.layout.latent, rope = a.layout.rope, size = sizeof(typename T::Stored);
  const bool fp8 = a.layout.format == CacheLayout::Format::fp8;
  const std::byte* row = a.kv + t * (latent + rope) * size;
  std::byte* record = a.latent + slot * a.layout.latent_record();
  float squares = 0.0f, x[4];
  for (int first = 0; first < latent; first += kBlock) {
    load_four<T>(row, first + 4 * lane_id(), latent, x);
#pragma unroll
    for (int j = 0; j < 4; ++j) squares = fmaf(x[j], x[j], squares);
  }
  const float mean = warp_sum(squares) / static_cast<float>(latent);
  const float factor = 1.0f / sqrtf(mean + kNormEps);
  for (int first = 0; first < latent; first += kBlock) {
    const int col = first + 4 * lane_id();
    float gain[4];
    load_four<T>(row, col, latent, x);
    load_four<F32>(reinterpret_cast<const std::byte*>(a.gain), col, latent, gain);
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = T::round(gain[j] * (x[j] * factor));
    if (fp8) {
      auto* codes = reinterpret_cast<Byte*>(record) + first;
      const float scale = quantise_block(x, min(kBlock, latent - first), a.pow2, codes);
      if (lane_id() == 0) F32::store(record + latent, first / kBlock, scale);
    } else {
      store_four<Stored>(record, col, latent, x);
    }
  }
  std::byte* tail = record + latent * a.layout.value_bytes() + 4 * a.layout.scales();
  const float* angles = a.rope + t * rope;
  for (int i = lane_id(); i < rope / 2; i += 32) {
    rotate_pair<T, Stored>(row + latent * size, angles, rope, i, a.interleave, tail);
  }
}

// ---- absorb and expand: one head's rows of kv_b, dequantised and rounded as the activations are
struct KvB {
  const Matrix& w;
  bool rounds;  // e4m3 weights to bf16

  __device__ __forceinline__ KvB(const Matrix& matrix, ValueType type)
      : w(matrix), rounds(matrix.type == ValueType::e4m3 && type == ValueType::bf16) {}

  // Columns [col, col + 4), which share a scale.
  __device__ __forceinline__ void finish(int row, int col, float (&v)[4]) const {
    if (!has_scale(w.type)) return;
    const float scale = block_scale(w, row, col);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = rounds ? round_bf16(v[j] * scale) : v[j] * scale;
  }
};

// Tokens and a head of a block of threads.
template <class G>
struct HeadTile {
  int head = static_cast<int>(blockIdx.z);
  std::int64_t first = std::int64_t{blockIdx.y} * G::kRows;  // token
  int rows, out = static_cast<int>(blockIdx.x) * G::kOuts;

  __device__ __forceinline__ explicit HeadTile(int tokens)
      : rows(static_cast<int>(min(std::int64_t{G::kRows}, tokens - first))) {}
};

// The rotary part of a tile's queries.
template <class G>
__device__ __forceinline__ void rotate_queries(const MlaAbsorbArguments& a, const HeadTile<G>& tile,
                                               const std::byte* q, std::byte* out) {
  const std::int64_t q_row = std::int64_t{a.num_heads} * (a.nope + a.rope_dim);
  const std::int64_t out_row = std::int64_t{a.num_heads} * (a.latent + a.rope_dim);
  const int half = a.rope_dim / 2;
  with_type(a.type, [&](auto type) {
    using T = decltype(type);
    constexpr int size = sizeof(typename T::Stored);
    for (int i = static_cast<int>(threadIdx.x); i < tile.rows * half; i += kThreads) {
      const std::int64_t t = i / half;
      rotate_pair<T, T>(q + (t * q_row + a.nope) * size, a.rope + (tile.first + t) * a.rope_dim,
                        a.rope_dim, i % half, a.interleave, out + (t * out_row + a.latent) * size);
    }
  });
}

template <class G>
__device__ __forceinline__ void absorb(const MlaAbsorbArguments& a) {
  const int size = type_bytes(a.type);
  const HeadTile<G> tile(a.num_tokens);
  const std::int64_t q_width = a.nope + a.rope_dim, out_width = a.latent + a.rope_dim;
  const std::byte* q = a.q + (tile.first * a.num_heads + tile.head) * q_width * size;
  std::byte* out = a.q_latent + (tile.first * a.num_heads + tile.head) * out_width * size;
  if (blockIdx.x + 1 == gridDim.x) {
    rotate_queries(a, tile, q, out);
    return;
  }
  const KvB kv_b(a.kv_b, a.type);
  const int row = tile.head * (a.nope + a.v);  // of kv_b, the head's first
  const Values x(q, 0, a.num_heads * q_width, a.type);
  const Values w(a.kv_b.data, row, a.kv_b.stride, a.kv_b.type);
  const auto finish = [&](int d, int out, float(&v)[4]) { kv_b.finish(row + d, out, v); };
  typename G::Shared& s = G::shared();
  typename G::Sums sums;
  G::clear(sums);
  G::begin_by_columns(s, x, w, tile.rows, tile.out, a.latent, 0, a.nope);
  for (int d = 0; d < a.nope; d += kStep) {
    G::fill_by_columns(s, x, w, tile.rows, tile.out, a.latent, d, a.nope, finish);
    __syncthreads();
    G::template multiply<true>(s, tile.rows, min(kStep, a.nope - d), sums);
    if ((d + kStep) % kBlock == 0 || d + kStep >= a.nope) G::end_block(sums);
  }
  G::store(sums, a.type, out + tile.out * size, a.num_heads * out_width, tile.rows,
           a.latent - tile.out);
}

template <class G>
__device__ __forceinline__ void expand(const MlaExpandArguments& a) {
  const int size = type_bytes(a.type);
  const HeadTile<G> tile(a.num_tokens);
  const int row = tile.head * (a.nope + a.v) + a.nope + tile.out;  // of kv_b, the tile's first
  const int outs = a.v - tile.out;
  const KvB kv_b(a.kv_b, a.type);
  const auto finish = [&](int out, int col, float(&v)[4]) { kv_b.finish(row + out, col, v); };
  const std::int64_t x_stride = std::int64_t{a.num_heads} * a.latent;
  const std::int64_t out_stride = std::int64_t{a.num_heads} * a.v;
  const Values x(a.out_latent + std::int64_t{tile.head} * a.latent * size, tile.first, x_stride,
                 a.type);
  const Values w(a.kv_b.data, row, a.kv_b.stride, a.kv_b.type);
  typename G::Shared& s = G::shared();
  typename G::Sums sums;
  G::clear(sums);
  G::begin(s, x, w, tile.rows, outs, 0, a.latent);
  for (int c = 0; c < a.latent; c += kStep) {
    G::fill(s, x, w, tile.rows, outs, c, a.latent, finish);
    __syncthreads();
    G::template multiply<false>(s, tile.rows, min(kStep, a.latent - c), sums);
    if ((c + kStep) % kBlock == 0 || c + kStep >= a.latent) G::end_block(sums);
  }
  std::byte* out = a.out + (tile.first * out_stride + tile.head * a.v + tile.out) * size;
  G::store(sums, a.type, out, out_stride, tile.rows, outs);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_store(MlaStoreArguments a) {
  const std::int64_t t = warp_piece();
  if (t >= a.num_tokens) return;
  const std::int64_t slot = a.slots[t];
  if (slot < 0) return;
  if (a.type == ValueType::f32) {
    if (a.layout.format == CacheLayout::Format::f32) {
      store_record<F32, F32>(a, t, slot);
    } else {
      store_record<F32, Bf16>(a, t, slot);
    }
  } else {
    store_record<Bf16, Bf16>(a, t, slot);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, 8) dsv32_mla_absorb_4(MlaAbsorbArguments a) {
  absorb<Gemm4>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_absorb_32(MlaAbsorbArguments a) {
  absorb<Gemm32>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, 8) dsv32_mla_expand_4(MlaExpandArguments a) {
  expand<Gemm4>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_expand_32(MlaExpandArguments a) {
  expand<Gemm32>(a);
}

// On tensor cores: bf16 rows, and a kv_b that is bf16 or is rounded to it.
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_absorb_mma_16(MlaAbsorbArguments a) {
  absorb<Mma16>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_absorb_mma_64(MlaAbsorbArguments a) {
  absorb<Mma64>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_expand_mma_16(MlaExpandArguments a) {
  expand<Mma16>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_mla_expand_mma_64(MlaExpandArguments a) {
  expand<Mma64>(a);
}

}  // namespace dsv32::kernels::cuda
