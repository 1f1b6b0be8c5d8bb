// file PATH [--list]: opens a safetensors file or a checkpoint's folder and reads every byte.
#include <array>
#include <cstdint>
#include <cstdio>

#include "lib/base/check.h"
#include "lib/weights/shards.h"
#include "tests/conformance/conformance.h"

namespace dsv32::conformance {
namespace {

// CRC-32 as zlib has it (polynomial 0xEDB88320, reflected).
std::uint32_t crc32(std::span<const std::byte> data) {
  static const auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      table[i] = c;
    }
    return table;
  }();
  std::uint32_t crc = ~0u;
  for (const std::byte byte : data) {
    crc = kTable[(crc ^ static_cast<std::uint32_t>(byte)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

}  // namespace

int run_file(const Args& args) {
  const bool list = args.size() == 2 && args[1] == "--list";
  DSV32_CHECK(args.size() == 1 || list, invalid_argument, "usage: file PATH [--list]");
  const Shards shards = open_shards(std::filesystem::path(args[0]), FileAccess::mmap);
  std::size_t bytes = 0;
  for (const TensorInfo& tensor : shards.tensors) {
    const std::uint32_t crc = crc32(tensor.data);
    bytes += tensor.data.size();
    if (list) {
      std::printf("%s\t%s\t[%s]\t%08x\n", tensor.name.c_str(), tensor.dtype.c_str(),
                  fmt::format("{}", fmt::join(tensor.shape, ", ")).c_str(), crc);
    }
  }
  if (!list) {
    std::printf("%zu tensors, %zu bytes in %zu files\n", shards.tensors.size(), bytes,
                shards.files.size());
  }
  return 0;
}

}  // namespace dsv32::conformance
