// What tokenizer.json says, checked and in flat tables.
#ifndef DSV32_LIB_TEXT_VOCABULARY_H_
#define DSV32_LIB_TEXT_VOCABULARY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dsv32/types.h"

namespace dsv32 {

inline constexpr std::size_t kMaxTokenizerBytes = std::size_t{64} << 20;
inline constexpr TokenId kMaxTokenId = (1 << 21) - 1;  // tables are indexed by id

// A merge: its place in the file's list (a lower one goes first), and the token it makes.
struct Merge {
  std::int32_t rank = -1;
  TokenId result = -1;
};

// (left, right) to Merge, by open addressing: the inner loop of the encoder.
class MergeTable {
 public:
  explicit MergeTable(std::size_t expected);
  bool insert(TokenId left, TokenId right, Merge merge);  // false: the pair is there already
  const Merge* find(TokenId left, TokenId right) const {
    if (!may_hold(key_of(left, right))) return nullptr;
    for (std::size_t slot = slot_of(key_of(left, right));; slot = (slot + 1) & mask_) {
      const Slot& s = slots_[slot];
      if (s.key == key_of(left, right)) return &s.merge;
      if (s.key == kEmpty) return nullptr;
    }
  }
  template <class OnMerge>  // (left, right, merge), in no order
  void for_each(const OnMerge& on_merge) const {
    for (const Slot& slot : slots_) {
      if (slot.key == kEmpty) continue;
      on_merge(static_cast<TokenId>(slot.key >> 32), static_cast<TokenId>(slot.key & 0xFFFFFFFFu),
               slot.merge);
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge{};
  };
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
  }

  // Most pairs are in no merge, and the slots are too many for the nearer caches: eight bits a slot
  // answer for them.
  std::size_t bit_of(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> (shift_ - 3));
  }
  bool may_hold(std::uint64_t key) const {
    return (present_[bit_of(key) / 64] >> (bit_of(key) % 64) & 1u) != 0;
  }

  std::vector<Slot> slots_;
  std::vector<std::uint64_t> present_;
  std::size_t mask_;
  int shift_;
};

struct AddedToken {
  TokenId id = -1;
  std::string text{};
  bool special = false;
  bool normalized = false;
};

struct Vocabulary {
  std::string text{};                   // all tokens' bytes, one after the other
  std::vector<std::uint32_t> begin{};   // of id's bytes in `text`; begin[id + 1] ends them
  std::vector<std::uint8_t> special{};  // by id
  std::vector<AddedToken> added{};      // in the file's order
  std::array<TokenId, 256> byte_ids{};  // the token of each single byte
  MergeTable merges{0};
  std::vector<TokenId> characters{};  // whole_characters(); empty: none is taken whole
  std::unordered_map<std::string_view, TokenId> ids{};  // keys lie in `text`

  int size() const { return static_cast<int>(special.size()); }
  // Empty for an id without a token.
  std::string_view bytes(TokenId id) const {
    if (id < 0 || id >= size()) return {};
    const auto i = static_cast<std::size_t>(id);
    return std::string_view(text).substr(begin[i], begin[i + 1] - begin[i]);
  }
};

// `json`: the text of tokenizer.json. Byte-level BPE behind kSplitPatterns, and nothing else:
// throws bad_format, limit, or unsupported for another kind.
Vocabulary parse_vocabulary(std::string_view json);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_VOCABULARY_H_
