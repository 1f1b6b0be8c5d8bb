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

// A name is a file's word: a tab, a newline or a NUL in it must not make another line.
std::string printable(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7F ? formatted("\\u{:04x}", byte) : std::string(1, c);
  }
  return out;
}

}  // namespace

int run_file(const Args& args) {
  Args paths = args;
  const bool list = std::erase(paths, "--list") > 0;
  if (paths.size() != 1) throw UsageError("usage: file PATH [--list]");
  const Shards shards = open_shards(std::filesystem::path(paths[0]), FileAccess::mmap);
  std::size_t bytes = 0;
  for (const TensorInfo& tensor : shards.tensors) {
    const std::uint32_t crc = crc32(tensor.data);
    bytes += tensor.data.size();
    if (list) {
      std::printf("%s\t%s\t[%s]\t%08x\n", printable(tensor.name).c_str(), tensor.dtype.c_str(),
                  formatted("{}", joined(tensor.shape, ", ")).c_str(), crc);
    }
  }
  if (!list) {
    std::printf("%zu tensors, %zu bytes in %zu files\n", shards.tensors.size(), bytes,
                shards.files.size());
  }
  return 0;
}

}  // namespace dsv32::conformance
