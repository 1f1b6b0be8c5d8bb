// Which pages hold which prompts and answers, so that later ones need not compute them again.
#ifndef DSV32_LIB_ENGINE_PREFIX_CACHE_H_
#define DSV32_LIB_ENGINE_PREFIX_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/session.h"
#include "dsv32/types.h"

#include "lib/model/page_pool.h"

namespace dsv32 {

// A tree for each scope, whose nodes are whole pages with their tokens, one page a node. The pages
// stay in the pool as kept ones: those without an owner are what take() of the pool gives out when
// nothing else is left, those that lost their owners first, and of a prefix the last page before
// the others. So whoever owns a page pins it, and what is reusable is PagePool::ownerless_pages().
// A node whose page has gone is found out by its handle, and goes with all behind it. There are
// never more nodes than pages, times the scopes that were offered the same page.
//
// With MTP the last row of a page is of the token behind it, too: a page is the same only if that
// token is. So a node knows it, and where it is another one (or the list ends) the prefix ends with
// that page, which its new owner copies before it computes the row anew (see Growth).
//
// Tokens are compared, there are no hashes. Thread-safe, and waits for no pass.
class PrefixCache {
 public:
  // What was found for a list of tokens.
  struct Found {
    // `matched` tokens, at most as many as asked for; `first_difference` from the nearest cached
    // list, which may be further.
    Reuse reuse{};
    std::vector<std::int32_t> pages{};  // of the matched tokens; their new owner is the caller
  };

  // `pool` must outlive it. Its pages stay kept when it is destroyed, for the pool may be locked in
  // a forked child: clear() it before.
  PrefixCache(PagePool& pool, bool with_mtp);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The longest cached prefix of `tokens`, of `most` tokens at most. It may end inside of a page.
  // Throws std::bad_alloc; nothing is then owned.
  Found take(std::string_view scope, std::span<const TokenId> tokens, std::size_t most);
  // What take() would find, without the pages.
  Reuse look(std::string_view scope, std::span<const TokenId> tokens, std::size_t most);

  // The whole pages of a list of tokens that have been computed, by an owner of `pages` between two
  // steps. Where the tree has a page of the same tokens already, that one replaces the owner's in
  // `pages`, which gives its own back: equal prompts that ran side by side become one, and what
  // owns a node's page owns all in front of it. Without memory for more nodes the rest is left out.
  void offer(std::string_view scope, std::span<const TokenId> tokens,
             std::span<std::int32_t> pages);

  void forget(std::string_view scope) noexcept;  // its pages that have no owner
  void clear() noexcept;                         // all pages of all scopes, no longer kept

  std::size_t num_nodes() const noexcept;   // with those whose page has gone unnoticed
  std::size_t num_scopes() const noexcept;  // that have nodes

 private:
  struct Node;
  struct Tree;
  // A page's tokens and, with MTP, the one behind them; without, or if none is, kNoToken.
  using Key = std::array<TokenId, kPageTokens + 1>;
  // What a key is looked for by: its tokens or the first of them.
  using Tokens = std::span<const TokenId>;
  // In the order of the tokens; a beginning stands in front of all that begins with it.
  struct Before {
    using is_transparent = void;
    bool operator()(const Key& x, const Key& y) const { return x < y; }
    bool operator()(const Key& x, Tokens y) const;
    bool operator()(Tokens x, const Key& y) const;
  };
  using Children = std::map<Key, std::unique_ptr<Node>, Before>;
  using Trees = std::map<std::string, Tree, std::less<>>;
  struct Near {
    Node* node = nullptr;
    std::size_t common = 0;  // tokens of its key
  };

  static constexpr TokenId kNoToken = -1;
  std::size_t key_tokens() const { return kPageTokens + (with_mtp_ ? 1 : 0); }
  Tokens key_at(Tokens list, std::size_t page) const;  // empty behind the list's end
  Found find(std::string_view scope, Tokens list, std::size_t most, bool own);
  Near nearest(Node& parent, Tokens key);
  Node* same(Node& parent, Tokens key);
  void offer_all(Tree& tree, Tokens list, std::span<std::int32_t> pages);
  Node& add(Node& parent, Tokens key, std::int32_t page);
  void drop_stale(std::int32_t page, const Tree& in_use) noexcept;
  void drop(Node& top, bool forget = true) noexcept;
  void drop_trees(bool forget) noexcept;
  void unlink(Node& node) noexcept;
  Node*& first_of(std::int32_t page) { return of_page_[static_cast<std::size_t>(page)]; }

  PagePool& pool_;
  const bool with_mtp_;
  mutable std::mutex mutex_;
  Trees trees_;
  std::vector<Node*> of_page_;  // [pages]: the first node of each, or null
  std::size_t num_nodes_ = 0;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_PREFIX_CACHE_H_
