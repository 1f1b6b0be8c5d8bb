// A config.json.
#include "dsv32/config.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return dsv32::fuzz::run([&] { dsv32::ModelConfig::from_json(dsv32::fuzz::text_of(data, size)); });
}
