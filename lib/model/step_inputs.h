// What a step uploads: all of its lists in one block, by one call.
#ifndef DSV32_LIB_MODEL_STEP_INPUTS_H_
#define DSV32_LIB_MODEL_STEP_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/backend/backend.h"
#include "lib/model/batch.h"
#include "lib/model/rope.h"

namespace dsv32 {

inline constexpr int kMaxRows = 1 << 16;       // of a step, whatever the options say
inline constexpr int kMaxSequences = 1 << 12;  // likewise
inline constexpr int kLogitsTile = 64;         // rows of logits that exist at a time

// How large a step may be.
struct StepCapacity {
  int rows = 0;
  int sequences = 0;
  int pages = 0;  // of one sequence: the page table's stride
  int rope = 0;   // width of the angles
  bool mtp = false;
};

// The lengths of a step's lists as the backend wants them: at least those of the batch. Padding is
// -1 throughout, so it is stored nowhere; only rows whose logits nobody asked for are row 0.
struct StepDims {
  int rows = 0, sequences = 0, logits = 0;
  int mtp = 0, mtp_logits = 0, before = 0, hidden = 0;

  StepDims(const Batch& batch, const StepShapes& shapes, const StepCapacity& most);
  // Never 0, and different for different lengths: what a pass may be recorded under, if its logits
  // fit one tile.
  std::uint64_t key() const;
};

// The lists in backend memory; those of a length 0 have no data.
struct StepInputs {
  BatchView main, mtp;
  TensorView logits_rows, mtp_logits_rows;  // [1, n] i32
  TensorView mtp_of_row;                    // [1, rows]
  TensorView before_pages, before_rows;     // [1, before]
  TensorView hidden_rows, hidden_pages;     // [1, hidden]
  TensorView nan_queries;                   // [1, rows], zeros: counted up by the pass
};

class InputBlock {
 public:
  static std::size_t bytes(const StepCapacity& most);

  // `memory` [1, bytes(most)] u8 belongs to `backend`.
  InputBlock(const StepCapacity& most, TensorView memory);

  // Throws internal for a batch that is larger than what there is room for.
  StepInputs upload(const Batch& batch, const StepDims& dims, const Rope& rope, Backend& backend);

 private:
  StepCapacity most_;
  TensorView memory_;
  std::vector<std::byte> staging_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_STEP_INPUTS_H_
