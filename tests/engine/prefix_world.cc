#include "tests/engine/prefix_world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

constexpr std::size_t kPage = kPageTokens;

std::size_t pages_for(std::size_t tokens) { return (tokens + kPage - 1) / kPage; }

std::uint64_t mix(std::uint64_t x, std::uint64_t y) {
  return conformance::Random{x * 0x9e3779b97f4a7c15 ^ (y + 1)}.next();
}

Tokens first(const Tokens& tokens, std::size_t count) {
  return {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count)};
}

std::size_t common(const Tokens& x, const Tokens& y) {
  std::size_t i = 0;
  while (i < x.size() && i < y.size() && x[i] == y[i]) ++i;
  return i;
}

}  // namespace

PrefixWorld::PrefixWorld(std::uint64_t seed, bool with_mtp, bool tangled)
    : random_{seed}, with_mtp_(with_mtp), tangled_(tangled) {}

// Of few different pages, so that lists have much in common and part at any place of a page.
Tokens PrefixWorld::some_list() {
  Tokens list;
  const std::size_t size = 1 + random_.below(5 * kPage);
  while (list.size() < size) {
    const std::size_t word = random_.below(3);
    for (std::size_t i = 0; i < kPage; ++i) list.push_back(word == 2 || (word == 1 && i >= 40));
    if (random_.below(8) == 0) list[list.size() - 1 - random_.below(kPage)] = 7;
  }
  if (!owners_.empty() && random_.below(2) == 0) {
    const Tokens& other = any_owner().tokens;
    const std::size_t shared = std::min({other.size(), list.size(), random_.below(5 * kPage)});
    std::copy_n(other.begin(), shared, list.begin());
  }
  list.resize(random_.below(3) == 0 ? pages_for(size) * kPage : size);
  return list;
}

std::string PrefixWorld::some_scope() {
  const std::size_t i = random_.below(8);
  return i == 0 ? "a" : i == 1 ? "b" : "";
}

std::vector<std::uint64_t> PrefixWorld::chain(const Tokens& tokens) {
  std::vector<std::uint64_t> out;
  std::uint64_t last = 0;
  for (const TokenId token : tokens)
    out.push_back(last = mix(last, static_cast<std::uint64_t>(token)));
  return out;
}

void PrefixWorld::step() {
  const std::size_t what = random_.below(20);
  if (owners_.empty() || (what < 5 && owners_.size() < kOwners)) return begin();
  Owner& owner = any_owner();
  if (what < 9) return grow(owner, some_list());
  if (what < 13) return offer(owner, owner.scope, random_.below(3) > 0);
  if (what < 16) return let_go(random_.below(owners_.size()));
  if (what < 18) return truncate(owner);
  if (what < 19) return random_.below(10) == 0 ? forget() : void();
  if (!tangled_) return;
  random_.below(2) == 0 ? fork() : offer(owner, some_scope(), random_.below(3) > 0);
}

void PrefixWorld::begin() {
  Owner owner{.scope = some_scope()};
  const Tokens list = some_list();
  const std::size_t most = random_.below(4) == 0 ? random_.below(list.size() + 3) : list.size() - 1;
  const Reuse want = expected(owner.scope, list, most);
  const Reuse look = cache_.look(owner.scope, list, most);
  const PrefixCache::Found found = cache_.take(owner.scope, list, most);
  for (const Reuse& reuse : {look, found.reuse}) {
    REQUIRE(reuse.matched == want.matched);
    REQUIRE(reuse.first_difference == want.first_difference);
  }
  REQUIRE(found.pages.size() == pages_for(want.matched));
  for (const std::int32_t page : found.pages) released_.erase(page);
  owner.tokens = first(list, want.matched);
  owner.pages = found.pages;
  owner.stale = with_mtp_ && want.matched % kPage != 0;
  owners_.push_back(owner);
  verify(owners_.back());
  ++seen[want.matched == 0 ? "missed" : want.matched % kPage == 0 ? "hit" : "hit inside of a page"];
  if (random_.below(4) > 0)
    grow(owners_.back(), {list.begin() + static_cast<std::ptrdiff_t>(want.matched), list.end()});
}

