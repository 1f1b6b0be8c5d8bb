// The backends of the tests of the seam: one for each of the CPU's kernel sets, and the deferring
// one.
#include "lib/backend/backend_kind.h"
#include "tests/backend/backends.h"
#include "tests/support/deferring_backend.h"
#include "tests/support/kernel_sets.h"

namespace dsv32::test {
namespace {

std::unique_ptr<Backend> cpu(const std::string& kernel_set) {
  return cpu_backend_kind.open({.num_threads = 3, .kernel_set = kernel_set});
}

}  // namespace

// A new backend joins with one line; one that needs a machine of its own, with a file beside this
// one.
std::vector<OpenBackend> open_backends() {
  std::vector<OpenBackend> all;
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  for (int i = 0; i + 1 < tables.count; ++i) {  // the last is the reference
    const std::string set = tables.tables[i]->name;
    if (is_tested(set)) all.push_back({"cpu " + set, cpu(set)});
  }
  all.push_back({"deferring", std::make_unique<DeferringBackend>(cpu(""))});
  return all;
}

}  // namespace dsv32::test
