// A safetensors file.
#include "lib/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dsv32;
  return fuzz::run([&] {
    const auto file = std::as_bytes(std::span(data, size));
    unsigned sum = 0;
    for (const TensorInfo& tensor : parse_safetensors(file, "fuzz")) {
      for (const std::byte byte : tensor.data) sum += static_cast<unsigned>(byte);
    }
    volatile unsigned keep = sum;
    static_cast<void>(keep);
  });
}
