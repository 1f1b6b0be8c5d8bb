// Byte-pair encoding of one piece.
#ifndef DSV32_LIB_TEXT_BPE_H_
#define DSV32_LIB_TEXT_BPE_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "lib/text/vocabulary.h"

namespace dsv32 {

// Merges the pair of lowest rank, leftmost first at equal rank, until none has a rank. A value with
// scratch inside: one a thread. O(n log n) for a piece of n bytes.
class BytePairEncoder {
 public:
  explicit BytePairEncoder(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}
  void encode(std::string_view piece, std::vector<TokenId>& out);

 private:
  struct Symbol {
    TokenId id;
    std::int32_t previous, next;  // -1: none
    Merge merge;                  // with the next one; rank -1: none
  };
  // Rank, then place: the lowest goes first, the leftmost of equals. Stale when the symbol there
  // has another merge by now: a rank belongs to one pair.
  using Candidate = std::uint64_t;

  struct First {
    TokenId id;
    std::size_t size;  // bytes
  };
  First first_symbol(std::string_view rest) const;  // a byte, or a whole character
  bool encode_short(std::string_view piece, std::vector<TokenId>& out);  // false: too many symbols
  void encode_long(std::string_view piece, std::vector<TokenId>& out);
  bool look_up(std::int32_t left);  // sets the merge of the symbol at `left`, if there is one
  Candidate candidate(std::int32_t left) const;

  const Vocabulary& vocabulary_;
  std::vector<Symbol> symbols_{};
  std::vector<Candidate> heap_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_BPE_H_
