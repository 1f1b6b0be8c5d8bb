// A search over the held tail and the new piece; the tail is shorter than the longest stop string.
#include "lib/engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxStrings = 1024, kMaxBytes = 64u << 10;

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> strings) : strings_(std::move(strings)) {
  std::size_t bytes = 0;
  for (const std::string& s : strings_) {
    DSV32_CHECK(!s.empty(), invalid_argument, "an empty stop string");
    bytes += s.size();
    longest_ = std::max(longest_, s.size());
  }
  DSV32_CHECK(strings_.size() <= kMaxStrings && bytes <= kMaxBytes, limit,
              "{} stop strings of {} bytes, more than {} or {}", strings_.size(), bytes,
              kMaxStrings, kMaxBytes);
}

// Where the tail that may begin a stop string starts.
std::size_t StopMatcher::held_from() const {
  const std::size_t first = held_.size() - std::min(held_.size(), longest_ - 1);
  for (std::size_t begin = first; begin < held_.size(); ++begin) {
    const std::string_view tail = std::string_view(held_).substr(begin);
    for (const std::string& s : strings_) {
      if (std::string_view(s).starts_with(tail)) return begin;
    }
  }
  return held_.size();
}

std::string StopMatcher::push(std::string_view text) {
  if (strings_.empty()) return std::string(text);
  if (matched()) return {};
  held_ += text;
  std::size_t best = std::string::npos;
  for (const std::string& s : strings_) {
    const std::size_t at = held_.find(s);
    if (at == std::string::npos || at > best) continue;
    if (at < best || s.size() > match_.size()) match_ = s;
    best = at;
  }
  // A longer stop string that begins earlier may still be incomplete; the first complete one wins.
  const std::size_t end = matched() ? best : held_from();
  std::string out = held_.substr(0, end);
  held_.erase(0, end);
  return out;
}

std::string StopMatcher::flush() { return matched() ? std::string() : std::exchange(held_, {}); }

}  // namespace dsv32
