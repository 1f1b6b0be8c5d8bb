// Finds added tokens (markers) in text.
#ifndef DSV32_LIB_TEXT_ADDED_TOKENS_H_
#define DSV32_LIB_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/types.h"

namespace dsv32 {

// A trie of byte strings with leftmost-longest matching.
class AddedTokens {
 public:
  AddedTokens() : nodes_(1) { first_.fill(false); }
  void insert(std::string_view text, TokenId id);

  struct Match {
    TokenId id = -1;
    std::size_t size = 0;  // 0: none
  };
  // The longest token at `at` that does not reach byte `limit`.
  Match match(std::string_view text, std::size_t at, std::size_t limit) const;

 private:
  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };
  struct Node {
    TokenId id = -1;
    std::vector<Edge> edges{};
  };
  static const Edge* find_edge(const Node& node, unsigned char byte);

  std::vector<Node> nodes_;
  std::array<bool, 256> first_;  // bytes that some token begins with
};

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_ADDED_TOKENS_H_
