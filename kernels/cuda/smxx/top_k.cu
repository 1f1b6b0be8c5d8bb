// top_k: an exact radix select by four digits of eight bits, then one ordered pass that keeps what
// is above the threshold and the first of those that equal it. Integer sums only, so the order of
// threads decides nothing.
#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {
namespace {

constexpr int kAllThreads = 256, kAllWarps = kAllThreads / 32;
constexpr int kShort = 1024;  // scores that a single warp takes: fewer steps, no waiting
constexpr int kDigits = 256, kLaneDigits = kDigits / 32;

struct Shared {
  unsigned counts[kDigits];
  unsigned digit;
  int wanted;
  int nans;                      // in the first pass
  unsigned found[2][kAllWarps];  // of a warp: above the threshold, and equal to it
};

// A float as an integer of the same order: NaN lowest, then -infinity; -0 equals 0.
__device__ __forceinline__ unsigned ordered(float x) {
  if (x != x) return 0;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ std::int32_t slot_of(const std::int32_t* table, int position) {
  return table[position / kPageSize] * kPageSize + position % kPageSize;
}

// A query's scores and list, gone through by one warp or by a whole block.
template <bool kOneWarp>
struct Select {
  static constexpr int kStride = kOneWarp ? 32 : kAllThreads;

  const float* scores;
  const std::int32_t* table;
  std::int32_t* list;
  int count, top;
  Shared& s;

  static __device__ __forceinline__ void sync() {
    if constexpr (kOneWarp) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  // Counts digits of the scores whose higher bits are `prefix`.
  __device__ __forceinline__ void histogram(unsigned prefix, unsigned mask, int shift) const {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kStride) s.counts[i] = 0;
    sync();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kStride) {
      const unsigned key = ordered(scores[i]);
      if ((key & mask) == prefix) atomicAdd(&s.counts[key >> shift & (kDigits - 1)], 1u);
      if (mask == 0 && key == 0) atomicAdd(&s.nans, 1);
    }
    sync();
  }

  // The digit of the `wanted`-th largest, and what is wanted of those that have it; one warp.
  __device__ __forceinline__ void find_digit(int wanted) const {
    const int highest = kDigits - 1 - lane_id() * kLaneDigits;  // this lane's, descending
    int own = 0;
#pragma unroll
    for (int i = 0; i < kLaneDigits; ++i) own += static_cast<int>(s.counts[highest - i]);
    int upto = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upto, distance);
      if (lane_id() >= distance) upto += other;
    }
    int left = wanted - (upto - own);
    if (left <= 0 || upto < wanted) return;
    int digit = highest;
    for (int n = static_cast<int>(s.counts[digit]); n < left;
         n = static_cast<int>(s.counts[digit])) {
      left -= n;
      --digit;
    }
    s.digit = static_cast<unsigned>(digit);
    s.wanted = left;
  }

  // Keeps positions in ascending order. Of scores that equal `limit` the first `equal` count.
  __device__ __forceinline__ void keep(unsigned limit, int equal) const {
    const unsigned below = (1u << lane_id()) - 1;
    int above_before = 0, equal_before = 0;
    for (int first = 0, turn = 0; first < count; first += kStride, turn ^= 1) {
      const int i = first + static_cast<int>(threadIdx.x);
      const unsigned key = i < count ? ordered(scores[i]) : 0;
      const bool is_above = i < count && key > limit, is_equal = i < count && key == limit;
      const unsigned above = __ballot_sync(kAllLanes, is_above);
      const unsigned same = __ballot_sync(kAllLanes, is_equal);
      int above_all = __popc(above), equal_all = __popc(same);
      int above_here = above_before + __popc(above & below);
      int equal_here = equal_before + __popc(same & below);
      if constexpr (!kOneWarp) {
        if (lane_id() == 0)
          s.found[turn][warp_id()] =
              static_cast<unsigned>(above_all) << 16 | static_cast<unsigned>(equal_all);
        __syncthreads();
        above_all = equal_all = 0;
        for (int w = 0; w < kAllWarps; ++w) {
          const int more = static_cast<int>(s.found[turn][w] >> 16),
                    ties = static_cast<int>(s.found[turn][w] & 0xFFFFu);
          above_all += more;
          equal_all += ties;
          above_here += w < warp_id() ? more : 0;
          equal_here += w < warp_id() ? ties : 0;
        }
      }
      if (is_above || (is_equal && equal_here < equal)) {
        list[above_here + min(equal_here, equal)] = slot_of(table, i);
      }
      above_before += above_all;
      equal_before += equal_all;
    }
  }

  // Whether a score is NaN.
  __device__ __forceinline__ bool run() const {
    unsigned prefix = 0, mask = 0;
    int wanted = top;
    if (threadIdx.x == 0) s.nans = 0;
    sync();
    for (int shift = 24; shift >= 0; shift -= 8) {
      histogram(prefix, mask, shift);
      if (warp_id() == 0) find_digit(wanted);
      sync();
      prefix |= s.digit << shift;
      mask |= (kDigits - 1u) << shift;
      wanted = s.wanted;
    }
    keep(prefix, wanted);
    return s.nans != 0;
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kAllThreads) dsv32_top_k(TopKArguments a) {
  __shared__ Shared s;
  const std::int64_t token = blockIdx.x;
  const int count = a.keys.positions[token] + 1;
  std::int32_t* list = a.indices + token * a.top_k;
  const std::int32_t* table = a.keys.page_table + a.keys.seq_of_token[token] * a.keys.page_stride;
  if (count <= a.top_k) {
    for (int i = static_cast<int>(threadIdx.x); i < a.top_k; i += kAllThreads) {
      list[i] = i < count ? slot_of(table, i) : -1;
    }
    return;
  }
  const float* scores = a.scores + token * a.score_stride;
  bool nan;
  if (count <= kShort) {
    if (warp_id() > 0) return;
    nan = Select<true>{scores, table, list, count, a.top_k, s}.run();
  } else {
    nan = Select<false>{scores, table, list, count, a.top_k, s}.run();
  }
  if (nan && threadIdx.x == 0 && a.nan_queries != nullptr) ++a.nan_queries[token];
}

}  // namespace dsv32::kernels::cuda
