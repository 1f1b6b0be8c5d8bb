// A prefix cache without a model: owners of pages whose bytes are numbers, and what they must be.
#ifndef DSV32_TESTS_ENGINE_PREFIX_WORLD_H_
#define DSV32_TESTS_ENGINE_PREFIX_WORLD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lib/engine/prefix_cache.h"
#include "tests/conformance/messages.h"

namespace dsv32::test {

using Tokens = std::vector<TokenId>;
using Pages = std::vector<std::int32_t>;

// What a page holds, as far as it can be told apart. Keys depend on all tokens up to theirs; MTP's
// also on the one behind; the hidden row is that of the last position that was run.
struct PageBytes {
  static constexpr std::uint64_t kPoison = 0x7ff8dead7ff8dead;
  std::array<std::uint64_t, kPageTokens> keys, mtp;
  std::uint64_t hidden = kPoison;
  long taken = 0;  // which take() of the pool gave it out

  PageBytes() { poison(); }
  void poison() {
    keys.fill(kPoison);
    mtp.fill(kPoison);
    hidden = kPoison;
  }
};

// As Sequence and Growth do it.
struct Owner {
  std::string scope;
  Tokens tokens{};
  Pages pages{};
  bool stale = false;
};

// Random calls on a cache; each result is compared with what a list of all that was offered says.
class PrefixWorld {
 public:
  // Tangled: with forks, and pages that are offered to two scopes. Then the end of a prefix may
  // outlive its beginning, and be no use.
  PrefixWorld(std::uint64_t seed, bool with_mtp, bool tangled);

  void step();
  void check();
  void end();                          // lets go of everything, and looks at what is left
  std::map<std::string, long> seen{};  // how often each outcome came

 private:
  static constexpr std::size_t kPages = 24, kOwners = 6;

  // What was offered: a page, known by all tokens up to its end and, with MTP, the one behind.
  struct Entry {
    std::string scope;
    Tokens path;  // up to the page's end
    TokenId behind = -1;
    std::int32_t page = -1;
    long taken = 0;
  };

  Tokens some_list();
  std::string some_scope();
  static std::vector<std::uint64_t> chain(const Tokens& tokens);  // [i]: what position i computes
  PageBytes& at(std::int32_t page) { return bytes_[static_cast<std::size_t>(page)]; }
  Owner& any_owner() { return owners_[random_.below(owners_.size())]; }

  void begin();
  void grow(Owner& owner, const Tokens& more);
  void write(Owner& owner, std::size_t first, std::size_t before);
  void offer(Owner& owner, const std::string& scope, bool goes_on);
  void offered(const std::string& scope, Tokens path, TokenId behind, std::int32_t& before,
               std::int32_t after);
  void let_go(std::size_t number);
  void truncate(Owner& owner);
  void fork();
  void forget();

  Pages take(std::size_t count);
  void released(std::int32_t page);
  void dropped(std::int32_t page);
  void verify(const Owner& owner);
  bool is_live(const Entry& entry) { return at(entry.page).taken == entry.taken; }
  bool has_owner(std::int32_t page) const;
  bool is_kept(std::int32_t page);
  const Entry* parent_of(const Entry& entry);
  void drop_unreachable();
  Reuse expected(const std::string& scope, const Tokens& tokens, std::size_t most);

  conformance::Random random_;
  const bool with_mtp_, tangled_;
  PagePool pool_{kPages};
  PrefixCache cache_{pool_, with_mtp_};
  std::vector<PageBytes> bytes_{kPages};
  std::vector<Owner> owners_;
  std::vector<Entry> entries_;
  std::map<std::int32_t, long> released_;  // when each page without an owner lost its last one
  long takes_ = 0, clock_ = 0;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_ENGINE_PREFIX_WORLD_H_
