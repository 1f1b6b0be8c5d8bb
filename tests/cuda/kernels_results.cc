// What machines of both kinds share.
#include <cstdlib>
#include <fstream>

#include "tests/cuda/kernels_machine.h"

namespace dsv32::test {

const kernels::CpuKernels& reference_twins() {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  return *tables.tables[tables.count - 1];
}

// A line "TEST\tFUNCTION\tCOUNT", then the bytes.
void note_result(const char* function, const void* bytes, std::size_t count) {
  const char* path = std::getenv("DSV32_RESULTS");
  if (path == nullptr) return;
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << Catch::getResultCapture().getCurrentTestName() << '\t' << function << '\t' << count
       << '\n';
  file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
  REQUIRE(file);
}

}  // namespace dsv32::test
