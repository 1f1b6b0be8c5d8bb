// A set of kernels for one instruction set: a struct of function pointers.
#ifndef DSV32_KERNELS_CPU_TABLE_H_
#define DSV32_KERNELS_CPU_TABLE_H_

#include <cstdint>

#include "kernels/cpu/params.h"

namespace dsv32::kernels {

// What a processor may have beyond the build's own instructions, as bits.
using CpuFeatures = std::uint32_t;
inline constexpr CpuFeatures kAvx2 = 1u << 0, kFma = 1u << 1, kF16c = 1u << 2;
inline constexpr CpuFeatures kAvx512F = 1u << 3, kAvx512Bw = 1u << 4, kAvx512Vl = 1u << 5,
                             kAvx512Dq = 1u << 6, kAvx512Vbmi = 1u << 7, kAvx512Vnni = 1u << 8,
                             kAvx512Bf16 = 1u << 9;
inline constexpr int kCpuFeatureCount = 10;

CpuFeatures cpu_features();           // of this machine, as far as its system lets us use them
const char* cpu_feature_name(int i);  // of bit `i`

// Every set has every entry. Entries are single-threaded, neither throw nor check nor allocate.
struct CpuKernels {
  const char* name;
  CpuFeatures needs;

  void (*embed)(const EmbedParams&);
  void (*add_rms_norm)(const NormParams&);
  void (*silu_mul)(const SiluMulParams&);
  void (*quantise)(const QuantiseParams&);

  void (*pack)(const PackParams&);
  void (*linear)(const LinearParams&);

  void (*mla_store)(const MlaStoreParams&);
  void (*mla_absorb)(const MlaAbsorbParams&);
  void (*sparse_mla)(const SparseMlaParams&);
  void (*mla_expand)(const MlaExpandParams&);

  void (*index_store)(const IndexStoreParams&);
  void (*index_query)(const IndexQueryParams&);
  void (*index_scores)(const IndexScoresParams&);
  void (*top_k)(const TopKParams&);

  void (*moe_gate)(const MoeGateParams&);
  void (*moe_combine)(const MoeCombineParams&);

  void (*logit_maxima)(const LogitMaximaParams&);
  void (*logit_weights)(const LogitWeightsParams&);
};

// Sets, best first. `reference` (double precision, slow) is last, the portable one before it.
struct CpuTables {
  const CpuKernels* tables[8];
  int count;
};
CpuTables all_cpu_tables();                   // of this build
CpuTables cpu_tables_with(CpuFeatures have);  // those that need nothing else
CpuTables runnable_cpu_tables();              // on this machine

}  // namespace dsv32::kernels

#endif  // DSV32_KERNELS_CPU_TABLE_H_
