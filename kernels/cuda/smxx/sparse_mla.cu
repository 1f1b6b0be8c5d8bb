// sparse_mla in f32, of every width and cache format. A block of threads has a query and kMlaHeads
// of its heads, and walks the whole list: groups of kGroup entries in list order, an online-softmax
// step each, so that neither batch nor other heads can change a bit.
//
// In a group: scores (a thread has a key and four heads), one step of the softmax (a warp has a
// head), values (a thread has a column and four heads).
#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {
namespace {

constexpr int kFour = 4;  // heads of a thread
static_assert(kMlaHeads == 2 * kFour && kThreads == 2 * kGroup);

// Dynamic shared memory, as sparse_mla_shared() counts it.
struct Shared {
  float* weights;  // [kGroup][kMlaHeads]: scores, then probabilities
  float* q;        // [columns][kMlaHeads]
  float* out;      // [kMlaHeads][latent], not yet divided
  float* keys;     // [kGroup][columns + 1]
  float* keep;     // [kMlaHeads]: what becomes of earlier sums in this group
  float* total;    // [kMlaHeads]
  int* slots;      // [kGroup]

  __device__ __forceinline__ Shared(float* memory, const CacheLayout& layout, int columns) {
    weights = memory;
    q = weights + kGroup * kMlaHeads;
    out = q + columns * kMlaHeads;
    keys = out + kMlaHeads * layout.latent;
    keep = keys + kGroup * (columns + 1);
    total = keep + kMlaHeads;
    slots = reinterpret_cast<int*>(total + kMlaHeads);
  }
};

// Columns [col, col + 4) of a record, of `width` in all.
template <class Stored, bool kFp8>
__device__ __forceinline__ void record_four(const CacheLayout& layout, const std::byte* record,
                                            int col, float (&v)[4]) {
  const int latent = layout.latent;
  const std::byte* tail = record + latent * layout.value_bytes() + 4 * layout.scales();
  if (col >= latent) {
    load_four<Stored>(tail, col - latent, layout.rope, v);
  } else if constexpr (kFp8) {  // latent is a multiple of four
    from_e4m3_four(*reinterpret_cast<const std::uint32_t*>(record + col), v);
    const float scale = F32::load(record + latent, static_cast<unsigned>(col) / kBlock);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = round_bf16(v[j] * scale);
  } else {
    load_four<Stored>(record, col, latent, v);
#pragma unroll
    for (int j = 1; j < 4 && col + 4 > latent; ++j) {
      const int past = col + j - latent;
      if (past >= 0 && past < layout.rope) v[j] = Stored::load(tail, past);
    }
  }
}

template <class Stored, bool kFp8>
struct Attention {
  const SparseMlaArguments& a;
  const Shared& s;
  const int columns, width, head, heads;  // heads: of this block
  const std::int64_t token;

  __device__ __forceinline__ Attention(const SparseMlaArguments& arguments, const Shared& shared,
                                       int at_a_time)
      : a(arguments),
        s(shared),
        columns(at_a_time),
        width(arguments.layout.latent + arguments.layout.rope),
        head(static_cast<int>(blockIdx.y) * kMlaHeads),
        heads(min(kMlaHeads, arguments.num_heads - head)),
        token(blockIdx.x) {}

  // This thread's key or column in a group or a piece of 64, and the first of its heads.
  __device__ __forceinline__ int place() const { return static_cast<int>(threadIdx.x) % kGroup; }
  __device__ __forceinline__ int first_head() const {
    return static_cast<int>(threadIdx.x) / kGroup * kFour;
  }

  template <class T>
  __device__ __forceinline__ void stage_queries(int col) const {
    const int n = min(columns, width - col);
    constexpr int size = sizeof(typename T::Stored);
    const std::byte* q = a.q + ((token * a.num_heads + head) * width + col) * size;
    for (int h = warp_id(); h < kMlaHeads; h += kWarps) {
      for (int c = lane_id(); c < n; c += 32) {
        s.q[c * kMlaHeads + h] = h < heads ? T::load(q, std::int64_t{h} * width + c) : 0.0f;
      }
    }
  }

