// Members of tokenizer.json that nobody reads.
#ifndef DSV32_LIB_TEXT_TOKENIZER_KEYS_H_
#define DSV32_LIB_TEXT_TOKENIZER_KEYS_H_

#include "lib/base/json.h"

namespace dsv32 {

// Throws unsupported, by name, for a member of any block of `file` that nobody reads and whose
// value says something. docs/formats.md lists those that change no id and pass.
void refuse_unread_keys(const Json& file);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_TOKENIZER_KEYS_H_
