// A checkpoint's tensors with the matrices that are worth it as INT8 or INT4.
#ifndef EXAMPLES_CLI_COMPACT_MODEL_H_
#define EXAMPLES_CLI_COMPACT_MODEL_H_

#include <cstddef>
#include <vector>

#include "dsv32/checkpoint.h"

#include "cli/checkpoint_writer.h"
#include "cli/compact_weights.h"

namespace cli {

struct CompactModel {
  std::vector<StreamedTensor> tensors{};  // in the order of the source's files
  std::size_t converted = 0;              // matrices
  std::size_t source_bytes = 0;
};

// Converts the experts, the dense MLP, q_a, q_b and o; copies the rest. Fused experts come apart
// under their official names. What it returns reads from `source` while it is written.
CompactModel compact_tensors(const dsv32::Checkpoint& source, const CompactFormat& format);

}  // namespace cli

#endif  // EXAMPLES_CLI_COMPACT_MODEL_H_