  // Columns [col, end), at most `columns`, of the group's `n` keys: sixteen threads a key.
  __device__ __forceinline__ void stage_keys(int col, int end, int n) const {
    constexpr int kEach = 16;
    const int count = min(columns, end - col), first = static_cast<int>(threadIdx.x) % kEach * 4;
    const std::int64_t size = a.layout.latent_record();
    for (int key = static_cast<int>(threadIdx.x) / kEach; key < n;
         key += static_cast<int>(kThreads) / kEach) {
      const std::byte* record = a.latent + s.slots[key] * size;
      float* to = s.keys + key * (columns + 1) + first;
      for (int c = first; c < count; c += 4 * kEach, to += 4 * kEach) {
        float v[4];
        record_four<Stored, kFp8>(a.layout, record, col + c, v);
#pragma unroll
        for (int j = 0; j < 4; ++j) to[j] = v[j];
      }
    }
  }

  __device__ __forceinline__ void stage_queries(int col) const {
    with_type(a.type, [&](auto type) { stage_queries<decltype(type)>(col); });
  }

  // Scores of the group's keys. All columns of the keys stay where they are if they fit.
  __device__ __forceinline__ void scores(int n) const {
    float sum[kFour] = {};
    const int key = place(), four = first_head();
    for (int col = 0; col < width; col += columns) {
      if (col > 0) __syncthreads();
      if (columns < width) stage_queries(col);
      stage_keys(col, width, n);
      __syncthreads();
      if (key >= n || four >= heads) continue;
      const int count = min(columns, width - col);
      const float* k = s.keys + key * (columns + 1);
#pragma unroll 4
      for (int c = 0; c < count; ++c) {
        const float4 q = *reinterpret_cast<const float4*>(s.q + c * kMlaHeads + four);
        sum[0] = fmaf(q.x, k[c], sum[0]);
        sum[1] = fmaf(q.y, k[c], sum[1]);
        sum[2] = fmaf(q.z, k[c], sum[2]);
        sum[3] = fmaf(q.w, k[c], sum[3]);
      }
    }
    if (key >= n || four >= heads) return;
    *reinterpret_cast<float4*>(s.weights + key * kMlaHeads + four) =
        make_float4(sum[0] * a.scale, sum[1] * a.scale, sum[2] * a.scale, sum[3] * a.scale);
  }

  // One step of head `h`'s softmax; a warp. `best` and `total` are its state.
  __device__ __forceinline__ void softmax(int h, int n, float& best, float& total) const {
    const int lane = lane_id();
    float* at[2] = {s.weights + lane * kMlaHeads + h, s.weights + (lane + 32) * kMlaHeads + h};
    const float none = -INFINITY;
    const float x[2] = {lane < n ? *at[0] : none, lane + 32 < n ? *at[1] : none};
    const bool nan = __any_sync(kAllLanes, x[0] != x[0] || x[1] != x[1]);
    float most = fmaxf(best, warp_max(fmaxf(x[0], x[1])));
    if (nan || best != best) most = __uint_as_float(0x7FC00000u);
    const float keep = best == most ? 1.0f : exp_fast(best - most);
    float weight[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      weight[i] = lane + 32 * i < n ? exp_fast(x[i] - most) : 0.0f;
      if (lane + 32 * i < n) *at[i] = a.bf16_probabilities ? round_bf16(weight[i]) : weight[i];
    }
    total = fmaf(total, keep, warp_sum(weight[0] + weight[1]));
    best = most;
    if (lane == 0) s.keep[h] = keep;
  }

