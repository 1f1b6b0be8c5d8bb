#include "tests/support/kernel_sets.h"

#ifndef DSV32_TEST_KERNEL_SETS
#define DSV32_TEST_KERNEL_SETS ""
#endif

namespace dsv32::test {

std::string_view tested_kernel_sets() { return DSV32_TEST_KERNEL_SETS; }

bool is_tested(std::string_view name, std::string_view tested) {
  if (tested.empty()) return true;
  while (!tested.empty()) {
    const std::size_t end = tested.find(' ');
    if (tested.substr(0, end) == name) return true;
    tested = end == tested.npos ? "" : tested.substr(end + 1);
  }
  return false;
}

std::vector<std::string> only_tested(std::vector<std::string> names, std::string_view tested) {
  std::erase_if(names, [&](const std::string& name) { return !is_tested(name, tested); });
  return names;
}

}  // namespace dsv32::test
