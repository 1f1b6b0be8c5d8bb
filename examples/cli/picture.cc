// A heat map of which tokens each query reads.
#include "cli/picture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cli/pixel_text.h"

namespace cli {
namespace {

constexpr std::size_t kPanel = 512;         // pixels of a panel's side, about
constexpr std::size_t kPixels = 12U << 20;  // of all panels; more layers make them smaller
constexpr std::size_t kGap = 40;            // between panels: room for labels
constexpr std::size_t kLine = 14;           // of text

// How many pairs of query and key there are in each cell; keys after the query do not count.
std::vector<float> visible_pairs(std::size_t n, std::size_t cells) {
  std::vector<float> pairs(cells * cells, 0.0f);
  std::vector<std::size_t> first(cells + 1);  // first token of each cell
  for (std::size_t x = 0; x <= cells; ++x) first[x] = (x * n + cells - 1) / cells;
  for (std::size_t query = 0; query < n; ++query) {
    const std::size_t y = query * cells / n;
    for (std::size_t x = 0; x < cells && first[x] <= query; ++x)
      pairs[y * cells + x] += static_cast<float>(std::min(first[x + 1], query + 1) - first[x]);
  }
  return pairs;
}

struct Corner {
  std::size_t left;
  std::size_t top;
};

// A token may be several pixels wide: every pixel takes its cell's value.
void paint(const std::vector<float>& read, const std::vector<float>& pairs, std::size_t cells,
           std::size_t scale, Corner corner, Image& image) {
  const std::size_t side = cells * scale;
  for (std::size_t y = 0; y < side; ++y) {
    for (std::size_t x = 0; x < side; ++x) {
      const std::size_t cell = y / scale * cells + x / scale;
      const float share = pairs[cell] > 0.0f ? std::min(1.0f, read[cell] / pairs[cell]) : 0.0f;
      // The square root keeps single keys visible where a pixel holds many.
      image.pixels[(corner.top + y) * image.width + corner.left + x] =
          pairs[cell] > 0.0f ? static_cast<std::uint8_t>(
                                   std::lround(std::sqrt(share) * static_cast<float>(Image::kFull)))
                             : Image::kUnseen;
    }
  }
}

Corner corner_of(const HeatMap& map, std::size_t index) {
  const std::size_t step = map.panel + map.gap;
  return {map.gap + step * (index % map.columns), map.gap + step * (index / map.columns)};
}

constexpr int kTicks = 4;

std::string tick(const HeatMap& map, int index) {
  return std::to_string((map.tokens - 1) * static_cast<std::size_t>(index) / kTicks);
}

std::string number(double value) {
  const std::string text = std::to_string(std::lround(value * 10));
  return text.substr(0, text.size() - 1) + (text.size() > 1 ? "" : "0") + "." + text.back();
}

std::string label(double x, double y, const std::string& text, const std::string& style) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" " + style + ">" + text +
         "</text>\n";
}

std::string base64(std::span<const std::byte> bytes) {
  constexpr const char* kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve(bytes.size() * 4 / 3 + 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    unsigned group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (j < count ? std::to_integer<unsigned>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j)
      text += j <= count ? kAlphabet[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

// One panel's frame, title and ticks.
std::string panel_marks(const HeatMap& map, std::size_t index) {
  const Corner corner = corner_of(map, index);
  const auto left = static_cast<double>(corner.left), top = static_cast<double>(corner.top);
  const auto side = static_cast<double>(map.panel);
  std::string text = "<rect x=\"" + number(left) + "\" y=\"" + number(top) + "\" width=\"" +
                     number(side) + "\" height=\"" + number(side) +
                     "\" fill=\"none\" stroke=\"#555\"/>\n";
  text += label(left + side / 2, top - 6, "layer " + std::to_string(map.layers[index]),
                "text-anchor=\"middle\" font-weight=\"bold\"");
  for (int i = 0; i <= kTicks; ++i) {
    const double at = side * i / kTicks;
    text += label(left + at, top + side + 12, tick(map, i), "text-anchor=\"middle\"");
    text += label(left - 4, top + at + 4, tick(map, i), "text-anchor=\"end\"");
  }
  return text;
}

}  // namespace

HeatMapCounts::HeatMapCounts(std::size_t tokens, std::vector<int> layers)
    : tokens_(tokens), layers_(std::move(layers)) {
  while (columns_ * columns_ < layers_.size()) ++columns_;
  rows_ = (layers_.size() + columns_ - 1) / columns_;
  const auto most = static_cast<std::size_t>(
      std::sqrt(static_cast<double>(kPixels) / static_cast<double>(columns_ * rows_)));
  const std::size_t side = std::min(kPanel, most);
  cells_ = std::min(side, tokens_);
  scale_ = std::max<std::size_t>(1, side / cells_);
  read_.assign(layers_.size(), std::vector<float>(cells_ * cells_, 0.0f));
}

std::size_t HeatMapCounts::tokens_a_pixel() const noexcept {
  return (tokens_ + cells_ - 1) / cells_;
}

void HeatMapCounts::add(std::size_t index, std::size_t first, std::span<const std::int32_t> rows,
                        std::size_t width) {
  for (std::size_t row = 0; width > 0 && row < rows.size() / width; ++row) {
    const std::size_t y = (first + row) * cells_ / tokens_;
    for (const std::int32_t key : rows.subspan(row * width, width)) {
      if (key < 0) break;
      read_[index][y * cells_ + static_cast<std::size_t>(key) * cells_ / tokens_] += 1.0f;
    }
  }
}

HeatMap HeatMapCounts::map() const {
  HeatMap map{.tokens = tokens_,
              .layers = layers_,
              .columns = columns_,
              .panel = cells_ * scale_,
              .gap = kGap,
              .tokens_a_pixel = tokens_a_pixel(),
              .image = {}};
  const std::vector<float> pairs = visible_pairs(tokens_, cells_);
  Image& image = map.image;
  image.width = kGap + columns_ * (map.panel + kGap);
  image.height = kGap + rows_ * (map.panel + kGap);
  image.pixels.assign(image.width * image.height, Image::kMargin);
  for (std::size_t i = 0; i < layers_.size(); ++i)
    paint(read_[i], pairs, cells_, scale_, corner_of(map, i), image);
  return map;
}

std::vector<std::string> legend(const HeatMap& map) {
  std::vector<std::string> lines = {"rows: query position, columns: key position",
                                    "dark: read, white: not read, grey: in the future"};
  const std::string share = std::to_string(map.tokens_a_pixel);
  if (map.tokens_a_pixel > 1)
    lines.push_back("a pixel: up to " + share + " x " + share + " tokens, darker: more read");
  return lines;
}

Image labelled(const HeatMap& map) {
  Image image = map.image;
  const std::vector<std::string> lines = legend(map);
  image.height += (lines.size() + 1) * kLine;
  image.pixels.resize(image.width * image.height, Image::kMargin);
  for (std::size_t i = 0; i < map.layers.size(); ++i) {
    const Corner corner = corner_of(map, i);
    const std::string title = "layer " + std::to_string(map.layers[i]);
    write_text(image, corner.left + (map.panel - std::min(map.panel, text_width(title))) / 2,
               corner.top - kLine, title);
    for (int t = 0; t <= kTicks; ++t) {
      const std::size_t at = map.panel * static_cast<std::size_t>(t) / kTicks;
      const std::size_t width = text_width(tick(map, t));
      write_text(image, corner.left + at - width / 2, corner.top + map.panel + 4, tick(map, t));
      write_text(image, corner.left - width - 2, corner.top + at - 3, tick(map, t));
    }
  }
  for (std::size_t i = 0; i < lines.size(); ++i)
    write_text(image, kGap, map.image.height + i * kLine, lines[i]);
  return image;
}

std::string svg(const HeatMap& map) {
  const std::vector<std::string> lines = legend(map);
  const std::string width = std::to_string(map.image.width);
  const std::string height = std::to_string(map.image.height + (lines.size() + 1) * kLine);
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" +
                     height + "\" viewBox=\"0 0 " + width + " " + height +
                     "\" font-family=\"sans-serif\" font-size=\"10\">\n"
                     "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
                     "<image width=\"" +
                     width + "\" height=\"" + std::to_string(map.image.height) +
                     "\" image-rendering=\"pixelated\" href=\"data:image/png;base64," +
                     base64(png(map.image)) + "\"/>\n";
  for (std::size_t i = 0; i < map.layers.size(); ++i) text += panel_marks(map, i);
  for (std::size_t i = 0; i < lines.size(); ++i)
    text += label(static_cast<double>(map.gap), static_cast<double>(map.image.height + i * kLine),
                  lines[i], "");
  return text + "</svg>\n";
}

std::vector<std::byte> picture_bytes(const std::filesystem::path& file, const HeatMap& map) {
  if (file.extension() != ".svg") return png(labelled(map));
  const std::string text = svg(map);
  const auto bytes = std::as_bytes(std::span<const char>(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace cli
