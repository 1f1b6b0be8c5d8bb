// Topic moe: the gate's choice, where copies of tokens go, and the sum of what experts give.
#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {
namespace {

// ---- moe_gate: a token a warp
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + exp_fast(-x)); }

// Is a better than b? NaN is worst, so that any input gives distinct ids in range.
__device__ __forceinline__ bool better(float a, float b) { return a > b || (b != b && a == a); }

// The best value of [0, n) whose mark is `open`, the lower index among equals; all lanes get it.
__device__ __forceinline__ int take_best(const float* value, const int* marks, int open, int n) {
  int best = -1;
  float most = 0.0f;
  for (int i = lane_id(); i < n; i += 32) {
    if (marks[i] == open && (best < 0 || better(value[i], most))) {
      best = i;
      most = value[i];
    }
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const int other = __shfl_xor_sync(kAllLanes, best, distance);
    const float its = __shfl_xor_sync(kAllLanes, most, distance);
    const bool equal = !better(its, most) && !better(most, its);
    if (other >= 0 && (best < 0 || better(its, most) || (equal && other < best))) {
      best = other;
      most = its;
    }
  }
  return best;
}

// The sum of the two best of n.
__device__ __forceinline__ float group_score(const float* choice, int n) {
  float first = choice[0], second = choice[1];
  if (better(second, first)) {
    first = choice[1];
    second = choice[0];
  }
  for (int i = 2; i < n; ++i) {
    const float x = choice[i];
    if (better(x, first)) {
      second = first;
      first = x;
    } else if (better(x, second)) {
      second = x;
    }
  }
  return first + second;
}

enum Mark : int { kClosed, kOpen, kTaken };

struct Gate {
  float* choice;  // [num_experts]
  int* marks;     // [num_experts]
  float* groups;  // [n_group]
  int* kept;      // [n_group]

  __device__ __forceinline__ Gate(float* memory, const MoeGateArguments& a) {
    choice = memory;
    marks = reinterpret_cast<int*>(choice + a.num_experts);
    groups = reinterpret_cast<float*>(marks + a.num_experts);
    kept = reinterpret_cast<int*>(groups + a.n_group);
  }
};

// Opens the experts of the best groups.
__device__ __forceinline__ void open_groups(const MoeGateArguments& a, const Gate& g) {
  const int size = a.num_experts / a.n_group;
  for (int i = lane_id(); i < a.n_group; i += 32) {
    g.groups[i] = group_score(g.choice + i * size, size);
    g.kept[i] = kClosed;
  }
  __syncwarp();
  for (int i = 0; i < a.topk_group; ++i) {
    const int best = take_best(g.groups, g.kept, kClosed, a.n_group);
    __syncwarp();
    if (lane_id() == 0) g.kept[best] = kOpen;
    __syncwarp();
  }
  for (int e = lane_id(); e < a.num_experts; e += 32) g.marks[e] = g.kept[e / size];
  __syncwarp();
}

// Ids of the chosen experts in ascending order; their sigmoids take the place of what was chosen
// by.
__device__ __forceinline__ void write_chosen(const MoeGateArguments& a, const Gate& g,
                                             const float* scores, std::int32_t* ids) {
  int before = 0;
  for (int first = 0; first < a.num_experts; first += 32) {
    const int e = first + lane_id();
    const bool taken = e < a.num_experts && g.marks[e] == kTaken;
    const unsigned all = __ballot_sync(kAllLanes, taken);
    if (taken) {
      const int at = before + __popc(all & ((1u << lane_id()) - 1));
      ids[at] = e;
      g.choice[at] = sigmoid(scores[e]);
    }
    before += __popc(all);
  }
  __syncwarp();
}

// ---- moe_count and moe_place
__device__ __forceinline__ int expert_of(const MoeDispatchArguments& a, int copy) {
  const int expert = a.ids[copy] - a.first_expert;
  return expert >= 0 && expert < a.experts ? expert : -1;
}

constexpr int kCountThreads = 256;

