// Splits text as DeepSeek's pre-tokeniser does: three expressions, one after the other.
#ifndef DSV32_LIB_TEXT_PRETOKENIZE_H_
#define DSV32_LIB_TEXT_PRETOKENIZE_H_

#include <array>
#include <functional>
#include <string_view>

namespace dsv32 {

// The expressions as tokenizer.json spells them. No other pre-tokeniser is known here.
inline constexpr std::array<std::string_view, 3> kSplitPatterns = {
    "\\p{N}{1,3}", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};

// Calls on_piece for each piece of `text` (valid UTF-8), in order; the pieces' concatenation is the
// text. One pass, no recursion, no backtracking beyond one run of white space.
void pretokenize(std::string_view text, const std::function<void(std::string_view)>& on_piece);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_PRETOKENIZE_H_
