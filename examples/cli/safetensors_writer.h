// Writes a safetensors file.
#ifndef EXAMPLES_CLI_SAFETENSORS_WRITER_H_
#define EXAMPLES_CLI_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace cli {

struct OutTensor {
  std::string name{};
  std::string dtype{};  // "F32" or "I32"
  std::vector<std::size_t> shape{};
  std::span<const std::byte> data{};  // little-endian, row-major
};

// Throws std::runtime_error naming the file; a file that was there stays until the new one is
// whole.
void write_safetensors(const std::filesystem::path& file, std::span<const OutTensor> tensors);

// Any bytes, in the same way.
void write_file(const std::filesystem::path& file,
                std::span<const std::span<const std::byte>> parts);

}  // namespace cli

#endif  // EXAMPLES_CLI_SAFETENSORS_WRITER_H_
