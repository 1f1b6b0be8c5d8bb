// A Session in a file, bit for bit (docs/formats.md has the layout).
#ifndef DSV32_LIB_ENGINE_SAVED_SESSION_H_
#define DSV32_LIB_ENGINE_SAVED_SESSION_H_

#include <span>
#include <stop_token>
#include <vector>

#include "lib/base/saved_file.h"
#include "lib/engine/sequence.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

// Writes all of `sequence`, with the logits after its last token if they are known. Takes turns for
// the pages only, some of them at a time; `cancel` is looked at between.
void write_session(LoadedModel& model, const Sequence& sequence, std::span<const float> logits,
                   SavedFile& file, const std::stop_token& cancel);

// The same into an empty sequence; returns the logits. Nothing is taken for a count that the file's
// size, the model's positions or the pool do not bear out, and after an error the sequence is as
// before.
std::vector<float> read_session(LoadedModel& model, Sequence& sequence, FileReader& file,
                                const std::stop_token& cancel);

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SAVED_SESSION_H_
