#include "lib/text/held_text.h"

#include <algorithm>
#include <array>

#include "lib/text/utf8.h"

namespace dsv32 {

void HeldText::feed(std::string_view text, TextKind kind) {
  if (kind == TextKind::marker && !partial_.empty()) finish();  // no character goes on in a marker
  // A character that began in text of another kind is no part of a marker.
  TextKind first_kind = partial_.empty() || partial_kind_ == kind ? kind : TextKind::plain;
  std::string joined;
  if (!partial_.empty()) {
    joined = partial_;
    joined += text;
    text = joined;
  }
  const std::size_t begin = buffer_.size();
  while (!text.empty()) {
    std::size_t good = valid_prefix(text);
    if (good > 0 && first_kind != kind) good = next_utf8(text).size;
    append(text.substr(0, good), first_kind);
    text.remove_prefix(good);
    if (good > 0) first_kind = kind;
    if (text.empty()) break;
    const Utf8Char c = next_utf8(text);
    if (c.state == Utf8Char::State::incomplete) break;
    if (c.state == Utf8Char::State::valid) continue;
    append(kReplacement, first_kind);
    first_kind = kind;
    text.remove_prefix(c.size);
  }
  if (!text.empty() || !partial_.empty()) partial_ = std::string(text);
  partial_kind_ = first_kind;
  if (kind == TextKind::marker && begin < kinds_.size()) kinds_[begin] = kFirst;
}

void HeldText::finish() {
  if (!partial_.empty()) append(kReplacement, TextKind::plain);
  partial_.clear();
}

void HeldText::append(std::string_view text, TextKind kind) {
  if (text.empty()) return;
  if (kinds_.empty() && kind != TextKind::any) kinds_.assign(buffer_.size(), kAny);
  const bool kinds_matter = kind != TextKind::any || !kinds_.empty();
  buffer_ += text;
  if (!kinds_matter) return;
  const char byte = kind == TextKind::any ? kAny : kind == TextKind::plain ? kPlain : kNext;
  kinds_.resize(buffer_.size(), byte);
}

bool HeldText::fits(std::size_t begin, const Marker& marker) const {
  if (kinds_.empty() || marker.core_size == 0) return true;
  const std::string_view kinds = std::string_view(kinds_);
  const std::size_t core = begin + marker.core_begin;
  if (core >= kinds.size()) return true;
  const std::string_view there = kinds.substr(core, marker.core_size);
  if (there.front() == kAny) return there.find_first_not_of(kAny) == there.npos;
  if (there.front() != kFirst || there.find_first_not_of(kNext, 1) != there.npos) return false;
  const std::size_t end = core + marker.core_size;  // the piece is the core, not more
  return end >= kinds.size() || kinds[end] != kNext;
}

HeldText::Match HeldText::find(std::span<const Marker> markers, bool hold) {
  std::array<bool, 256> first{};
  for (const Marker& marker : markers) first[static_cast<unsigned char>(marker.text[0])] = true;
  const std::string_view text = buffer_;
  for (std::size_t i = std::max(scanned_, at_); i < text.size(); ++i) {
    if (!first[static_cast<unsigned char>(text[i])]) continue;
    const std::string_view from = text.substr(i);
    for (const Marker& marker : markers) {
      if (from.starts_with(marker.text)) {
        if (!fits(i, marker)) continue;
        scanned_ = i;
        return {i - at_, marker.text.size(), marker.id};
      } else if (hold && marker.text.starts_with(from) && fits(i, marker)) {
        scanned_ = i;
        return {i - at_, 0, 0};
      }
    }
  }
  scanned_ = text.size();
  return {size(), 0, 0};
}

// Once what is covered is the larger part: each byte moves a bounded number of times.
void HeldText::compact() {
  if (kept_ < 4096 && kept_ < buffer_.size()) return;
  if (kept_ * 2 < buffer_.size()) return;
  buffer_.erase(0, kept_);
  if (!kinds_.empty()) kinds_.erase(0, kept_);
  offset_ += kept_;
  at_ -= kept_;
  scanned_ -= kept_;
  kept_ = 0;
}

}  // namespace dsv32