Pages PrefixWorld::take(std::size_t count) {
  std::set<std::int32_t> owned;
  for (const Owner& owner : owners_) owned.insert(owner.pages.begin(), owner.pages.end());
  const auto pages = pool_.try_take(count);
  REQUIRE(pages.has_value() == (owned.size() + count <= kPages));
  if (!pages) return {};
  std::size_t evicted = 0;
  long youngest = 0;
  for (const std::int32_t page : *pages) {
    REQUIRE(owned.count(page) == 0);
    if (const auto it = released_.find(page); it != released_.end()) {
      ++evicted;
      youngest = std::max(youngest, it->second);
    }
  }
  if (!tangled_) {
    const std::size_t plain = kPages - owned.size() - released_.size();
    REQUIRE(evicted == count - std::min(count, plain));
  }
  for (const std::int32_t page : *pages) {
    released_.erase(page);
    at(page).poison();
    at(page).taken = ++takes_;
  }
  if (!tangled_) {
    for (const auto& [page, when] : released_) REQUIRE((evicted == 0 || when > youngest));
  }
  seen["evicted"] += evicted > 0 ? 1 : 0;
  return *pages;
}

void PrefixWorld::grow(Owner& owner, const Tokens& more) {
  const std::size_t before = owner.tokens.size(), end = before + more.size();
  if (more.empty() || end > 8 * kPage) return;
  const std::size_t first_written = before - (with_mtp_ && before > 0 ? 1 : 0);
  std::vector<std::size_t> copied;
  for (std::size_t i = first_written / kPage; i < owner.pages.size(); ++i) {
    if (!pool_.may_write(owner.pages[i])) copied.push_back(i);
  }
  const std::size_t count = pages_for(end) - owner.pages.size() + copied.size();
  const bool full = count > pool_.free_pages();
  const Pages fresh = take(count);
  ++seen[full ? "pool full" : "grown"];
  if (full) return;
  auto next = fresh.begin();
  Pages given_up;
  for (const std::size_t i : copied) {
    const long taken = at(*next).taken;
    at(*next) = at(owner.pages[i]);
    at(*next).taken = taken;
    given_up.push_back(std::exchange(owner.pages[i], *next++));
    ++seen["copied"];
  }
  owner.pages.insert(owner.pages.end(), next, fresh.end());
  owner.tokens.insert(owner.tokens.end(), more.begin(), more.end());
  write(owner, before - (owner.stale && before > 0 ? 1 : 0), before);
  owner.stale = false;
  pool_.set_written(fresh);
  pool_.release(given_up);
  for (auto page = given_up.rbegin(); page != given_up.rend(); ++page) released(*page);
}

void PrefixWorld::write(Owner& owner, std::size_t first, std::size_t before) {
  const std::vector<std::uint64_t> computed = chain(owner.tokens);
  const auto page_of = [&](std::size_t i) { return owner.pages[i / kPage]; };
  const auto token = [&](std::size_t i) { return static_cast<std::uint64_t>(owner.tokens[i]); };
  const std::size_t end = owner.tokens.size();
  const bool kept = with_mtp_ && first > 0 && first == before;
  for (std::size_t i = first - (kept ? 1 : 0); i < end; i += kPage - i % kPage) {
    REQUIRE(!is_kept(page_of(i)));
    REQUIRE(std::ranges::count_if(owners_, [&](const Owner& other) {
              return std::ranges::count(other.pages, page_of(i)) > 0;
            }) == 1);
  }
  if (kept) {
    REQUIRE(at(page_of(first - 1)).hidden == computed[first - 1]);
    at(page_of(first - 1)).mtp[(first - 1) % kPage] = mix(computed[first - 1], token(first));
  }
  for (std::size_t i = first; i < end; ++i) {
    PageBytes& bytes = at(page_of(i));
    bytes.keys[i % kPage] = computed[i];
    if (i + 1 < end) bytes.mtp[i % kPage] = mix(computed[i], token(i + 1));
    if (i + 1 == end || (i + 1) % kPage == 0) bytes.hidden = computed[i];
  }
}

