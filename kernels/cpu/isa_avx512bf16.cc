// AVX-512 with VBMI and BF16: Zen 4 and later, Sapphire Rapids and later. BF16 rows go through
// VDPBF16PS, INT8 index keys through VPDPBUSD; f32 rows (exact numerics) take the f32 forms.
#include <immintrin.h>

#include "kernels/cpu/table.h"
#include "kernels/numbers.h"

namespace dsv32::kernels::avx512bf16 {

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
#include "kernels/cpu/weights-bf16-inl.h"
#include "kernels/cpu/pack-bf16-inl.h"
#include "kernels/cpu/gemv-bf16-inl.h"
#include "kernels/cpu/gemm-bf16-inl.h"
#include "kernels/cpu/records-bf16-inl.h"
#include "kernels/cpu/mla-bf16-inl.h"
#include "kernels/cpu/mla-project-bf16-inl.h"
#include "kernels/cpu/mla-absorb-bf16-inl.h"
#include "kernels/cpu/mla-expand-bf16-inl.h"
#include "kernels/cpu/indexer-bf16-inl.h"
#include "kernels/cpu/indexer-int8-inl.h"
#include "kernels/cpu/topk-avx512-inl.h"
// clang-format on

constexpr CpuFeatures kNeeds = kAvx2 | kFma | kF16c | kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq |
                               kAvx512Vbmi | kAvx512Vnni | kAvx512Bf16;

extern const CpuKernels table;
const CpuKernels table = {
    "avx512bf16",    kNeeds,          embed,       add_rms_norm, silu_mul,
    quantise,        pack_bf16,       linear_bf16, mla_store,    mla_absorb_bf16,
    sparse_mla_bf16, mla_expand_bf16, index_store, index_query,  index_scores_vnni,
    top_k_avx512,    moe_gate,        moe_combine, logit_maxima, logit_weights};

}  // namespace dsv32::kernels::avx512bf16
