// Compression as PNG wants it.
#ifndef EXAMPLES_CLI_DEFLATE_H_
#define EXAMPLES_CLI_DEFLATE_H_

#include <cstddef>
#include <span>
#include <vector>

namespace cli {

// A zlib stream (RFC 1950) of one block with fixed codes (RFC 1951): for data that repeats itself.
std::vector<std::byte> zlib_compressed(std::span<const std::byte> raw);

}  // namespace cli

#endif  // EXAMPLES_CLI_DEFLATE_H_
