// What every target shares. A target lets only typed errors pass; anything else is a finding.
#ifndef DSV32_TESTS_FUZZ_FUZZ_H_
#define DSV32_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "dsv32/error.h"

namespace dsv32::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A property that must hold for every input.
inline void require(bool holds) {
  if (!holds) std::abort();
}

// Runs `body`; a refusal must keep to its promises.
template <class Body>
int run(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    require(error.code() != ErrorCode::internal);
    require(std::string_view(error.what()).size() <= 512);
  }
  return 0;
}

}  // namespace dsv32::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

#endif  // DSV32_TESTS_FUZZ_FUZZ_H_
