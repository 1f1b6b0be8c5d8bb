// Writes a safetensors file: 8 bytes of length, a JSON header, the data.
#include "cli/safetensors_writer.h"

#include <array>

#include <nlohmann/json.hpp>

namespace cli {

void write_file(const std::filesystem::path& file,
                std::span<const std::span<const std::byte>> parts) {
  ScratchFile scratch(file);
  std::size_t at = 0;
  for (const auto part : parts) {
    scratch.write(at, part);
    at += part.size();
  }
  scratch.keep();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file,
                                 std::span<const OutTensor> tensors)
    : file_(file) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::size_t offset = 0;
  for (const OutTensor& tensor : tensors) {
    std::size_t bytes = 4;
    for (const std::size_t extent : tensor.shape) bytes *= extent;
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    places_.push_back({tensor.name, offset});
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // data starts aligned
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<std::byte>((text.size() >> (8 * i)) & 0xFF);
  const std::size_t begin = length.size() + text.size();
  for (Place& place : places_) place.at += begin;
  file_.reserve(begin + offset);
  file_.write(0, length);
  file_.write(length.size(), std::as_bytes(std::span<const char>(text)));
}

void SafetensorsFile::write(const std::string& name, std::size_t element,
                            std::span<const std::byte> data) const {
  for (const Place& place : places_)
    if (place.name == name) file_.write(place.at + 4 * element, data);
}

}  // namespace cli
