// AVX2, FMA and F16C: every x86-64 since Haswell and Excavator.
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
#include "kernels/cpu/logit-row-inl.h"
// clang-format on

constexpr CpuFeatures kNeeds = kAvx2 | kFma | kF16c;

extern const CpuKernels table;
const CpuKernels table = {"avx2",     kNeeds,     embed,       add_rms_norm, silu_mul,
                          quantise,   pack,       linear,      mla_store,    mla_absorb,
                          sparse_mla, mla_expand, index_store, index_query,  index_scores,
                          top_k,      moe_gate,   moe_combine, logit_maxima, logit_weights};

}  // namespace dsv32::kernels::avx2
