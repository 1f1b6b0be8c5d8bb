#include "lib/text/added_tokens.h"

namespace dsv32 {

const AddedTokens::Edge* AddedTokens::find_edge(const Node& node, unsigned char byte) {
  for (const Edge& edge : node.edges) {
    if (edge.byte == byte) return &edge;
  }
  return nullptr;
}

void AddedTokens::insert(std::string_view text, TokenId id) {
  first_[static_cast<unsigned char>(text.front())] = true;
  std::size_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (const Edge* edge = find_edge(nodes_[node], byte)) {
      node = edge->node;
      continue;
    }
    nodes_[node].edges.push_back({byte, static_cast<std::uint32_t>(nodes_.size())});
    node = nodes_.size();
    nodes_.emplace_back();
  }
  nodes_[node].id = id;
}

AddedTokens::Match AddedTokens::match(std::string_view text, std::size_t at,
                                      std::size_t limit) const {
  Match best;
  if (!first_[static_cast<unsigned char>(text[at])]) return best;
  std::size_t node = 0;
  for (std::size_t i = at; i < limit; ++i) {
    const Edge* edge = find_edge(nodes_[node], static_cast<unsigned char>(text[i]));
    if (edge == nullptr) break;
    node = edge->node;
    if (nodes_[node].id >= 0) best = {nodes_[node].id, i + 1 - at};
  }
  return best;
}

}  // namespace dsv32
