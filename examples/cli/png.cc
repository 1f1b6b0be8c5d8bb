// PNG of a palette image.
#include <array>
#include <string_view>

#include "cli/deflate.h"
#include "cli/picture.h"

namespace cli {
namespace {

constexpr std::array<std::uint8_t, 3> kPaper = {255, 255, 255};
constexpr std::array<std::uint8_t, 3> kInk = {8, 29, 88};
constexpr std::array<std::uint8_t, 3> kFuture = {225, 225, 228};
constexpr std::array<std::uint8_t, 3> kText = {60, 60, 60};

using Bytes = std::vector<std::byte>;

void put(Bytes& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<std::byte>(value >> shift & 0xFF));
}

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

void chunk(Bytes& out, std::string_view type, std::span<const std::byte> data) {
  put(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t start = out.size();
  for (const char c : type) out.push_back(static_cast<std::byte>(c));
  out.insert(out.end(), data.begin(), data.end());
  put(out, crc32(std::span(out).subspan(start)));
}

// From paper to ink, then what is not data.
Bytes palette() {
  Bytes out;
  for (unsigned i = 0; i <= Image::kFull; ++i)
    for (std::size_t channel = 0; channel < 3; ++channel)
      out.push_back(static_cast<std::byte>(
          (kPaper[channel] * (Image::kFull - i) + kInk[channel] * i) / Image::kFull));
  for (const auto& color : {kFuture, kPaper, kText})
    for (const std::uint8_t value : color) out.push_back(static_cast<std::byte>(value));
  return out;
}

}  // namespace

Bytes png(const Image& image) {
  Bytes header;
  put(header, static_cast<std::uint32_t>(image.width));
  put(header, static_cast<std::uint32_t>(image.height));
  for (const int value : {8, 3, 0, 0, 0}) header.push_back(static_cast<std::byte>(value));
  Bytes raw;  // each row behind a byte that names its filter: none
  raw.reserve(image.height * (image.width + 1));
  for (std::size_t y = 0; y < image.height; ++y) {
    raw.push_back(std::byte{0});
    const auto row = std::as_bytes(std::span(image.pixels).subspan(y * image.width, image.width));
    raw.insert(raw.end(), row.begin(), row.end());
  }
  Bytes out;
  for (const int value : {0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A})  // its signature
    out.push_back(static_cast<std::byte>(value));
  chunk(out, "IHDR", header);
  chunk(out, "PLTE", palette());
  chunk(out, "IDAT", zlib_compressed(raw));
  chunk(out, "IEND", {});
  return out;
}

}  // namespace cli
