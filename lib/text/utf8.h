// UTF-8, with ill-formed input handled as the Unicode standard recommends: one U+FFFD for each
// maximal ill-formed part.
#ifndef DSV32_LIB_TEXT_UTF8_H_
#define DSV32_LIB_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace dsv32 {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Utf8Char {
  char32_t code = 0;
  std::size_t size = 0;  // bytes; of an ill-formed part, too
  enum class State : std::uint8_t { valid, invalid, incomplete } state = State::valid;
};

// The character at the start of `text` (not empty). incomplete: all of `text` is the beginning of a
// character that more bytes could complete.
inline Utf8Char next_utf8(std::string_view text) {
  using State = Utf8Char::State;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, State::valid};
  const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return {0, 1, State::invalid};
  // The second byte's range excludes overlong forms, surrogates, and what lies beyond U+10FFFF.
  unsigned low = lead == 0xE0 ? 0xA0u : lead == 0xF0 ? 0x90u : 0x80u;
  unsigned high = lead == 0xED ? 0x9Fu : lead == 0xF4 ? 0x8Fu : 0xBFu;
  char32_t code = lead & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {0, i, State::incomplete};
    if (byte(i) < low || byte(i) > high) return {0, i, State::invalid};
    code = code << 6 | (byte(i) & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {code, size, State::valid};
}

// How many bytes at the start of `text` are well formed: whole characters only.
inline std::size_t valid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t eight = 0;
    if (at + sizeof eight <= text.size()) {
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {
        at += sizeof eight;
        continue;
      }
    }
    const Utf8Char c = next_utf8(text.substr(at));
    if (c.state != Utf8Char::State::valid) break;
    at += c.size;
  }
  return at;
}

// Calls on_part(part, is_good) for well-formed runs and ill-formed parts, in order.
template <class OnPart>
void for_each_utf8_part(std::string_view text, const OnPart& on_part) {
  while (!text.empty()) {
    const std::size_t good = valid_prefix(text);
    if (good > 0) on_part(text.substr(0, good), true);
    text.remove_prefix(good);
    if (text.empty()) return;
    const std::size_t bad = next_utf8(text).size;
    on_part(text.substr(0, bad), false);
    text.remove_prefix(bad);
  }
}

// `text` with every ill-formed part replaced, in memory of just that size.
inline std::string replace_ill_formed(std::string_view text) {
  std::size_t size = 0;
  for_each_utf8_part(text, [&](std::string_view part, bool is_good) {
    size += is_good ? part.size() : kReplacement.size();
  });
  std::string out;
  out.reserve(size);
  for_each_utf8_part(
      text, [&](std::string_view part, bool is_good) { out += is_good ? part : kReplacement; });
  return out;
}

inline std::string valid_utf8(std::string text) {
  if (valid_prefix(text) != text.size()) return replace_ill_formed(text);
  return text;
}

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_UTF8_H_
