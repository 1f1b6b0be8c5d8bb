#include "lib/engine/prefix_cache.h"

#include <algorithm>
#include <new>
#include <utility>

namespace dsv32 {
namespace {

std::size_t common_tokens(std::span<const TokenId> x, std::span<const TokenId> y) {
  const auto [mine, theirs] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
  return static_cast<std::size_t>(mine - x.begin());
}

bool is_before(std::span<const TokenId> x, std::span<const TokenId> y) {
  return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end());
}

}  // namespace

struct PrefixCache::Node {
  explicit Node(Tree& of) : tree(&of) {}

  Tree* tree;
  Node* parent = nullptr;  // none: the root, which has no page
  Children::iterator place{};
  Children children{};
  KeptPage page{};
  Node* same_page = nullptr;  // the next node of this page: of another scope, or of its past
};

struct PrefixCache::Tree {
  Tree() : root(*this) {}
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  Node root;
  Trees::iterator place{};
};

bool PrefixCache::Before::operator()(const Key& x, Tokens y) const { return is_before(x, y); }
bool PrefixCache::Before::operator()(Tokens x, const Key& y) const { return is_before(x, y); }

PrefixCache::PrefixCache(PagePool& pool, bool with_mtp)
    : pool_(pool), with_mtp_(with_mtp), of_page_(pool.num_pages(), nullptr) {}

PrefixCache::~PrefixCache() { drop_trees(false); }

PrefixCache::Found PrefixCache::take(std::string_view scope, Tokens tokens, std::size_t most) {
  const std::lock_guard guard(mutex_);
  return find(scope, tokens, most, true);
}

Reuse PrefixCache::look(std::string_view scope, Tokens tokens, std::size_t most) {
  const std::lock_guard guard(mutex_);
  return find(scope, tokens, most, false).reuse;
}

PrefixCache::Tokens PrefixCache::key_at(Tokens list, std::size_t page) const {
  const std::size_t first = page * kPageTokens;
  if (first >= list.size()) return {};
  return list.subspan(first, std::min(key_tokens(), list.size() - first));
}

PrefixCache::Found PrefixCache::find(std::string_view scope, Tokens list, std::size_t most,
                                     bool own) {
  Found found;
  const auto tree = trees_.find(scope);
  if (tree == trees_.end()) return found;
  if (own) found.pages.reserve((std::min(most, list.size()) + kPageTokens - 1) / kPageTokens);
  std::size_t common = 0, page = 0;
  for (Node* parent = &tree->second.root; parent;) {
    const Near near = nearest(*parent, key_at(list, page));
    if (!near.node) break;
    if (own && page * kPageTokens < most) {
      if (!pool_.try_share(near.node->page)) {  // it went just now: another may be near
        drop(*near.node);
        continue;
      }
      found.pages.push_back(near.node->page.page);
    }
    common = page++ * kPageTokens + std::min(near.common, kPageTokens);
    parent = near.common == key_tokens() ? near.node : nullptr;
  }
  if (tree->second.root.children.empty()) trees_.erase(tree);
  found.reuse = {.matched = std::min(common, most), .first_difference = common};
  return found;
}

// The child that has most tokens in common with `key`, if any; a neighbour in the order of tokens.
PrefixCache::Near PrefixCache::nearest(Node& parent, Tokens key) {
  Children& list = parent.children;
  while (true) {
    Near near;
    const auto behind = list.lower_bound(key);
    for (auto it : {behind == list.begin() ? list.end() : std::prev(behind), behind}) {
      if (it == list.end()) continue;
      const std::size_t common = common_tokens(key, it->first);
      if (common > near.common) near = {.node = it->second.get(), .common = common};
    }
    if (!near.node || pool_.is_kept(near.node->page)) return near;
    drop(*near.node);
  }
}

void PrefixCache::offer(std::string_view scope, Tokens tokens, std::span<std::int32_t> pages) {
  if (tokens.size() < kPageTokens) return;
  const std::lock_guard guard(mutex_);
  try {
    auto tree = trees_.find(scope);
    if (tree == trees_.end()) {
      tree = trees_.try_emplace(std::string(scope)).first;
      tree->second.place = tree;
    }
    offer_all(tree->second, tokens, pages);
  } catch (const std::bad_alloc&) {
    // What is in the tree is whole; a tree may be empty.
  }
  const auto tree = trees_.find(scope);
  if (tree != trees_.end() && tree->second.root.children.empty()) trees_.erase(tree);
}

