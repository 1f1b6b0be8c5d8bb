// A heat map of which tokens each query reads.
#include "cli/picture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cli/safetensors_writer.h"

namespace cli {
namespace {

constexpr std::size_t kPanel = 512;         // pixels of a panel's side, about
constexpr std::size_t kPixels = 12U << 20;  // of all panels; more layers make them smaller
constexpr std::size_t kGap = 40;            // between panels: room for labels

// Counts, for each pixel, the pairs of query and key that were read.
void count_layer(std::span<const std::int32_t> rows, const HeatMap& map, std::size_t width,
                 std::vector<float>& read) {
  const std::size_t n = map.tokens;
  for (std::size_t query = 0; query < n; ++query) {
    const std::size_t y = query * map.panel / n;
    for (const std::int32_t key : rows.subspan(query * width, width)) {
      if (key < 0) break;
      read[y * map.panel + static_cast<std::size_t>(key) * map.panel / n] += 1.0f;
    }
  }
}

// How many pairs of query and key there are in each pixel; keys after the query do not count.
std::vector<float> visible_pairs(const HeatMap& map) {
  std::vector<float> pairs(map.panel * map.panel, 0.0f);
  std::vector<std::size_t> first(map.panel + 1);  // first token of each pixel
  const std::size_t n = map.tokens;
  for (std::size_t x = 0; x <= map.panel; ++x) first[x] = (x * n + map.panel - 1) / map.panel;
  for (std::size_t query = 0; query < n; ++query) {
    const std::size_t y = query * map.panel / n;
    for (std::size_t x = 0; x < map.panel && first[x] <= query; ++x)
      pairs[y * map.panel + x] += static_cast<float>(std::min(first[x + 1], query + 1) - first[x]);
  }
  return pairs;
}

// A token may be several pixels wide: every pixel takes its token's value.
void paint(const std::vector<float>& read, const std::vector<float>& pairs, const HeatMap& map,
           std::size_t scale, std::size_t left, std::size_t top, Image& image) {
  const std::size_t side = map.panel * scale;
  for (std::size_t y = 0; y < side; ++y) {
    for (std::size_t x = 0; x < side; ++x) {
      const std::size_t cell = y / scale * map.panel + x / scale;
      const float share = pairs[cell] > 0.0f ? std::min(1.0f, read[cell] / pairs[cell]) : 0.0f;
      // The square root keeps single keys visible where a pixel holds many.
      image.pixels[(top + y) * image.width + left + x] =
          pairs[cell] > 0.0f ? static_cast<std::uint8_t>(
                                   std::lround(std::sqrt(share) * static_cast<float>(Image::kFull)))
                             : Image::kUnseen;
    }
  }
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
  const auto step = static_cast<double>(map.panel + map.gap);
  const double left =
      static_cast<double>(map.gap) + step * static_cast<double>(index % map.columns);
  const double top = static_cast<double>(map.gap) + step * static_cast<double>(index / map.columns);
  const auto side = static_cast<double>(map.panel);
  std::string text = "<rect x=\"" + number(left) + "\" y=\"" + number(top) + "\" width=\"" +
                     number(side) + "\" height=\"" + number(side) +
                     "\" fill=\"none\" stroke=\"#555\"/>\n";
  text += label(left + side / 2, top - 6, "layer " + std::to_string(map.layers[index]),
                "text-anchor=\"middle\" font-weight=\"bold\"");
  for (int tick = 0; tick <= 4; ++tick) {
    const double at = side * tick / 4;
    const std::string position =
        std::to_string((map.tokens - 1) * static_cast<std::size_t>(tick) / 4);
    text += label(left + at, top + side + 12, position, "text-anchor=\"middle\"");
    text += label(left - 4, top + at + 4, position, "text-anchor=\"end\"");
  }
  return text;
}

}  // namespace

HeatMap draw(std::span<const std::int32_t> selection, std::size_t tokens, std::size_t width,
             const std::vector<int>& chosen) {
  HeatMap map{
      .tokens = tokens, .layers = chosen, .columns = 1, .panel = 0, .gap = kGap, .image = {}};
  while (map.columns * map.columns < chosen.size()) ++map.columns;
  const std::size_t rows = (chosen.size() + map.columns - 1) / map.columns;
  const auto most = static_cast<std::size_t>(
      std::sqrt(static_cast<double>(kPixels) / static_cast<double>(map.columns * rows)));
  const std::size_t side = std::min(kPanel, most);
  map.panel = std::min(side, tokens);
  const std::size_t scale = std::max<std::size_t>(1, side / map.panel);

  const std::vector<float> pairs = visible_pairs(map);
  const std::size_t step = map.panel * scale + kGap;
  Image& image = map.image;
  image.width = kGap + map.columns * step;
  image.height = kGap + rows * step;
  image.pixels.assign(image.width * image.height, Image::kMargin);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    std::vector<float> read(map.panel * map.panel, 0.0f);
    count_layer(selection.subspan(i * tokens * width, tokens * width), map, width, read);
    paint(read, pairs, map, scale, kGap + i % map.columns * step, kGap + i / map.columns * step,
          image);
  }
  map.panel *= scale;
  return map;
}

std::string svg(const HeatMap& map) {
  const std::string width = std::to_string(map.image.width);
  const std::string height = std::to_string(map.image.height + 20);
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" +
                     height + "\" viewBox=\"0 0 " + width + " " + height +
                     "\" font-family=\"sans-serif\" font-size=\"10\">\n"
                     "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
                     "<image width=\"" +
                     width + "\" height=\"" + std::to_string(map.image.height) +
                     "\" image-rendering=\"pixelated\" href=\"data:image/png;base64," +
                     base64(png(map.image)) + "\"/>\n";
  for (std::size_t i = 0; i < map.layers.size(); ++i) text += panel_marks(map, i);
  text +=
      label(static_cast<double>(map.image.width) / 2, static_cast<double>(map.image.height) + 10,
            "key position (columns), query position (rows): dark = read, white = visible but "
            "not read, grey = in the future",
            "text-anchor=\"middle\" font-size=\"9\"");
  return text + "</svg>\n";
}

void write_picture(const std::filesystem::path& file, const HeatMap& map) {
  const bool vector = file.extension() == ".svg";
  const std::string text = vector ? svg(map) : "";
  const std::vector<std::byte> bytes = vector ? std::vector<std::byte>() : png(map.image);
  const std::array parts = {vector ? std::as_bytes(std::span<const char>(text))
                                   : std::span<const std::byte>(bytes)};
  write_file(file, parts);
}

}  // namespace cli
