// The instructions that CUDA C++ has no plain word for, each with its section of the PTX ISA. No
// other file has inline assembly.
#ifndef DSV32_KERNELS_CUDA_SMXX_ATOMS_CUH_
#define DSV32_KERNELS_CUDA_SMXX_ATOMS_CUH_

#include <cstdint>

namespace dsv32::kernels::cuda {

// cvt (9.7.9.21): both rounded to nearest even; a NaN becomes 0x7FFF.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ float from_f16(std::uint16_t half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}

// ex2 (9.7.3.21): 2^x within 2 ulp; subnormal results are 0, NaN stays NaN. The only way to an
// exponential here, so that all steps have the same.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float exp_fast(float x) { return exp2_fast(x * 1.44269504f); }

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_ATOMS_CUH_
