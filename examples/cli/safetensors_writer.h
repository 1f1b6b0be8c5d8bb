// Writes a safetensors file.
#ifndef EXAMPLES_CLI_SAFETENSORS_WRITER_H_
#define EXAMPLES_CLI_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cli/scratch.h"

namespace cli {

struct OutTensor {
  std::string name{};
  std::string dtype{};  // "F32" or "I32": four bytes an element
  std::vector<std::size_t> shape{};
};

// A file whose tensors are filled in any order; little-endian, row-major. What is wrong with the
// place is found when it is made. A file that was there stays until the new one is kept. Throws
// std::runtime_error naming the file and the system's reason.
class SafetensorsFile {
 public:
  SafetensorsFile(const std::filesystem::path& file, std::span<const OutTensor> tensors);

  // From that element of the tensor on.
  void write(const std::string& name, std::size_t element, std::span<const std::byte> data) const;
  void keep() { file_.keep(); }

 private:
  struct Place {
    std::string name{};
    std::size_t at = 0;
  };

  ScratchFile file_;
  std::vector<Place> places_;
};

// Any bytes, in the same way.
void write_file(const std::filesystem::path& file,
                std::span<const std::span<const std::byte>> parts);

}  // namespace cli

#endif  // EXAMPLES_CLI_SAFETENSORS_WRITER_H_
