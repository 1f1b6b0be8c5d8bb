// One step as a value: all that crosses from control to compute.
#ifndef DSV32_LIB_MODEL_BATCH_H_
#define DSV32_LIB_MODEL_BATCH_H_

#include <cstdint>
#include <vector>

namespace dsv32 {

// Tokens of one or more sequences, each sequence's in ascending position and one after the other.
struct Batch {
  std::vector<std::int32_t> tokens;        // [num_tokens]
  std::vector<std::int32_t> positions;     // [num_tokens]
  std::vector<std::int32_t> slots;         // [num_tokens] page * 64 + place
  std::vector<std::int32_t> seq_of_token;  // [num_tokens] row of page_table
  std::vector<std::int32_t> page_table;    // [num_seqs, max_pages]
  int num_seqs = 1;
  int max_pages = 0;
  std::vector<std::int32_t> logits_rows;  // rows whose logits are wanted
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_BATCH_H_
