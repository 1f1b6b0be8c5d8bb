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
  };
  // A pair that may merge. Stale when the symbols are no longer those two.
  struct Candidate {
    std::int32_t rank, left;
    TokenId left_id, right_id, result;
  };

  void encode_short(std::string_view piece, std::vector<TokenId>& out);
  void encode_long(std::string_view piece, std::vector<TokenId>& out);
  static bool goes_later(const Candidate& x, const Candidate& y);
  void push_candidate(std::int32_t left);

  const Vocabulary& vocabulary_;
  std::vector<Symbol> symbols_{};
  std::vector<Candidate> heap_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_BPE_H_
