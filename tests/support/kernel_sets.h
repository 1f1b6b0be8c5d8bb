// The kernel sets that tests go through: all that run here; with a sanitizer, which makes every one
// of them cost minutes, those that tests/CMakeLists.txt names. Tests that ask for no set run the
// best.
#ifndef DSV32_TESTS_SUPPORT_KERNEL_SETS_H_
#define DSV32_TESTS_SUPPORT_KERNEL_SETS_H_

#include <string>
#include <string_view>
#include <vector>

namespace dsv32::test {

// Names with a space between; empty: all.
std::string_view tested_kernel_sets();

// Those of `names` that are in `tested`, in their order.
std::vector<std::string> only_tested(std::vector<std::string> names,
                                     std::string_view tested = tested_kernel_sets());
bool is_tested(std::string_view name, std::string_view tested = tested_kernel_sets());

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_KERNEL_SETS_H_
