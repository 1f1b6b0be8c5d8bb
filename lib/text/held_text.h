// Model output that is not decided yet: whole characters, and what may be a marker in it.
#ifndef DSV32_LIB_TEXT_HELD_TEXT_H_
#define DSV32_LIB_TEXT_HELD_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "lib/text/markers.h"

namespace dsv32 {

// What a piece of output may be: a marker if it looks like one, none, or one marker as a whole.
enum class TextKind : std::uint8_t { any, plain, marker };

// Text to look for. Its core is the part that is a token of its own where tokens are known.
struct Marker {
  constexpr Marker() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): tables of {text, id}
  constexpr Marker(std::string_view marker, int meaning) : text(marker), id(meaning) {
    const std::size_t dsml = text.find(markers::kDsml);
    if (dsml != text.npos) {
      core_begin = dsml;
      core_size = markers::kDsml.size();
    } else if (text.starts_with('<')) {
      core_size = text.size();
    }
  }

  std::string_view text{};
  int id = 0;
  std::size_t core_begin = 0;
  std::size_t core_size = 0;  // 0: ordinary text
};

class HeldText {
 public:
  struct Match {
    std::size_t begin = 0;  // in rest(): of the marker, or of what could become one, or its end
    std::size_t size = 0;   // 0: no marker
    int id = 0;
  };

  void feed(std::string_view text, TextKind kind);
  void finish();  // an unfinished character is ill-formed

  // From the reader's place on.
  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }
  std::size_t size() const { return buffer_.size() - at_; }
  std::size_t offset() const { return offset_ + at_; }  // in the output
  void consume(std::size_t size) { scanned_ = at_ += size; }

  // Text before the reader's place that no event has covered.
  std::string_view pending() const { return std::string_view(buffer_).substr(kept_, at_ - kept_); }
  std::size_t kept() const { return offset_ + kept_; }
  void release() { kept_ = at_; }            // covered, up to the reader's place
  void rewind() { scanned_ = at_ = kept_; }  // to read what is pending once more
  void compact();                            // drops what is covered

  // The first marker in the rest. hold: stop at what could still become one. As long as only feed()
  // comes between, one set of markers is looked for, and no byte twice.
  Match find(std::span<const Marker> markers, bool hold);
  // Whether the rest begins with it, by its looks and by what was fed.
  bool begins_with(const Marker& marker, std::size_t at = 0) const {
    return rest().substr(at).starts_with(marker.text) && fits(at_ + at, marker);
  }

 private:
  // Of a byte: kAny, kPlain, or in a marker its first one or another.
  static constexpr char kAny = 0, kPlain = 1, kFirst = 2, kNext = 3;

  void append(std::string_view text, TextKind kind);
  // As much of the marker's core as there is at buffer_[begin] may be one.
  bool fits(std::size_t begin, const Marker& marker) const;

  std::string buffer_{};
  std::string kinds_{};      // of each byte of buffer_; empty: all are kAny
  std::size_t at_ = 0;       // the reader's place
  std::size_t kept_ = 0;     // first byte that no event has covered
  std::size_t scanned_ = 0;  // no marker of the present set begins before here
  std::size_t offset_ = 0;   // of buffer_ in the output
  std::string partial_{};    // an unfinished character
  TextKind partial_kind_ = TextKind::any;
};

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_HELD_TEXT_H_
