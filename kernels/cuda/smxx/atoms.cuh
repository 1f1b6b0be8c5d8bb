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

// fma (9.7.4.4) of two bf16 each: times a factor, both exactly rounded, subnormal numbers too.
__device__ __forceinline__ std::uint32_t scale_bf16(std::uint32_t pair, std::uint32_t factors) {
  std::uint32_t product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(pair), "r"(factors), "r"(0x80008000u));
  return product;
}

__device__ __forceinline__ float from_f16(std::uint16_t half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}

// cp.async (9.7.9.25.3.1): 16 bytes into shared memory, of which the first `bytes` come from global
// memory and the others are zeros. They are there, for this thread, behind wait_copies.
__device__ __forceinline__ void copy_async(void* to, const void* from, int bytes) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" : : : "memory");
}
// For all but the last `kPending` groups that were committed.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kPending) : "memory");
}

// ld (9.7.9.8) and st (9.7.9.11) of 8 and of 16 bytes of shared memory.
__device__ __forceinline__ uint2 load_eight(const void* from) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(from));
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
  return v;
}
__device__ __forceinline__ uint4 load_sixteen(const void* from) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(from));
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ void store_eight(void* to, std::uint32_t a, std::uint32_t b) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" : : "r"(address), "r"(a), "r"(b) : "memory");
}
__device__ __forceinline__ void store_sixteen(void* to, const uint4& v) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// ldmatrix (9.7.14.5.15): four 8 x 8 tiles of 16-bit values in shared memory; lane l gives the
// address of row l % 8 of tile l / 8, 16 bytes, and gets values 2 (l % 4) and the next of row l / 4
// of each.
__device__ __forceinline__ void load_tiles(std::uint32_t row, std::uint32_t (&tiles)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(row)
               : "memory");
}
// The same, each tile transposed: a lane gets values of rows 2 (l % 4) and the next of column l
// / 4.
__device__ __forceinline__ void load_transposed_tiles(std::uint32_t row,
                                                      std::uint32_t (&tiles)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(row)
               : "memory");
}

// mma (9.7.14.5.14), m16n8k16 of bf16 into f32: sums += a b. Of sums lane l has columns 2 (l % 4)
// and the next of row l / 4, then of row l / 4 + 8.
__device__ __forceinline__ void multiply_tiles(const std::uint32_t (&a)[4], std::uint32_t b_low,
                                               std::uint32_t b_high, float (&sums)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
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