  // Adds the group's values.
  __device__ __forceinline__ void values(int n) const {
    const int latent = a.layout.latent, four = first_head();
    for (int col = 0; col < latent; col += columns) {
      if (columns < width) {  // else all keys are there
        __syncthreads();
        stage_keys(col, latent, n);
        __syncthreads();
      }
      const int end = min(columns, latent - col);
      for (int c = place(); c < end && four < heads; c += kGroup) {
        float* out = s.out + four * latent + col + c;
        const float* keep = s.keep + four;
        float sum[kFour];
#pragma unroll
        for (int i = 0; i < kFour; ++i) sum[i] = out[i * latent] * keep[i];
#pragma unroll 4
        for (int key = 0; key < n; ++key) {
          const float4 p = *reinterpret_cast<const float4*>(s.weights + key * kMlaHeads + four);
          const float v = s.keys[key * (columns + 1) + c];
          sum[0] = fmaf(p.x, v, sum[0]);
          sum[1] = fmaf(p.y, v, sum[1]);
          sum[2] = fmaf(p.z, v, sum[2]);
          sum[3] = fmaf(p.w, v, sum[3]);
        }
#pragma unroll
        for (int i = 0; i < kFour; ++i) out[i * latent] = sum[i];
      }
    }
  }

  // The entries of the group from `first` on: how many there are.
  __device__ __forceinline__ int load_slots(int first) const {
    const std::int32_t* list = a.indices + token * a.top_k;
    const int i = static_cast<int>(threadIdx.x);
    const int slot = i < kGroup && first + i < a.top_k ? list[first + i] : -1;
    if (i < kGroup) s.slots[i] = slot;
    __syncthreads();
    return __popc(__ballot_sync(kAllLanes, s.slots[lane_id()] >= 0)) +
           __popc(__ballot_sync(kAllLanes, s.slots[lane_id() + 32] >= 0));
  }

  __device__ __forceinline__ void run() const {
    const int latent = a.layout.latent;
    for (int i = static_cast<int>(threadIdx.x); i < kMlaHeads * latent; i += kThreads) {
      s.out[i] = 0.0f;
    }
    if (columns >= width) stage_queries(0);
    constexpr int kEach = kMlaHeads / static_cast<int>(kWarps);  // heads of a warp
    float best[kEach], total[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      best[i] = -3.0e38f;
      total[i] = 0.0f;
    }
    for (int first = 0; first < a.top_k; first += kGroup) {
      const int n = load_slots(first);
      if (n == 0) break;
      scores(n);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int h = warp_id() * kEach + i;
        if (h / kFour * kFour < heads) softmax(h, n, best[i], total[i]);
      }
      __syncthreads();
      values(n);
      __syncthreads();
      if (n < kGroup) break;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (lane_id() == 0) s.total[warp_id() * kEach + i] = total[i];
    }
    __syncthreads();
    with_type(a.type, [&](auto type) { store<decltype(type)>(); });
  }

  template <class T>
  __device__ __forceinline__ void store() const {
    const int latent = a.layout.latent;
    constexpr int size = sizeof(typename T::Stored);
    std::byte* out = a.out + (token * a.num_heads + head) * latent * size;
    for (int h = warp_id(); h < heads; h += kWarps) {
      const float total = s.total[h];
      for (int c = lane_id(); c < latent; c += 32) {
        const std::int64_t i = std::int64_t{h} * latent + c;
        T::store(out, i, total == 0.0f ? 0.0f : s.out[i] / total);
      }
    }
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_sparse_mla(SparseMlaArguments a) {
  extern __shared__ __align__(16) float memory[];
  const int columns = sparse_mla_columns(a.layout);
  const Shared s(memory, a.layout, columns);
  if (a.layout.format == CacheLayout::Format::fp8) {
    Attention<Bf16, true>(a, s, columns).run();
  } else if (a.layout.format == CacheLayout::Format::bf16) {
    Attention<Bf16, false>(a, s, columns).run();
  } else {
    Attention<F32, false>(a, s, columns).run();
  }
}

}  // namespace dsv32::kernels::cuda
