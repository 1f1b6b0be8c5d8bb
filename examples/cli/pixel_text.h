// Text in a picture.
#ifndef EXAMPLES_CLI_PIXEL_TEXT_H_
#define EXAMPLES_CLI_PIXEL_TEXT_H_

#include <cstddef>
#include <string_view>

#include "cli/picture.h"

namespace cli {

// Of small letters, digits, ':' and ','; all else is blank. 5 x 7 pixels and one between.
std::size_t text_width(std::string_view text) noexcept;
// From its left upper corner on; what is outside of the image is cut off.
void write_text(Image& image, std::size_t left, std::size_t top, std::string_view text);

}  // namespace cli

#endif  // EXAMPLES_CLI_PIXEL_TEXT_H_
