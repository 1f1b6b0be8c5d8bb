// Whether a tokenizer can serve a chat format.
#ifndef DSV32_LIB_TEXT_FORMAT_MARKERS_H_
#define DSV32_LIB_TEXT_FORMAT_MARKERS_H_

#include "dsv32/chat_template.h"
#include "dsv32/tokenizer.h"

namespace dsv32 {

// Throws mismatch, naming the first marker of `format` that is not a token of its own: the model
// would read it as text, which it never did in training.
void check_markers(const Tokenizer& tokenizer, ChatFormat format);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_FORMAT_MARKERS_H_
