// AVX-512 F, BW, VL and DQ: Skylake servers and later.
#include <immintrin.h>

#include "kernels/cpu/table.h"
#include "kernels/numbers.h"

namespace dsv32::kernels::avx512 {

constexpr int kTileRows = 4, kTileTokens = 4;

// Each uses what stands before it.
// clang-format off
#include "kernels/cpu/lanes_avx512-inl.h"
#include "kernels/cpu/dense-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/indexer-inl.h"
#include "kernels/cpu/mla-inl.h"
#include "kernels/cpu/moe-inl.h"
#include "kernels/cpu/logit-row-inl.h"
#include "kernels/cpu/topk-avx512-inl.h"
// clang-format on

constexpr CpuFeatures kNeeds = kAvx2 | kFma | kF16c | kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq;

extern const CpuKernels table;
const CpuKernels table = {"avx512",     kNeeds,     embed,       add_rms_norm, silu_mul,
                          quantise,     pack,       linear,      mla_store,    mla_absorb,
                          sparse_mla,   mla_expand, index_store, index_query,  index_scores,
                          top_k_avx512, moe_gate,   moe_combine, logit_maxima, logit_weights};

}  // namespace dsv32::kernels::avx512
