// A scanner by hand: linear where a regex engine backtracks, and exact where its tables differ.
// Letters a to f are the alternatives of the third expression, in its order.
#include "lib/text/pretokenize.h"

#include <cstddef>

#include "lib/text/unicode_table.h"
#include "lib/text/utf8.h"

namespace dsv32 {
namespace {

struct Char {
  char32_t code;
  std::size_t size;
  CharClass kind;
};

Char char_at(std::string_view text, std::size_t at) {
  const Utf8Char c = next_utf8(text.substr(at));
  return {c.code, c.size, char_class(c.code)};
}

bool is_cjk(char32_t c) { return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF); }
bool is_newline(char32_t c) { return c == '\r' || c == '\n'; }
bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_ascii_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

// End of the run of characters of class `kind` that begins at `at`.
std::size_t run_end(std::string_view text, std::size_t at, CharClass kind) {
  while (at < text.size()) {
    const Char c = char_at(text, at);
    if (c.kind != kind) break;
    at += c.size;
  }
  return at;
}

// d, e, f: a run of white space at `at`.
std::size_t space_end(std::string_view text, std::size_t at) {
  std::size_t end = at, after_newline = 0, last = at;
  while (end < text.size()) {
    const Char c = char_at(text, end);
    if (c.kind != CharClass::space) break;
    last = end;
    end += c.size;
    if (is_newline(c.code)) after_newline = end;
  }
  if (after_newline > 0) return after_newline;  // d: up to the last newline
  if (end == text.size()) return end;           // e: nothing behind
  return last > at ? last : end;                // e: all but the last one; f: a single one
}

// End of what the third expression matches at `at`; `at` itself if nothing does.
std::size_t match_end(std::string_view text, std::size_t at) {
  const Char c = char_at(text, at);
  const std::size_t next = at + c.size;
  if (c.kind == CharClass::letter_or_mark)
    return run_end(text, at, CharClass::letter_or_mark);                                      // b
  if (is_ascii_punctuation(text[at]) && next < text.size() && is_ascii_letter(text[next])) {  // a
    std::size_t end = next;
    while (end < text.size() && is_ascii_letter(text[end])) ++end;
    return end;
  }
  const bool punctuation = c.kind == CharClass::punctuation_or_symbol;
  if (!punctuation && !is_newline(c.code)) {  // b with its optional first character
    const std::size_t end = run_end(text, next, CharClass::letter_or_mark);
    if (end > next) return end;
  }
  const std::size_t marks = c.code == ' ' ? next : at;
  std::size_t end = run_end(text, marks, CharClass::punctuation_or_symbol);  // c
  if (end > marks) {
    while (end < text.size() && is_newline(static_cast<unsigned char>(text[end]))) ++end;
    return end;
  }
  return c.kind == CharClass::space ? space_end(text, at) : at;
}

// The third expression over one piece; what it does not match stands alone, as a gap.
void split_rest(std::string_view text, const std::function<void(std::string_view)>& on_piece) {
  std::size_t gap = 0, at = 0;
  while (at < text.size()) {
    const std::size_t end = match_end(text, at);
    if (end == at) {
      at += char_at(text, at).size;
      continue;
    }
    if (at > gap) on_piece(text.substr(gap, at - gap));
    on_piece(text.substr(at, end - at));
    gap = at = end;
  }
  if (at > gap) on_piece(text.substr(gap));
}

// Which stretch of the first two expressions a character belongs to.
enum class Stretch { number, cjk, rest };

Stretch stretch_of(const Char& c) {
  if (c.kind == CharClass::number) return Stretch::number;
  return is_cjk(c.code) ? Stretch::cjk : Stretch::rest;
}

}  // namespace

void pretokenize(std::string_view text, const std::function<void(std::string_view)>& on_piece) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    Char c = char_at(text, begin);
    const Stretch stretch = stretch_of(c);
    std::size_t end = begin;
    int count = 0;
    while (end < text.size()) {
      c = char_at(text, end);
      if (stretch_of(c) != stretch || (stretch == Stretch::number && count == 3)) break;
      end += c.size;
      ++count;
    }
    const std::string_view piece = text.substr(begin, end - begin);
    if (stretch == Stretch::number) {
      on_piece(piece);
    } else {
      split_rest(piece, on_piece);
    }
    begin = end;
  }
}

}  // namespace dsv32
