// Characters that the encoder may take as one symbol, instead of their bytes.
#ifndef DSV32_LIB_TEXT_WHOLE_CHARACTERS_H_
#define DSV32_LIB_TEXT_WHOLE_CHARACTERS_H_

#include <vector>

#include "lib/text/vocabulary.h"

namespace dsv32 {

// For each code point below 2^16 the token of its three bytes in UTF-8, or -1. It is there only if
// the bytes become that token in every well-formed text: every merge that could take one of them
// away to a neighbouring character ranks behind the merges that put the character together. So
// beginning with it changes no result; most of CJK qualifies, and is two thirds of its merges.
std::vector<TokenId> whole_characters(const Vocabulary& vocabulary);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_WHOLE_CHARACTERS_H_
