// The class of every code point, as the pre-tokeniser's expressions see it (Unicode 16.0).
#ifndef DSV32_LIB_TEXT_UNICODE_TABLE_H_
#define DSV32_LIB_TEXT_UNICODE_TABLE_H_

#include <cstddef>
#include <cstdint>

namespace dsv32 {

enum class CharClass : std::uint8_t { other, letter_or_mark, punctuation_or_symbol, number, space };

inline constexpr std::size_t kUnicodeBlockSize = 128;
extern const std::uint8_t kUnicodeBlock[];  // NOLINT(readability-identifier-naming)
extern const std::uint8_t kUnicodeClass[];  // NOLINT(readability-identifier-naming)

// `code` up to 0x10FFFF.
inline CharClass char_class(char32_t code) {
  const std::size_t block = kUnicodeBlock[code / kUnicodeBlockSize];
  return static_cast<CharClass>(
      kUnicodeClass[block * kUnicodeBlockSize + code % kUnicodeBlockSize]);
}

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_UNICODE_TABLE_H_
