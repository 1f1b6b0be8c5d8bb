// Byte-pair encoding of one piece.
#ifndef DSV32_LIB_TEXT_BPE_H_
#define DSV32_LIB_TEXT_BPE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/text/vocabulary.h"

namespace dsv32 {

// The tokens of a text of so many bytes, in about the memory that they need: grows by the tokens a
// byte that there were so far.
class TokenList {
 public:
  explicit TokenList(std::size_t bytes) : total_(bytes) { tokens_.reserve(bytes / 4 + 4); }
  // What the text's next `bytes` bytes became: at most one token a byte.
  void append(std::span<const TokenId> tokens, std::size_t bytes) {
    done_ += bytes;
    if (tokens_.capacity() - tokens_.size() < tokens.size()) grow(tokens.size());
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }
  struct Mark {
    std::size_t tokens, bytes;
  };
  Mark mark() const { return {tokens_.size(), done_}; }
  void back_to(Mark mark) {
    tokens_.resize(mark.tokens);
    done_ = mark.bytes;
  }
  std::vector<TokenId> take() &&;

 private:
  void grow(std::size_t count);

  std::vector<TokenId> tokens_{};
  std::size_t total_, done_ = 0;  // bytes
};

// Merges the pair of lowest rank, leftmost first at equal rank, until none has a rank. A value with
// scratch inside: one a thread. O(n log n) for a piece of n bytes up to a window's, linear beyond;
// scratch for one window.
class BytePairEncoder {
 public:
  static constexpr std::size_t kWindow = std::size_t{1} << 16;

  explicit BytePairEncoder(const Vocabulary& vocabulary, std::size_t window = kWindow)
      : vocabulary_(vocabulary), window_(window) {}
  void encode(std::string_view piece, TokenList& out);

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
  void encode_windows(std::string_view piece, TokenList& out);
  // In windows of `size` bytes; false: some two of them do not fit together.
  bool encode_windows_of(std::size_t size, std::string_view piece, TokenList& out);
  // How many of the tokens of `window` end, with a whole character, at or before byte `limit`; and
  // where.
  std::pair<std::size_t, std::size_t> cut(std::string_view window, std::span<const TokenId> tokens,
                                          std::size_t limit) const;
  // Whether `left`, which ends at byte `at` of `text`, and `right` are what encoding them together
  // would give.
  bool fit(std::string_view text, std::size_t at, std::span<const TokenId> left,
           std::span<const TokenId> right);
  std::size_t size_of(TokenId id) const { return vocabulary_.bytes(id).size(); }
  bool look_up(std::int32_t left);  // sets the merge of the symbol at `left`, if there is one
  Candidate candidate(std::int32_t left) const;

  const Vocabulary& vocabulary_;
  std::size_t window_;  // bytes
  std::vector<Symbol> symbols_{};
  std::vector<Candidate> heap_{};
  std::vector<TokenId> tokens_{}, next_tokens_{}, joint_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_BPE_H_
