#define FMT_HEADER_ONLY 1
#include "lib/base/format.h"

#include <fmt/format.h>

namespace dsv32 {

std::string vformatted(fmt::string_view text, fmt::format_args values) {
  return fmt::vformat(text, values);
}

}  // namespace dsv32
