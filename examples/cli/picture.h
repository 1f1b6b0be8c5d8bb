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
  static constexpr std::uint8_t kText = 203;
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
  std::size_t tokens_a_pixel = 1;
  Image image{};  // the panels alone
};

// Counts while the passes run: what it holds does not grow with the text.
class HeatMapCounts {
 public:
  HeatMapCounts(std::size_t tokens, std::vector<int> layers);

  // rows: [count, width], ascending, -1 = none, of `index` in the list of layers.
  void add(std::size_t index, std::size_t first, std::span<const std::int32_t> rows,
           std::size_t width);
  HeatMap map() const;

  std::size_t tokens_a_pixel() const noexcept;            // on a side, at most; 1: each has its own
  std::size_t pixels() const noexcept { return cells_; }  // of a panel's side that differ

 private:
  std::size_t tokens_;
  std::vector<int> layers_;
  std::size_t columns_ = 1;  // panels beside each other
  std::size_t rows_ = 1;
  std::size_t cells_ = 1;                   // of a panel's side
  std::size_t scale_ = 1;                   // pixels of a cell's side
  std::vector<std::vector<float>> read_{};  // pairs of query and key, a layer and cell
};

// What the axes and colours mean, one line each; the last only if pixels are shared.
std::vector<std::string> legend(const HeatMap& map);

std::vector<std::byte> png(const Image& image);
Image labelled(const HeatMap& map);   // with axes, the layers' numbers and a legend
std::string svg(const HeatMap& map);  // the same

// By the name's ending, .png or .svg.
std::vector<std::byte> picture_bytes(const std::filesystem::path& file, const HeatMap& map);

}  // namespace cli

#endif  // EXAMPLES_CLI_PICTURE_H_
