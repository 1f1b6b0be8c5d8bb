// Normal random numbers as the bytes of weights: any piece of any tensor, a gigabyte a second.
#ifndef EXAMPLES_CLI_RANDOM_VALUES_H_
#define EXAMPLES_CLI_RANDOM_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "cli/checkpoint_writer.h"

namespace cli {

// The stream of random words that belongs to a tensor.
std::uint64_t stream_of(std::uint64_t seed, std::string_view name);

// What these return makes the bytes from `first` (a multiple of 8) on of an endless row of numbers,
// drawn from a table of quantiles: normal with this mean and deviation, cut at 2.9 deviations (FP8)
// or 3.7 (the others). Tensors of one deviation share a table.
class NormalValues {
 public:
  Fill e4m3(std::uint64_t stream, float deviation);  // never NaN; at most 448
  Fill bf16(std::uint64_t stream, float deviation);
  static Fill f32(std::uint64_t stream, float mean, float deviation);

 private:
  template <class Code>
  using Table = std::shared_ptr<const std::vector<Code>>;
  std::map<float, Table<std::uint8_t>> e4m3_;
  std::map<float, Table<std::uint16_t>> bf16_;
};

// Scales of blocks, `base` times a random factor: 1/2, 1 or 2, or if odd anything between 1/2 and
// 2. The mean square of either is kScaleMeanSquare. E8M0 wants a power of two as base.
inline constexpr float kScaleMeanSquare = 1.75f;
Fill scales_f32(std::uint64_t stream, float base, bool odd);
Fill scales_e8m0(std::uint64_t stream, float base);

}  // namespace cli

#endif  // EXAMPLES_CLI_RANDOM_VALUES_H_
