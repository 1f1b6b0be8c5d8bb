// AVX2, FMA and F16C: every x86-64 since Haswell and Excavator.
#include <cpuid.h>
#include <immintrin.h>

#include "kernels/cpu/table.h"
#include "kernels/numbers.h"

namespace dsv32::kernels::avx2 {

constexpr int kTileRows = 2, kTileTokens = 2;

// Each uses what stands before it.
// clang-format off
#include "kernels/cpu/lanes_avx2-inl.h"
#include "kernels/cpu/dense-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/indexer-inl.h"
#include "kernels/cpu/mla-inl.h"
#include "kernels/cpu/moe-inl.h"
// clang-format on

// Clang 14 has no name for F16C in __builtin_cpu_supports.
static bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static bool runs_here() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

extern const CpuKernels table;
const CpuKernels table = {"avx2",     runs_here,  embed,       add_rms_norm, silu_mul,
                          quantise,   pack,       linear,      mla_store,    mla_absorb,
                          sparse_mla, mla_expand, index_store, index_query,  index_scores,
                          top_k,      moe_gate,   moe_combine};

}  // namespace dsv32::kernels::avx2
