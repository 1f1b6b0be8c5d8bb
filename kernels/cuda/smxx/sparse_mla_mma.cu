// sparse_mla on tensor cores, for deployed pages: 512 columns of e4m3 and 64 of bf16. A block of
// threads has a query and up to 64 of its heads, and walks the whole list: kMmaKeys entries in list
// order, an online-softmax step each, so that neither batch nor other heads can change a bit.
//
// Records come as they lie in memory, those of the next step while this one is worked on. In a
// step: decode (all threads), scores (a warp has 16 heads and a part of the keys), softmax (a head
// has four or eight lanes), values (a warp has 16 heads and a part of the columns).
#include "kernels/cuda/smxx/bf16_tile.cuh"

namespace dsv32::kernels::cuda {
namespace {

constexpr int kLatent = 512, kRope = 64, kWidth = kLatent + kRope;
constexpr int kRecord = kLatent + 4 * (kLatent / kBlock) + 2 * kRope;  // bytes: codes, scales, rope
static_assert(kRecord % 16 == 0 && kWidth == kMmaWidth && kRecord == kMmaRecord);

template <int kHeadTiles, int kParts>
struct MmaAttention {
  static constexpr int kHeads = 16 * kHeadTiles;
  static constexpr int kAll = 32 * kHeadTiles * kParts;  // threads
  static constexpr int kPartKeys = kMmaKeys / kParts, kPartCols = kLatent / kParts;
  // Eight lanes' worth of keys, whoever does their work: the softmax sums in one order.
  static constexpr int kHeadLanes = kAll / kHeads, kOwn = 8 / kHeadLanes;
  static_assert(kPartKeys % 8 == 0 && kHeadLanes * kOwn == 8);

  // Dynamic shared memory, as sparse_mla_mma_shared() counts it.
  struct Shared {
    alignas(128) std::uint16_t q[kHeads * kWidth];  // then what is written
    std::uint16_t keys[kMmaKeys * kWidth];
    std::byte records[kMmaKeys * kRecord];   // of the next step
    float weights[kHeads * kMmaWeightsRow];  // scores, then probabilities: see score_place
    float keep[kHeads];                      // what becomes of earlier sums; at the end, totals
    int slots[kMmaKeys];                     // of the next step
  };
  static_assert(sizeof(Shared) == sparse_mla_mma_shared(kHeads));

  const SparseMlaArguments& a;
  Shared& s;
  const int head = static_cast<int>(blockIdx.y) * kHeads, heads = min(kHeads, a.num_heads - head);
  const std::int64_t token = blockIdx.x;
  const int first_head = warp_id() / kParts * 16, part = warp_id() % kParts;  // of this warp

  __device__ __forceinline__ MmaAttention(const SparseMlaArguments& arguments, Shared& shared)
      : a(arguments), s(shared) {}

  // ---- a head's row of weights: fours of scores, and eights of probabilities in their place,
  // change places by the head, so that heads are in different banks.
  static __device__ __forceinline__ int score_place(int h, int key) {
    return h * kMmaWeightsRow + (key ^ (h & 4));
  }
  __device__ __forceinline__ std::uint16_t* probability(int h, int key) const {
    auto* row = reinterpret_cast<std::uint16_t*>(s.weights + h * kMmaWeightsRow);
    return row + ((key >> 3 ^ (h >> 2 & 1)) << 3) + (key & 7);
  }

