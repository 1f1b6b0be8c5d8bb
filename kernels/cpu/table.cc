// The ordered list of kernel sets. A new one is a declaration and a place in the list.
#include "kernels/cpu/table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace dsv32::kernels {

#if defined(__x86_64__)
namespace avx2 {
extern const CpuKernels table;
}
namespace avx512 {
extern const CpuKernels table;
}
namespace avx512bf16 {
extern const CpuKernels table;
}
#endif
namespace generic {
extern const CpuKernels table;
}
namespace reference {
extern const CpuKernels table;
}

static constexpr const CpuKernels* kAll[] = {  // best first
#if defined(__x86_64__)
    &avx512bf16::table, &avx512::table, &avx2::table,
#endif
    &generic::table, &reference::table};

// As /proc/cpuinfo spells them.
static constexpr const char* kFeatureNames[kCpuFeatureCount] = {
    "avx2",     "fma",      "f16c",        "avx512f",     "avx512bw",
    "avx512vl", "avx512dq", "avx512_vbmi", "avx512_vnni", "avx512_bf16"};

const char* cpu_feature_name(int i) { return kFeatureNames[i]; }

#if defined(__x86_64__)
// Clang 14 has no name for F16C in __builtin_cpu_supports.
static bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

CpuFeatures cpu_features() {
  CpuFeatures have = 0;
  const auto add = [&](bool there, CpuFeatures feature) { have |= there ? feature : 0u; };
  add(__builtin_cpu_supports("avx2"), kAvx2);
  add(__builtin_cpu_supports("fma"), kFma);
  add(__builtin_cpu_supports("avx2") && has_f16c(), kF16c);  // the system saves wide registers
  add(__builtin_cpu_supports("avx512f"), kAvx512F);
  add(__builtin_cpu_supports("avx512bw"), kAvx512Bw);
  add(__builtin_cpu_supports("avx512vl"), kAvx512Vl);
  add(__builtin_cpu_supports("avx512dq"), kAvx512Dq);
  add(__builtin_cpu_supports("avx512vbmi"), kAvx512Vbmi);
  add(__builtin_cpu_supports("avx512vnni"), kAvx512Vnni);
  add(__builtin_cpu_supports("avx512bf16"), kAvx512Bf16);
  return have;
}
#else
CpuFeatures cpu_features() { return 0; }
#endif

CpuTables cpu_tables_with(CpuFeatures have) {
  CpuTables out{};
  for (const CpuKernels* table : kAll) {
    if ((table->needs & ~have) == 0) out.tables[out.count++] = table;
  }
  return out;
}

CpuTables all_cpu_tables() { return cpu_tables_with(~CpuFeatures{0}); }
CpuTables runnable_cpu_tables() { return cpu_tables_with(cpu_features()); }

}  // namespace dsv32::kernels
