// The ordered list of kernel sets. A new one is a declaration and a place in the list.
#include "kernels/cpu/table.h"

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

CpuTables runnable_cpu_tables() {
  const CpuKernels* const all[] = {  // best first
#if defined(__x86_64__)
    &avx512bf16::table,
    &avx512::table,
    &avx2::table,
#endif
    &generic::table,
    &reference::table
  };
  CpuTables out{};
  for (const CpuKernels* table : all) {
    if (table->runs_here()) out.tables[out.count++] = table;
  }
  return out;
}

}  // namespace dsv32::kernels
