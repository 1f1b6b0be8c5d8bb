// A sequence's part of a pass: its rows, whose logits are wanted, and what comes back of them.
#ifndef DSV32_LIB_ENGINE_PASS_PART_H_
#define DSV32_LIB_ENGINE_PASS_PART_H_

#include <cstddef>
#include <span>

#include "dsv32/config.h"
#include "dsv32/types.h"

#include "lib/engine/sequence.h"
#include "lib/model/batch.h"

namespace dsv32 {

enum class WantedLogits : std::uint8_t { last, every };  // last: of a growth's, when it is there

struct PassPart {
  GrownRows rows{};                                // count 0: it has none in this pass
  std::size_t logits_first = 0, logits_count = 0;  // of the pass's rows of logits

  // The next `count` rows of `growth`, as a part of `batch`.
  static PassPart add(Batch& batch, Growth& growth, std::size_t count, WantedLogits wanted);

  std::size_t new_rows() const { return rows.count - rows.again; }
  std::span<const float> logits(const StepResult& result, std::size_t vocab) const {
    return std::span(result.logits).subspan(logits_first * vocab, logits_count * vocab);
  }
  // Keys that the pass over these rows saw, scored and read, by arithmetic: the kernels do nothing
  // else. What met NaN the pass has counted.
  void count(const ModelConfig& config, const StepResult& result, SparseStats& stats) const;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_PASS_PART_H_
