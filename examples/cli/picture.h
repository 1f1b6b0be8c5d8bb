// A heat map of which tokens each query reads.
#ifndef EXAMPLES_CLI_PICTURE_H_
#define EXAMPLES_CLI_PICTURE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace cli {

// Palette image: one byte a pixel, kUnseen or a share of kFull.
struct Image {
  static constexpr std::uint8_t kFull = 200;    // every visible key of this pixel was read
  static constexpr std::uint8_t kUnseen = 201;  // keys after the query
  static constexpr std::uint8_t kMargin = 202;
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<std::uint8_t> pixels{};  // [height, width]
};

// Rows = query positions, columns = key positions, both from the top left; one panel a layer.
struct HeatMap {
  std::size_t tokens = 0;
  std::vector<int> layers{};  // their numbers
  std::size_t columns = 1;    // panels beside each other
  std::size_t panel = 0;      // width and height of one, in pixels
  std::size_t gap = 0;
  Image image{};
};

// selection: [layers, tokens, width], ascending, -1 = none; of the layers in `chosen`.
HeatMap draw(std::span<const std::int32_t> selection, std::size_t tokens, std::size_t width,
             const std::vector<int>& chosen);

std::vector<std::byte> png(const Image& image);
std::string svg(const HeatMap& map);  // with axes and the layers' numbers

// By the name's ending, .png or .svg. Throws std::runtime_error.
void write_picture(const std::filesystem::path& file, const HeatMap& map);

}  // namespace cli

#endif  // EXAMPLES_CLI_PICTURE_H_
