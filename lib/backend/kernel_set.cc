#include "lib/backend/kernel_set.h"

#include <span>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

void add(std::string& list, const char* name) {
  list += (list.empty() ? "" : ", ") + std::string(name);
}

std::span<const kernels::CpuKernels* const> listed(const kernels::CpuTables& tables) {
  return {tables.tables, static_cast<std::size_t>(tables.count)};
}

std::string names_of(kernels::CpuFeatures features) {
  std::string names;
  for (int i = 0; i < kernels::kCpuFeatureCount; ++i) {
    if ((features >> i & 1u) != 0) add(names, kernels::cpu_feature_name(i));
  }
  return names;
}

}  // namespace

const kernels::CpuKernels& choose_kernels(const std::string& name, kernels::CpuFeatures have) {
  const kernels::CpuTables runnable = kernels::cpu_tables_with(have);
  std::string names;
  for (const kernels::CpuKernels* table : listed(runnable)) {
    if (name.empty() || name == table->name) return *table;
    add(names, table->name);
  }
  const kernels::CpuTables all = kernels::all_cpu_tables();
  for (const kernels::CpuKernels* table : listed(all)) {
    DSV32_CHECK(name != table->name, unsupported,
                "kernel set {} needs {}, which this CPU lacks; those that run here: {}",
                quote(name), names_of(table->needs & ~have), names);
  }
  throw Error(ErrorCode::unsupported,
              formatted("there is no kernel set {} in this build; those that run here: {}",
                        quote(name), names));
}

}  // namespace dsv32
