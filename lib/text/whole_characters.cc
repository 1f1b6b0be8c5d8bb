#include "lib/text/whole_characters.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace dsv32 {
namespace {

constexpr char32_t kFirst = 0x800, kEnd = 0x10000;  // three bytes each
constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80; }

// The lowest rank of a merge across a character's border, by the token on this side of it.
class BorderMerges {
 public:
  explicit BorderMerges(const Vocabulary& v)
      : before_(v.special.size(), kNever), behind_(v.special.size(), kNever) {
    v.merges.for_each([&](TokenId left, TokenId right, Merge merge) {
      lower(behind_[static_cast<std::size_t>(right)], merge.rank);
      const std::string_view next = v.bytes(right);
      if (is_continuation(next.front())) return;  // inside a character
      lower(before_[static_cast<std::size_t>(left)], merge.rank);
    });
  }
  std::int32_t before(TokenId last) const { return before_[static_cast<std::size_t>(last)]; }
  std::int32_t behind(TokenId first) const { return behind_[static_cast<std::size_t>(first)]; }

 private:
  static void lower(std::int32_t& rank, std::int32_t other) { rank = std::min(rank, other); }

  std::vector<std::int32_t> before_, behind_;  // a border that follows, or precedes, the token
};

TokenId whole_character(const Vocabulary& v, const BorderMerges& borders, char32_t code) {
  std::array<TokenId, 3> ids{v.byte_ids[0xE0 | code >> 12], v.byte_ids[0x80 | (code >> 6 & 0x3F)],
                             v.byte_ids[0x80 | (code & 0x3F)]};
  const auto rank_of = [&](const Merge* merge) { return merge != nullptr ? merge->rank : kNever; };
  std::int32_t taken = std::min(borders.behind(ids[0]), borders.before(ids[2]));
  const Merge* head = v.merges.find(ids[0], ids[1]);
  const Merge* tail = v.merges.find(ids[1], ids[2]);
  const bool head_first = rank_of(head) < rank_of(tail);
  const Merge* first = head_first ? head : tail;
  if (first == nullptr) return -1;
  const Merge* second = nullptr;
  if (head_first) {
    taken = std::min(taken, borders.behind(first->result));
    second = v.merges.find(first->result, ids[2]);
  } else {
    taken = std::min(taken, borders.before(first->result));
    second = v.merges.find(ids[0], first->result);
  }
  if (second == nullptr || taken <= std::max(first->rank, second->rank)) return -1;
  return second->result;
}

}  // namespace

std::vector<TokenId> whole_characters(const Vocabulary& v) {
  std::vector<TokenId> out(kEnd, -1);
  const BorderMerges borders(v);
  for (char32_t code = kFirst; code < kEnd; ++code)
    out[static_cast<std::size_t>(code)] = whole_character(v, borders, code);
  return out;
}

}  // namespace dsv32
