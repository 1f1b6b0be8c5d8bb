// The tensors of a random checkpoint.
#ifndef EXAMPLES_CLI_RANDOM_MODEL_H_
#define EXAMPLES_CLI_RANDOM_MODEL_H_

#include <cstdint>
#include <vector>

#include "dsv32/config.h"

#include "cli/checkpoint_writer.h"

namespace cli {

enum class Scales : std::uint8_t { f32, e8m0, odd };  // odd: F32, no powers of two

struct RandomModel {
  dsv32::ModelConfig config{};  // FP8 if it has a weight_block_size, else BF16
  Scales scales = Scales::f32;
  std::uint64_t seed = 0;
};

// Every tensor that the config calls for, in the order of the layers, the MTP layer's at last.
// Matrices are normal with deviation 1 / sqrt(columns), so that every activation keeps the size of
// its input; gains are near 1, biases near 0.
std::vector<StreamedTensor> random_tensors(const RandomModel& model);

}  // namespace cli

#endif  // EXAMPLES_CLI_RANDOM_MODEL_H_
