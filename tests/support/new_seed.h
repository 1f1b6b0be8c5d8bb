// The seed of a property test.
#ifndef DSV32_TESTS_SUPPORT_NEW_SEED_H_
#define DSV32_TESTS_SUPPORT_NEW_SEED_H_

#include <cstdint>
#include <cstdlib>
#include <random>

namespace dsv32::test {

// Another one each time; DSV32_TEST_SEED repeats one.
inline std::uint64_t new_seed() {
  if (const char* given = std::getenv("DSV32_TEST_SEED")) return std::strtoull(given, nullptr, 10);
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_NEW_SEED_H_
