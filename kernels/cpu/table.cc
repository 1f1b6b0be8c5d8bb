// The ordered list of kernel sets. A new one is a declaration and a place in the list.
#include "kernels/cpu/table.h"

namespace dsv32::kernels {

namespace generic {
extern const CpuKernels table;
}
namespace reference {
extern const CpuKernels table;
}

CpuTables runnable_cpu_tables() {
  const CpuKernels* const all[] = {&generic::table, &reference::table};  // best first
  CpuTables out{};
  for (const CpuKernels* table : all) {
    if (table->runs_here()) out.tables[out.count++] = table;
  }
  return out;
}

}  // namespace dsv32::kernels
