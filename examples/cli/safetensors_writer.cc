// Writes a safetensors file: 8 bytes of length, a JSON header, the data.
#include "cli/safetensors_writer.h"

#include <array>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace cli {

void write_file(const std::filesystem::path& file,
                std::span<const std::span<const std::byte>> parts) {
  std::filesystem::path temporary = file;
  temporary += ".part";
  std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
  for (const auto part : parts)
    stream.write(reinterpret_cast<const char*>(part.data()),
                 static_cast<std::streamsize>(part.size()));
  stream.close();
  std::error_code error;
  if (stream) std::filesystem::rename(temporary, file, error);
  if (!stream || error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw std::runtime_error("cannot write '" + file.string() + "'");
  }
}

void write_safetensors(const std::filesystem::path& file, std::span<const OutTensor> tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::size_t offset = 0;
  for (const OutTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // data starts aligned
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<std::byte>((text.size() >> (8 * i)) & 0xFF);
  std::vector<std::span<const std::byte>> parts = {length,
                                                   std::as_bytes(std::span<const char>(text))};
  for (const OutTensor& tensor : tensors) parts.push_back(tensor.data);
  write_file(file, parts);
}

}  // namespace cli
