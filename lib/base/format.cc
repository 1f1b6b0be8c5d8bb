#define FMT_HEADER_ONLY 1
#include "lib/base/format.h"

#include <array>

#include <fmt/format.h>

namespace dsv32 {

std::string vformatted(fmt::string_view text, fmt::format_args values) {
  return fmt::vformat(text, values);
}

std::string human_bytes(std::size_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return formatted("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return formatted("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace dsv32