// ---- moe_combine: a block of columns a warp
template <class T, class Out>
__device__ __forceinline__ void combine(const MoeCombineArguments& a, std::int64_t t, int col) {
  constexpr int size = sizeof(typename T::Stored);
  float sum[4] = {}, x[4];
  for (int j = 0; j < a.top; ++j) {
    const std::int64_t row = a.rows[t * a.top + j];
    if (row < 0) continue;
    load_four<T>(a.x + row * a.cols * size, col, a.cols, x);
    const float weight = a.weights[t * a.top + j];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = fmaf(weight, x[i], sum[i]);
  }
  if (a.shared != nullptr) {
    load_four<T>(a.shared + t * a.cols * size, col, a.cols, x);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += x[i];
  }
  store_four<Out>(a.out + t * a.cols * static_cast<int>(sizeof(typename Out::Stored)), col, a.cols,
                  sum);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(32) dsv32_moe_gate(MoeGateArguments a) {
  extern __shared__ float memory[];
  const Gate g(memory, a);
  const std::int64_t token = blockIdx.x;
  const float* scores = a.scores + token * a.num_experts;
  for (int e = lane_id(); e < a.num_experts; e += 32) {
    g.choice[e] = sigmoid(scores[e]) + a.bias[e];
    g.marks[e] = kOpen;
  }
  __syncwarp();
  if (a.topk_group < a.n_group) open_groups(a, g);
  for (int i = 0; i < a.top; ++i) {
    const int best = take_best(g.choice, g.marks, kOpen, a.num_experts);
    __syncwarp();
    if (lane_id() == 0) g.marks[best] = kTaken;
    __syncwarp();
  }
  write_chosen(a, g, scores, a.ids + token * a.top);
  float sum = 0.0f;
  for (int i = 0; i < a.top; ++i) sum += g.choice[i];
  for (int i = lane_id(); i < a.top; i += 32) {
    const float weight = a.norm_topk_prob ? g.choice[i] / sum : g.choice[i];
    a.weights[token * a.top + i] = weight * a.routed_scaling_factor;
  }
}

extern "C" __global__ void __launch_bounds__(kCountThreads)
    dsv32_moe_count(MoeDispatchArguments a) {
  __shared__ int counts[kMaxExperts];
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += kCountThreads) counts[e] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < a.copies; i += kCountThreads) {
    const int expert = expert_of(a, i);
    if (expert >= 0) {
      atomicAdd(&counts[expert], 1);
    } else {
      a.rows[i] = -1;
    }
  }
  __syncthreads();
  if (warp_id() > 0) return;
  int before = 0;
  for (int first = 0; first < a.experts; first += 32) {
    const int e = first + lane_id();
    int upto = e < a.experts ? counts[e] : 0;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upto, distance);
      if (lane_id() >= distance) upto += other;
    }
    if (e < a.experts) a.offsets[e + 1] = before + upto;
    before += __shfl_sync(kAllLanes, upto, 31);
  }
  if (lane_id() == 0) a.offsets[0] = 0;
}

// An expert a warp: its copies in ascending order, from its offset on.
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_moe_place(MoeDispatchArguments a) {
  const int expert = static_cast<int>(warp_piece());
  if (expert >= a.experts) return;
  int next = a.offsets[expert];
  const int end = a.offsets[expert + 1];
  for (int first = 0; first < a.copies && next < end; first += 32) {
    const int i = first + lane_id();
    const bool mine = i < a.copies && expert_of(a, i) == expert;
    const unsigned all = __ballot_sync(kAllLanes, mine);
    if (mine) a.rows[i] = next + __popc(all & ((1u << lane_id()) - 1));
    next += __popc(all);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_moe_combine(MoeCombineArguments a) {
  const std::int64_t piece = warp_piece();
  const int blocks = (a.cols + kBlock - 1) / kBlock;
  const std::int64_t t = piece / blocks;
  if (t >= a.num_tokens) return;
  const int col = static_cast<int>(piece % blocks) * kBlock + 4 * lane_id();
  if (a.type == ValueType::f32) {
    combine<F32, F32>(a, t, col);
  } else if (a.out_type == ValueType::f32) {
    combine<Bf16, F32>(a, t, col);
  } else {
    combine<Bf16, Bf16>(a, t, col);
  }
}

}  // namespace dsv32::kernels::cuda
