// A Forward of a golden model on one backend, and texts whose pages a test chooses.
#ifndef DSV32_TESTS_BACKEND_FORWARD_WORLD_H_
#define DSV32_TESTS_BACKEND_FORWARD_WORLD_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/model/forward.h"
#include "lib/weights/checkpoint_impl.h"
#include "tests/backend/backends.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {

using Int32s = std::vector<std::int32_t>;

struct WorldOptions {
  std::string model = "fp8";
  bool mtp = true;
  int rows = 200, sequences = 6, context = 320, pages = 40;
};

class World {
 public:
  explicit World(Backend& backend, const WorldOptions& options = {});

  StepResult step(const Batch& batch) {
    StepResult result;
    forward.run(batch, result, {});
    return result;
  }
  std::size_t vocab() const { return static_cast<std::size_t>(files.config.vocab_size); }

  CheckpointFiles files;
  std::size_t told = 0;  // bytes of weights
  Forward forward;
};

// A sequence of tokens, and the pages for its keys.
struct Text {
  Int32s tokens, pages;

  std::int32_t page(int position) const { return pages[static_cast<std::size_t>(position / 64)]; }
  std::int32_t slot(int position) const { return page(position) * 64 + position % 64; }
};

Text random_text(Data& data, int length, Int32s pages);

enum class Wanted { none, last, all };  // of the logits

// Adds rows [first, first + count) of `text` as one sequence, with MTP as an engine does: the row
// of the position before them takes the hidden state that its page keeps.
void add_rows(Batch& batch, const Text& text, int first, int count, Wanted wanted, bool mtp);

// Adds the MTP row behind position `last`, with `token` as the next one.
void add_draft(Batch& batch, const Text& text, int last, std::int32_t token);

bool same_bits(std::span<const float> x, std::span<const float> y);

}  // namespace dsv32::test

#endif  // DSV32_TESTS_BACKEND_FORWARD_WORLD_H_
