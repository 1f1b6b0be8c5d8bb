// What this process has in memory.
#ifndef DSV32_TESTS_SUPPORT_RESIDENT_BYTES_H_
#define DSV32_TESTS_SUPPORT_RESIDENT_BYTES_H_

#include <cstddef>
#include <fstream>
#include <unistd.h>

namespace dsv32::test {

inline std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_RESIDENT_BYTES_H_
