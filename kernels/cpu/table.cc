// The ordered list of kernel sets. A new one is a declaration and a place in the list.
#include "kernels/cpu/table.h"

#include <cstring>

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

struct Entry {
  const CpuKernels* table;
  const char* needs;
};

static constexpr Entry kAll[] = {  // best first
#if defined(__x86_64__)
    {&avx512bf16::table, "AVX-512 F, BW, VL, DQ, VBMI, VNNI and BF16"},
    {&avx512::table, "AVX-512 F, BW, VL and DQ"},
    {&avx2::table, "AVX2, FMA and F16C"},
#endif
    {&generic::table, "nothing"},
    {&reference::table, "nothing"}};

CpuTables runnable_cpu_tables() {
  CpuTables out{};
  for (const Entry& entry : kAll) {
    if (entry.table->runs_here()) out.tables[out.count++] = entry.table;
  }
  return out;
}

const char* cpu_table_needs(const char* name) {
  for (const Entry& entry : kAll) {
    if (std::strcmp(entry.table->name, name) == 0) return entry.needs;
  }
  return nullptr;
}

}  // namespace dsv32::kernels