  // ---- copies: 16 bytes at a time, zeros for heads and keys that are not there
  __device__ __forceinline__ void begin_queries() const {
    const std::byte* q = a.q + (token * a.num_heads + head) * kWidth * 2;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kHeads * (kWidth / 8); i += kAll) {
      const int h = i / (kWidth / 8), col = i % (kWidth / 8) * 8;
      const bool there = h < heads;
      copy_async(s.q + place<kWidth>(h, col), there ? q + (h * kWidth + col) * 2 : q,
                 there ? 16 : 0);
    }
  }
  __device__ __forceinline__ void load_slots(int first) const {
    const int i = static_cast<int>(threadIdx.x);
    if (i < kMmaKeys) {
      s.slots[i] = first + i < a.top_k ? a.indices[token * a.top_k + first + i] : -1;
    }
  }
  // How many of the slots are keys.
  __device__ __forceinline__ int count_keys() const {
    return __popc(__ballot_sync(kAllLanes, s.slots[lane_id()] >= 0));
  }
  __device__ __forceinline__ void begin_records() const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kMmaKeys * (kRecord / 16); i += kAll) {
      const int slot = s.slots[i / (kRecord / 16)], at = i % (kRecord / 16) * 16;
      const std::int64_t from = slot < 0 ? 0 : std::int64_t{slot} * kRecord + at;
      copy_async(s.records + i * 16, a.latent + from, slot < 0 ? 0 : 16);
    }
  }

  // Records to rows of keys, each value as it counts: rounded to bf16. Eight threads a key, sixteen
  // neighbouring codes each of 128 that share a scale; half of them store their second eight first,
  // so that eight threads meet no bank twice.
  __device__ __forceinline__ void decode() const {
    const int t = static_cast<int>(threadIdx.x) % 8, swap = t >> 2;
#pragma unroll 1
    for (int key = static_cast<int>(threadIdx.x) / 8; key < kMmaKeys; key += kAll / 8) {
      const std::byte* record = s.records + key * kRecord;
#pragma unroll 2
      for (int col = 0; col < kLatent; col += kBlock) {
        const uint4 codes = load_sixteen(record + col + 16 * t);
        const float scale = F32::load(record + kLatent, col / kBlock);
        const uint4 low = scaled(bf16_from_e4m3_eight(make_uint2(codes.x, codes.y)), scale);
        const uint4 high = scaled(bf16_from_e4m3_eight(make_uint2(codes.z, codes.w)), scale);
        const int at = col + 16 * t;
        store_sixteen(s.keys + place<kWidth>(key, at + 8 * swap), swap != 0 ? high : low);
        store_sixteen(s.keys + place<kWidth>(key, at + 8 - 8 * swap), swap != 0 ? low : high);
      }
      store_sixteen(s.keys + place<kWidth>(key, kLatent + 8 * t),
                    load_sixteen(record + (kRecord - 2 * kRope) + 16 * t));
    }
  }

  // This warp's heads by its part of the keys.
  __device__ __forceinline__ void scores() const {
    constexpr int kEights = kPartKeys / 8;
    float sums[kEights][4] = {};
    const Lanes<kWidth> queries = Lanes<kWidth>::left(s.q, first_head);
    const Lanes<kWidth> keys = Lanes<kWidth>::eight_outs(s.keys, part * kPartKeys);
#pragma unroll 6
    for (int k = 0; k < kWidth; k += 32) {
      std::uint32_t q[2][4];
      queries.load(k, q[0]);
      queries.load(k + 16, q[1]);
#pragma unroll
      for (int e = 0; e < kEights; ++e) {
        std::uint32_t key[4];
        keys.load_rows(8 * e, k, key);
        multiply_tiles(q[0], key[0], key[1], sums[e]);
        multiply_tiles(q[1], key[2], key[3], sums[e]);
      }
    }
    const int h = first_head + lane_id() / 4, key = part * kPartKeys + lane_id() % 4 * 2;
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_eight(s.weights + score_place(h + 8 * half, key + 8 * e),
                    __float_as_uint(sums[e][2 * half] * a.scale),
                    __float_as_uint(sums[e][2 * half + 1] * a.scale));
      }
    }
  }

  // One step of the softmax: of this thread's head, keys v + 8 j for each v of its own. `n` keys
  // count; `best` and `total` are its state.
  __device__ __forceinline__ void softmax(int n, float& best, float& total) const {
    const int h = static_cast<int>(threadIdx.x) / kHeadLanes;
    const int lane = static_cast<int>(threadIdx.x) % kHeadLanes;
    float x[kOwn][4], most = best;
    bool nan = best != best;
    for_keys(lane, [&](int v, int j, int key) {
      x[v][j] = key < n ? s.weights[score_place(h, key)] : -INFINITY;
      most = fmaxf(most, x[v][j]);
      nan = nan || x[v][j] != x[v][j];
    });
#pragma unroll
    for (int distance = kHeadLanes / 2; distance > 0; distance /= 2) {
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, distance));
      nan = __shfl_xor_sync(kAllLanes, static_cast<int>(nan), distance) != 0 || nan;
    }
    if (nan) most = __uint_as_float(0x7FC00000u);
    const float keep = best == most ? 1.0f : exp_fast(best - most);
    __syncwarp();  // all lanes have read what is now overwritten
    float sum[kOwn] = {};
    for_keys(lane, [&](int v, int j, int key) {
      const float weight = key < n ? exp_fast(x[v][j] - most) : 0.0f;
      *probability(h, key) = static_cast<std::uint16_t>(pack_bf16(weight, 0.0f));
      sum[v] += weight;
    });
    if constexpr (kOwn == 2) sum[0] += sum[1];
