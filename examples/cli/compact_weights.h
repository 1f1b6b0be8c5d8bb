// Rows of numbers as INT8 or INT4 with a scale for each group of columns (docs/formats.md).
#ifndef EXAMPLES_CLI_COMPACT_WEIGHTS_H_
#define EXAMPLES_CLI_COMPACT_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "dsv32/checkpoint.h"

namespace cli {

struct CompactFormat {
  int bits = 8;     // 8 or 4
  int group = 128;  // columns that share a scale

  std::int64_t groups(std::int64_t cols) const { return (cols + group - 1) / group; }
  std::int64_t code_bytes(std::int64_t cols) const { return bits == 8 ? cols : (cols + 1) / 2; }
  std::int64_t scale_bytes(std::int64_t cols) const { return groups(cols) * (bits == 8 ? 4 : 2); }
};

// Writes a row's codes and scales; either may be empty. INT8: amax / 127. INT4: the f16 scale of
// least squared error among amax / 7 .. amax / 9. Throws std::range_error for what is not finite or
// needs a scale beyond f16.
void quantise_row(const CompactFormat& format, std::span<const float> row,
                  std::span<std::byte> codes, std::span<std::byte> scales);

// A matrix of a checkpoint, or one expert's part of a fused tensor.
struct SourceMatrix {
  const dsv32::TensorInfo* weight = nullptr;
  const dsv32::TensorInfo* scale = nullptr;  // of FP8: one a block of 128 x 128
  std::int64_t first = 0, rows = 0, cols = 0;

  void read(std::int64_t row, std::span<float> out) const;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_COMPACT_WEIGHTS_H_
