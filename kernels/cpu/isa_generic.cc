// The portable kernel set: plain C++ that any compiler vectorises as far as it can.
#include "kernels/cpu/table.h"
#include "kernels/numbers.h"

namespace dsv32::kernels::generic {

// Every e4m3 code's value.
struct E4m3Table {
  float value[256];
};
static constexpr E4m3Table make_e4m3_table() {
  E4m3Table t{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 15, mantissa = code & 7;
    float x = static_cast<float>(exponent == 0 ? mantissa : mantissa + 8);
    for (int e = exponent == 0 ? 1 : exponent; e < 10; ++e) x /= 2;
    for (int e = exponent; e > 10; --e) x *= 2;
    if ((code & 127) == 127) x = __builtin_nanf("");
    t.value[code] = code & 128 ? -x : x;
  }
  return t;
}
static constexpr E4m3Table kE4m3 = make_e4m3_table();

constexpr int kTileRows = 4, kTileTokens = 1;

// Each uses what stands before it.
// clang-format off
#include "kernels/cpu/lanes_generic-inl.h"
#include "kernels/cpu/dense-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/indexer-inl.h"
#include "kernels/cpu/mla-inl.h"
#include "kernels/cpu/moe-inl.h"
#include "kernels/cpu/logit-row-inl.h"
// clang-format on

constexpr CpuFeatures kNeeds = 0;

extern const CpuKernels table;
const CpuKernels table = {"generic",  kNeeds,     embed,       add_rms_norm, silu_mul,
                          quantise,   pack,       linear,      mla_store,    mla_absorb,
                          sparse_mla, mla_expand, index_store, index_query,  index_scores,
                          top_k,      moe_gate,   moe_combine, logit_maxima, logit_weights};

}  // namespace dsv32::kernels::generic
