// What kernels share that go through rows a block of 128 columns at a time, one warp a block and
// four neighbouring columns a lane: places of threads, sums in a fixed order, FP8 codes.
#ifndef DSV32_KERNELS_CUDA_SMXX_ROWS_CUH_
#define DSV32_KERNELS_CUDA_SMXX_ROWS_CUH_

#include "kernels/cuda/launch.h"
#include "kernels/cuda/smxx/values.cuh"

namespace dsv32::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x & 31); }
__device__ __forceinline__ int warp_id() { return static_cast<int>(threadIdx.x >> 5); }

// Of launch_warps: which piece is this warp's.
__device__ __forceinline__ std::int64_t warp_piece() {
  return std::int64_t{blockIdx.x} * kWarps + warp_id();
}

// Every lane gets the sum over all lanes: a tree, the same in each.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, distance);
  }
  return x;
}
__device__ __forceinline__ float warp_max(float x) {  // leaves NaN out
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, distance));
  }
  return x;
}

// The sum over a block of kThreads: warps in ascending order.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[kWarps];
  x = warp_sum(x);
  if (lane_id() == 0) parts[warp_id()] = x;
  __syncthreads();
  float sum = parts[0];
#pragma unroll
  for (int i = 1; i < static_cast<int>(kWarps); ++i) sum += parts[i];
  return sum;
}

__device__ __forceinline__ float largest_of(const float (&x)[4]) {
  return fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3])));
}

// A warp's 128 values, lane l's at 4 l, of which `n` count: e4m3 codes to `codes`. The result is
// their scale.
__device__ __forceinline__ float quantise_block(const float (&x)[4], int n, bool pow2,
                                                Byte* codes) {
  const float scale = fp8_scale(warp_max(largest_of(x)), pow2);
  const float inverse = 1.0f / scale;  // of a power of two: multiplying is dividing
  std::uint32_t code[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) code[j] = to_e4m3(pow2 ? x[j] * inverse : x[j] / scale);
  const int i = 4 * lane_id();
  if (i + 4 <= n && aligned(codes + i, 4)) {
    *reinterpret_cast<std::uint32_t*>(codes + i) =
        code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24;
    return scale;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (i + j < n) codes[i + j] = static_cast<Byte>(code[j]);
  }
  return scale;
}

// Block `block` of row `row`, whose form without codes is already rounded.
__device__ __forceinline__ void quantise_into(const Fp8Rows& out, std::int64_t row, int block,
                                              int cols, const float (&x)[4], bool pow2) {
  const int first = block * kBlock, n = min(kBlock, cols - first);
  const int blocks = (cols + kBlock - 1) / kBlock;
  const float scale = quantise_block(x, n, pow2, out.codes + row * cols + first);
  if (lane_id() == 0) out.scale[row * blocks + block] = scale;
}

__device__ __forceinline__ int type_bytes(ValueType type) {  // f32 or bf16
  return type == ValueType::f32 ? 4 : 2;
}

// Calls `with(F32{})` or `with(Bf16{})`.
template <class With>
__device__ __forceinline__ void with_type(ValueType type, With with) {
  if (type == ValueType::f32) {
    with(F32{});
  } else {
    with(Bf16{});
  }
}

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_ROWS_CUH_