void PrefixWorld::offer(Owner& owner, const std::string& scope, bool goes_on) {
  drop_unreachable();
  const std::size_t size = owner.tokens.size();
  const std::size_t whole = (size - (goes_on && with_mtp_ && size > 0 ? 1 : 0)) / kPage;
  const Tokens list = first(owner.tokens, std::min(size, whole * kPage + 1));
  Pages after = owner.pages;
  cache_.offer(scope, list, after);
  for (std::size_t page = 0; page < whole; ++page) {
    const std::size_t end = (page + 1) * kPage;
    const TokenId behind = with_mtp_ && end < list.size() ? list[end] : -1;
    offered(scope, first(list, end), behind, owner.pages[page], after[page]);
  }
  REQUIRE(owner.pages == after);
}

void PrefixWorld::offered(const std::string& scope, Tokens path, TokenId behind,
                          std::int32_t& before, std::int32_t after) {
  const auto is_same = [&](const Entry& entry) {
    return entry.scope == scope && entry.path == path && (behind < 0 || entry.behind == behind);
  };
  const std::int32_t own = std::exchange(before, after);
  if (std::ranges::any_of(entries_, is_same)) {
    REQUIRE(std::ranges::any_of(
        entries_, [&](const Entry& entry) { return is_same(entry) && entry.page == after; }));
    released_.erase(after);
    if (own != after) {
      ++seen["became one"];
      released(own);
    }
    return;
  }
  REQUIRE(own == after);
  // One that knows what is behind it says more than one that does not.
  const auto less = std::ranges::find_if(entries_, [&](const Entry& entry) {
    return entry.scope == scope && entry.path == path && entry.behind < 0;
  });
  std::int32_t left = -1;
  if (less != entries_.end()) {
    left = less->page;
    entries_.erase(less);
  }
  entries_.push_back({.scope = scope,
                      .path = std::move(path),
                      .behind = behind,
                      .page = own,
                      .taken = at(own).taken});
  if (left >= 0) dropped(left);
  ++seen["offered"];
}

void PrefixWorld::let_go(std::size_t number) {
  if (random_.below(2) == 0) offer(owners_[number], owners_[number].scope, false);
  const Pages pages = std::move(owners_[number].pages);
  owners_.erase(owners_.begin() + static_cast<std::ptrdiff_t>(number));
  pool_.release(pages);
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) released(*page);
}

void PrefixWorld::truncate(Owner& owner) {
  const std::size_t length = random_.below(owner.tokens.size() + 1);
  if (length == owner.tokens.size()) return;
  owner.tokens.resize(length);
  const Pages tail(owner.pages.begin() + static_cast<std::ptrdiff_t>(pages_for(length)),
                   owner.pages.end());
  owner.pages.resize(pages_for(length));
  owner.stale = with_mtp_ && length % kPage != 0;
  pool_.release(tail);
  for (auto page = tail.rbegin(); page != tail.rend(); ++page) released(*page);
}

void PrefixWorld::fork() {
  if (owners_.size() >= kOwners) return;
  const Owner copy = any_owner();
  pool_.share(copy.pages);
  owners_.push_back(copy);
}

void PrefixWorld::forget() {
  drop_unreachable();
  const std::string scope = some_scope();
  cache_.forget(scope);
  const auto unused = std::stable_partition(
      entries_.begin(), entries_.end(),
      [&](const Entry& entry) { return entry.scope != scope || has_owner(entry.page); });
  Pages pages;
  for (auto entry = unused; entry != entries_.end(); ++entry) pages.push_back(entry->page);
  entries_.erase(unused, entries_.end());
  seen["forgotten"] += pages.empty() ? 0 : 1;
  for (const std::int32_t page : pages) dropped(page);
  drop_unreachable();
}