#pragma unroll
    for (int distance = kHeadLanes / 2; distance > 0; distance /= 2) {
      sum[0] += __shfl_xor_sync(kAllLanes, sum[0], distance);
    }
    total = fmaf(total, keep, sum[0]);
    best = most;
    if (lane == 0) s.keep[h] = keep;
  }
  // Calls `with(v, j, key)` for each key of this thread.
  template <class With>
  static __device__ __forceinline__ void for_keys(int lane, With with) {
#pragma unroll
    for (int v = 0; v < kOwn; ++v) {
#pragma unroll
      for (int j = 0; j < kMmaKeys / 8; ++j) with(v, j, lane + v * kHeadLanes + 8 * j);
    }
  }

  // Adds the values of the keys to this warp's part of the columns.
  __device__ __forceinline__ void values(float (&out)[kPartCols / 8][4]) const {
    const int h = first_head + lane_id() / 4;
    const float keep[2] = {s.keep[h], s.keep[h + 8]};
    if (__any_sync(kAllLanes, keep[0] != 1.0f || keep[1] != 1.0f)) {
#pragma unroll
      for (auto& eight : out) {
#pragma unroll
        for (int i = 0; i < 4; ++i) eight[i] *= keep[i / 2];
      }
    }
    const Lanes<kWidth> columns = Lanes<kWidth>::columns(s.keys + part * kPartCols, 0);
#pragma unroll
    for (int key = 0; key < kMmaKeys; key += 16) {
      std::uint32_t p[4];
      load_tiles(
          shared_address(probability(first_head + (lane_id() & 15), key + (lane_id() >> 4 << 3))),
          p);
#pragma unroll
      for (int c = 0; c < kPartCols / 8; c += 2) {
        std::uint32_t value[4];
        columns.load_transposed(key, 8 * c, value);
        multiply_tiles(p, value[0], value[1], out[c]);
        multiply_tiles(p, value[2], value[3], out[c + 1]);
      }
    }
  }

  // Divided by the totals, through shared memory, so that whole lines are written.
  __device__ __forceinline__ void store(const float (&out)[kPartCols / 8][4]) const {
    const int h = first_head + lane_id() / 4;
    std::uint16_t* to = s.q + part * kPartCols + lane_id() % 4 * 2;  // whole 64 columns and a pair
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = s.keep[h + 8 * half];
      const float inverse = total == 0.0f ? 0.0f : 1.0f / total;  // then all sums are zero
#pragma unroll
      for (int c = 0; c < kPartCols / 8; ++c) {
        *reinterpret_cast<std::uint32_t*>(to + place<kLatent>(h + 8 * half, 8 * c)) =
            pack_bf16(out[c][2 * half] * inverse, out[c][2 * half + 1] * inverse);
      }
    }
    __syncthreads();
    std::byte* out_rows = a.out + (token * a.num_heads + head) * kLatent * 2;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < heads * (kLatent / 8); i += kAll) {
      *reinterpret_cast<uint4*>(out_rows + i * 16) =
          load_sixteen(s.q + place<kLatent>(i / (kLatent / 8), i % (kLatent / 8) * 8));
    }
  }

  __device__ __forceinline__ void run() const {
    float out[kPartCols / 8][4] = {}, best = -3.0e38f, total = 0.0f;
    begin_queries();
    load_slots(0);
    __syncthreads();
    int n = count_keys();
    begin_records();
    for (int first = 0; n > 0; first += kMmaKeys) {
      commit_copies();
      wait_copies<0>();
      __syncthreads();  // and the values before were added
      decode();
      load_slots(first + kMmaKeys);
      __syncthreads();
      const int next = n == kMmaKeys ? count_keys() : 0;
      if (next > 0) begin_records();
      scores();
      __syncthreads();
      softmax(n, best, total);
      __syncthreads();
      values(out);
      n = next;
    }
    commit_copies();
    wait_copies<0>();  // of the queries, where there is no key
    __syncthreads();
    if (static_cast<int>(threadIdx.x) % kHeadLanes == 0) {
      s.keep[static_cast<int>(threadIdx.x) / kHeadLanes] = total;
    }
    __syncthreads();
    store(out);
  }
};

template <int kHeadTiles, int kParts>
__device__ __forceinline__ void sparse_mla_mma(const SparseMlaArguments& a) {
  using Attention = MmaAttention<kHeadTiles, kParts>;
  extern __shared__ __align__(128) std::byte memory[];
  Attention(a, *reinterpret_cast<typename Attention::Shared*>(memory)).run();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(128, 2) dsv32_sparse_mla_mma_16(SparseMlaArguments a) {
  sparse_mla_mma<1, 4>(a);
}
extern "C" __global__ void __launch_bounds__(256, 1) dsv32_sparse_mla_mma_32(SparseMlaArguments a) {
  sparse_mla_mma<2, 4>(a);
}
extern "C" __global__ void __launch_bounds__(256, 1) dsv32_sparse_mla_mma_64(SparseMlaArguments a) {
  sparse_mla_mma<4, 2>(a);
}

}  // namespace dsv32::kernels::cuda
