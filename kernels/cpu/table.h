// A set of kernels for one instruction set: a struct of function pointers.
#ifndef DSV32_KERNELS_CPU_TABLE_H_
#define DSV32_KERNELS_CPU_TABLE_H_

#include "kernels/params.h"

namespace dsv32::kernels {

// Every set has every entry. Entries are single-threaded, neither throw nor check nor allocate.
struct CpuKernels {
  const char* name;
  bool (*runs_here)();

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
};

// The sets that this machine can run, best first. `reference` (double precision, slow) is last.
struct CpuTables {
  const CpuKernels* tables[8];
  int count;
};
CpuTables runnable_cpu_tables();

// The instructions that a set of this build needs, in words; null if there is no such set.
const char* cpu_table_needs(const char* name);

}  // namespace dsv32::kernels

#endif  // DSV32_KERNELS_CPU_TABLE_H_
