// index_scores on tensor cores, where keys and queries are codes: of e4m3 or INT8, exact in bf16. A
// block of threads has a query and takes one page of keys after the other, the next one's codes on
// their way while this one is scored. A warp has 16 keys and all heads, 64 at a time.
//
// Heads are summed as in index_scores: a lane has rows l / 4 and l / 4 + 8 of every sixteen heads,
// two of the sixteen chains, and the lanes of a key hold all of them.
#include "kernels/cuda/smxx/bf16_tile.cuh"
#include "kernels/cuda/smxx/gemm_tile.cuh"

namespace dsv32::kernels::cuda {
namespace {

constexpr int kHeads = 64;
static_assert(kPageSize == 16 * static_cast<int>(kWarps));

struct ScoreTile {
  alignas(128) std::uint16_t q[kHeads * kBlock];
  alignas(128) std::uint16_t keys[kPageSize * kBlock];
  alignas(16) std::byte codes[kPageSize * kBlock];  // of the next page
  float weights[kHeads];
};

struct Scorer {
  const IndexScoresArguments& a;
  ScoreTile& s;
  const int dim = a.layout.index_dim;
  const std::int64_t token = blockIdx.y;

  __device__ __forceinline__ Scorer(const IndexScoresArguments& arguments, ScoreTile& shared)
      : a(arguments), s(shared) {}

  __device__ __forceinline__ const std::byte* page_of(int first) const {
    const std::int32_t* table = a.keys.page_table + a.keys.seq_of_token[token] * a.keys.page_stride;
    return a.pages + std::int64_t{table[first / kPageSize]} * a.layout.index_page();
  }

  // Heads [first, first + kHeads) of the query; zeros behind the last.
  __device__ __forceinline__ void stage_heads(int first) const {
    const std::int64_t heads = token * a.num_heads + first;
    const int n = min(kHeads, a.num_heads - first), fours = dim / 4;
    const auto* q = reinterpret_cast<const std::byte*>(a.q + heads * dim);
    for (int i = static_cast<int>(threadIdx.x); i < kHeads * fours; i += kThreads) {
      const int h = i / fours, col = i % fours * 4;
      float v[4] = {};
      if (h < n) F32::load_four(q + (h * dim + col) * 4, v);
      put_four<kBlock>(s.q, h, col, v);
    }
    const int h = static_cast<int>(threadIdx.x);
    if (h < kHeads) s.weights[h] = h < n ? a.weights[heads + h] : 0.0f;
  }

  // The first `n` keys of the page of key `first`.
  __device__ __forceinline__ void begin_keys(int first, int n) const {
    const std::byte* page = page_of(first);
    for (int at = static_cast<int>(threadIdx.x) * 16; at < n * dim;
         at += static_cast<int>(kThreads) * 16) {
      copy_async(s.codes + at, page + at, 16);
    }
  }
  __device__ __forceinline__ void decode(int n) const {
    if (!a.layout.int8_index) {
      unpack_rows<kPageSize, kBlock>(s.keys, s.codes, ValueType::e4m3, n, dim);
      return;
    }
    const int k = static_cast<int>(threadIdx.x) % (kBlock / 4) * 4;
    if (k >= dim) return;
    for_fours<kPageSize, kBlock, true>(
        Values(s.codes, 0, dim, a.layout.index_type()), n, 0, dim, AsItIs{},
        [&](int key, const float(&v)[4]) { put_four<kBlock>(s.keys, key, k, v); });
  }

  // Adds the staged heads, weighted, of this warp's keys: chains of heads l / 4 and l / 4 + 8.
  __device__ __forceinline__ void add_heads(int heads, float (&chains)[2][4]) const {
    const Lanes<kBlock> heads_at = Lanes<kBlock>::left(s.q, 0);
    const Lanes<kBlock> keys_at = Lanes<kBlock>::outs(s.keys, warp_id() * 16);
    for (int h = 0; h < heads; h += 16) {
      float dots[2][4] = {};
#pragma unroll
      for (int k = 0; k < kBlock; k += 16) {
        if (k >= dim) break;
        std::uint32_t q[4], keys[4];
        heads_at.load_rows(h, k, q);
        keys_at.load(k, keys);
        multiply_tiles(q, keys[0], keys[1], dots[0]);
        multiply_tiles(q, keys[2], keys[3], dots[1]);
      }
      const float weight[2] = {s.weights[h + lane_id() / 4], s.weights[h + lane_id() / 4 + 8]};
#pragma unroll
      for (int t = 0; t < 2; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float dot = dots[t][i];
          const float positive = dot > 0.0f ? dot : dot == dot ? 0.0f : dot;
          chains[t][i] += weight[i / 2] * positive;
        }
      }
    }
  }

  // Halves of a key's sixteen chains are added until one is left; then by the key's scale.
  __device__ __forceinline__ void store(const float (&chains)[2][4], int first, int n) const {
    const std::byte* page = page_of(first);
    float* scores = a.scores + token * a.score_stride + first;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sum = chains[t][i] + chains[t][i + 2];
#pragma unroll
        for (int distance = 16; distance >= 4; distance /= 2) {
          sum += __shfl_xor_sync(kAllLanes, sum, distance);
        }
        const int key = warp_id() * 16 + 8 * t + lane_id() % 4 * 2 + i;
        if (lane_id() / 4 == t && key < n) {
          scores[key] = sum * F32::load(page + kPageSize * dim, key);
        }
      }
    }
  }

  __device__ __forceinline__ void run(int first, int count) const {
    const int stride = static_cast<int>(gridDim.x) * kPageSize;
    begin_keys(first, min(kPageSize, count - first));
    commit_copies();
    if (a.num_heads <= kHeads) stage_heads(0);
    for (; first < count; first += stride) {
      const int n = min(kPageSize, count - first), next = first + stride;
      wait_copies<0>();
      __syncthreads();  // and the page before was scored
      decode(n);
      __syncthreads();
      if (next < count) begin_keys(next, min(kPageSize, count - next));
      commit_copies();
      float chains[2][4] = {};
      for (int h = 0; h < a.num_heads; h += kHeads) {
        if (a.num_heads > kHeads) {  // else they are there
          __syncthreads();
          stage_heads(h);
          __syncthreads();
        }
        add_heads(min(kHeads, a.num_heads - h), chains);
      }
      store(chains, first, n);
    }
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_index_scores_mma(IndexScoresArguments a) {
  __shared__ ScoreTile s;
  const int count = a.keys.positions[blockIdx.y] + 1;
  if (count <= a.top_k) return;  // every key is chosen
  const int first = static_cast<int>(blockIdx.x) * kPageSize;
  if (first < count) Scorer(a, s).run(first, count);
}

}  // namespace dsv32::kernels::cuda