void PrefixCache::offer_all(Tree& tree, Tokens list, std::span<std::int32_t> pages) {
  Node* at = &tree.root;
  for (std::size_t page = 0; (page + 1) * kPageTokens <= list.size(); ++page) {
    const Tokens key = key_at(list, page);
    std::int32_t& own = pages[page];
    Node* node = same(*at, key);
    if (node && node->page.page != own) {
      if (pool_.try_share(node->page)) {
        pool_.release(std::span(&own, 1));
        own = node->page.page;
      } else {
        drop(*node);
        node = nullptr;
      }
    }
    if (!node) {
      drop_stale(own, tree);
      node = &add(*at, key, own);
    }
    at = node;
  }
}

// The child with these tokens. If the one behind the page is not known yet, any will do.
PrefixCache::Node* PrefixCache::same(Node& parent, Tokens key) {
  while (true) {
    const auto it = parent.children.lower_bound(key);
    if (it == parent.children.end() || common_tokens(key, it->first) < key.size()) return nullptr;
    if (pool_.is_kept(it->second->page)) return it->second.get();
    drop(*it->second);
  }
}

PrefixCache::Node& PrefixCache::add(Node& parent, Tokens key, std::int32_t page) {
  Key tokens;
  tokens.fill(kNoToken);
  std::copy(key.begin(), key.end(), tokens.begin());
  auto node = std::make_unique<Node>(*parent.tree);
  node->parent = &parent;
  const auto place = parent.children.emplace(tokens, std::move(node)).first;
  Node& added = *place->second;
  added.place = place;
  try {
    added.page = pool_.keep(page);
  } catch (...) {
    parent.children.erase(place);
    throw;
  }
  added.same_page = std::exchange(first_of(page), &added);
  ++num_nodes_;
  // One that does not know what is behind it says less than this one.
  tokens.back() = kNoToken;
  const auto less = parent.children.find(tokens);
  if (less != parent.children.end() && less != place) drop(*less->second);
  return added;
}

// Nodes of what the page was before.
void PrefixCache::drop_stale(std::int32_t page, const Tree& in_use) noexcept {
  for (Node* node = first_of(page); node;) {
    if (pool_.is_kept(node->page)) {
      node = node->same_page;
      continue;
    }
    Tree& tree = *node->tree;
    drop(*node);
    if (&tree != &in_use && tree.root.children.empty()) trees_.erase(tree.place);
    node = first_of(page);  // others of the list may have been behind that node
  }
}

// A node and all behind it, the last ones first: without recursion, for a prefix may be long.
void PrefixCache::drop(Node& top, bool forget) noexcept {
  Node* at = &top;
  while (true) {
    while (!at->children.empty()) at = at->children.begin()->second.get();
    Node* parent = at->parent;
    const bool last = at == &top;
    if (forget) pool_.forget(at->page);
    unlink(*at);
    parent->children.erase(at->place);
    --num_nodes_;
    if (last) return;
    at = parent;
  }
}

void PrefixCache::unlink(Node& node) noexcept {
  Node** link = &first_of(node.page.page);
  while (*link != &node) link = &(*link)->same_page;
  *link = node.same_page;
}

void PrefixCache::forget(std::string_view scope) noexcept {
  const std::lock_guard guard(mutex_);
  const auto tree = trees_.find(scope);
  if (tree == trees_.end()) return;
  const Node& root = tree->second.root;
  // The next node that is not behind this one.
  const auto beside = [&](const Node* node) -> Node* {
    for (; node != &root; node = node->parent) {
      const auto next = std::next(node->place);
      if (next != node->parent->children.end()) return next->second.get();
    }
    return nullptr;
  };
  const auto first = [](const Node& node) { return node.children.begin()->second.get(); };
  for (Node* node = root.children.empty() ? nullptr : first(root); node;) {
    if (pool_.has_owner(node->page)) {
      node = node->children.empty() ? beside(node) : first(*node);
    } else {
      Node* next = beside(node);
      drop(*node);
      node = next;
    }
  }
  if (root.children.empty()) trees_.erase(tree);
}

void PrefixCache::clear() noexcept {
  const std::lock_guard guard(mutex_);
  drop_trees(true);
}

void PrefixCache::drop_trees(bool forget) noexcept {
  for (auto& [scope, tree] : trees_) {
    while (!tree.root.children.empty()) drop(*tree.root.children.begin()->second, forget);
  }
  trees_.clear();
}

std::size_t PrefixCache::num_nodes() const noexcept {
  const std::lock_guard guard(mutex_);
  return num_nodes_;
}

std::size_t PrefixCache::num_scopes() const noexcept {
  const std::lock_guard guard(mutex_);
  return trees_.size();
}

}  // namespace dsv32
