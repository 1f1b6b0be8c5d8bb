// Any parameters, biases, masks and rows: what a sampler in double precision could have drawn, in
// every kernel set alike, or the typed error that is due.
#include <cstdio>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/sampler_case.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string fault = dsv32::fuzz::sampler_fault({data, size});
  if (!fault.empty()) std::fprintf(stderr, "sampler: %s\n", fault.c_str());
  dsv32::fuzz::require(fault.empty());
  return 0;
}