// Lost an owner, or what was offered.
void PrefixWorld::released(std::int32_t page) {
  if (has_owner(page)) return;
  if (is_kept(page)) {
    released_[page] = ++clock_;
  } else {
    dropped(page);
  }
}

void PrefixWorld::dropped(std::int32_t page) {
  if (has_owner(page) || is_kept(page)) return;
  released_.erase(page);
  at(page).poison();
}

bool PrefixWorld::has_owner(std::int32_t page) const {
  return std::ranges::any_of(
      owners_, [&](const Owner& owner) { return std::ranges::count(owner.pages, page) > 0; });
}

bool PrefixWorld::is_kept(std::int32_t page) {
  return std::ranges::any_of(
      entries_, [&](const Entry& entry) { return entry.page == page && is_live(entry); });
}

// The entry of the page in front of this one's.
const PrefixWorld::Entry* PrefixWorld::parent_of(const Entry& entry) {
  const std::size_t size = entry.path.size() - kPage;
  const TokenId behind = with_mtp_ ? entry.path[size] : -1;
  for (const Entry& other : entries_) {
    if (other.scope == entry.scope && other.path.size() == size && other.behind == behind &&
        common(other.path, entry.path) == size)
      return &other;
  }
  return nullptr;
}

// What has gone, and what stood behind that.
void PrefixWorld::drop_unreachable() {
  Pages lost;
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const bool live = is_live(entries_[i]);
      if (live && (entries_[i].path.size() == kPage || parent_of(entries_[i]))) continue;
      if (live) {
        REQUIRE(tangled_);  // else pages go from the end
        lost.push_back(entries_[i].page);
        ++seen["cut off"];
      }
      entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
      changed = true;
      break;
    }
  }
  for (const std::int32_t page : lost) dropped(page);
}

Reuse PrefixWorld::expected(const std::string& scope, const Tokens& tokens, std::size_t most) {
  drop_unreachable();
  std::size_t best = 0;
  for (const Entry& entry : entries_) {
    if (entry.scope == scope) best = std::max(best, common(entry.path, tokens));
  }
  return {.matched = std::min(best, most), .first_difference = best};
}

// Everything that a step of its own reads: nothing of it is another's, or poison.
void PrefixWorld::verify(const Owner& owner) {
  const std::vector<std::uint64_t> computed = chain(owner.tokens);
  const std::size_t size = computed.size();
  REQUIRE(owner.pages.size() == pages_for(size));
  for (std::size_t i = 0; i < size; ++i) {
    const PageBytes& bytes = at(owner.pages[i / kPage]);
    bool right = bytes.keys[i % kPage] == computed[i];
    if (with_mtp_ && i + 1 < size) {
      right = right && bytes.mtp[i % kPage] ==
                           mix(computed[i], static_cast<std::uint64_t>(owner.tokens[i + 1]));
    }
    if (!right) FAIL("position " << i << " of " << size << " holds another's bytes");
  }
  if (with_mtp_ && !owner.stale && size > 0)
    REQUIRE(at(owner.pages.back()).hidden == computed.back());
}

void PrefixWorld::check() {
  drop_unreachable();
  std::set<std::int32_t> owned;
  for (const Owner& owner : owners_) {
    verify(owner);
    owned.insert(owner.pages.begin(), owner.pages.end());
  }
  REQUIRE(pool_.free_pages() == kPages - owned.size());
  REQUIRE(cache_.num_nodes() >= entries_.size());
  REQUIRE(cache_.num_nodes() <= kPages * (tangled_ ? 3 : 1));
  REQUIRE(cache_.num_scopes() <= std::min<std::size_t>(3, cache_.num_nodes()));
  if (!tangled_) REQUIRE(pool_.ownerless_pages() == released_.size());
}

void PrefixWorld::end() {
  while (!owners_.empty()) let_go(0);
  check();
  cache_.clear();
  REQUIRE(pool_.free_pages() == kPages);
  REQUIRE(pool_.ownerless_pages() == 0);
  REQUIRE(cache_.num_nodes() == 0);
  REQUIRE(cache_.num_scopes() == 0);
}

}  // namespace dsv32::test
