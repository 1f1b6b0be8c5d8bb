// The prefix cache against a plain list of what was offered, its order, and from many threads.
#include "lib/engine/prefix_cache.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/prefix_world.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/sanitized.h"
#include "tests/support/small_stack.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

using conformance::Random;

constexpr std::size_t kPage = kPageTokens;

void run_worlds(int worlds, int steps) {
  const std::uint64_t seed = new_seed();
  std::printf("DSV32_TEST_SEED=%llu repeats these calls\n", static_cast<unsigned long long>(seed));
  std::map<std::string, long> seen;
  const auto run = [&](int i) {
    PrefixWorld world(seed + static_cast<std::uint64_t>(i), i % 2 == 1, i % 4 > 1);
    for (int step = 0; step < steps; ++step) {
      world.step();
      world.check();
    }
    world.end();
    for (const auto& [what, times] : world.seen) seen[what] += times;
  };
  std::string rare;
  const auto met = [&] {
    for (const char* what : {"missed", "hit", "hit inside of a page", "evicted", "pool full",
                             "grown", "copied", "became one", "offered", "forgotten"}) {
      rare = what;
      if (seen[rare] <= worlds / 6) return false;
    }
    return true;
  };
  const bool all = run_until_met(worlds, run, met);
  INFO("not met: " << rare);
  CHECK(all);
}

// `pages` pages of tokens: its number in every place of a page.
Tokens pages_of(std::initializer_list<TokenId> numbers) {
  Tokens list;
  for (const TokenId number : numbers) list.insert(list.end(), kPage, number);
  return list;
}

// Computes a list, offers it and lets go.
Pages put(PagePool& pool, PrefixCache& cache, const Tokens& tokens, std::string_view scope = {}) {
  Pages pages = pool.take((tokens.size() + kPage - 1) / kPage);
  pool.set_written(pages);
  cache.offer(scope, tokens, pages);
  pool.release(pages);
  return pages;
}

TEST_CASE(
    "engine_E10 a prefix cache finds what a plain list does, and nobody reads another's page") {
  run_worlds(kSanitized ? 12 : 40, 500);
}

TEST_CASE("engine_E10 a prefix cache finds what a plain list does, a million times", "[.long]") {
  run_worlds(400, 2500);
}

TEST_CASE("engine_E10 tokens that differ in one place are not taken for the same") {
  Random random{5};
  PagePool pool(64);
  PrefixCache cache(pool, false);
  Tokens list;
  for (std::size_t i = 0; i < 4 * kPage; ++i)
    list.push_back(static_cast<TokenId>(random.next() >> 34));
  put(pool, cache, list);
  CHECK(cache.look({}, list, list.size()).matched == list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    Tokens other = list;
    ++other[i];
    const PrefixCache::Found found = cache.take({}, other, other.size());
    CHECK(found.reuse.matched == i);
    CHECK(found.reuse.first_difference == i);
    CHECK(found.pages.size() == (i + kPage - 1) / kPage);
    pool.release(found.pages);
  }
  CHECK(pool.ownerless_pages() == 4);
}

TEST_CASE("engine_E10 with MTP a page is the same only if the token behind it is") {
  PagePool pool(16);
  PrefixCache cache(pool, true);
  const Pages first = put(pool, cache, pages_of({1, 2, 3}));
  const Pages second = put(pool, cache, pages_of({1, 4, 5}));
  CHECK(cache.num_nodes() == 6);  // two of page 1: its last row is of 2, or of 4
  PrefixCache::Found found = cache.take({}, pages_of({1, 4, 5}), 3 * kPage);
  CHECK(found.pages == second);
  CHECK(found.reuse.matched == 3 * kPage);
  pool.release(found.pages);
  found = cache.take({}, pages_of({1, 2, 9}), 3 * kPage);
  CHECK(found.pages == Pages{first[0], first[1]});
  pool.release(found.pages);
  found = cache.take({}, pages_of({1, 9}), 2 * kPage);
  CHECK(found.reuse.matched == kPage);  // and its new owner writes that row anew, in a copy
  REQUIRE(found.pages.size() == 1);
  CHECK(!pool.may_write(found.pages[0]));
  pool.release(found.pages);
  // The last page of a list does not know what will be behind it; one that does replaces it.
  put(pool, cache, pages_of({1, 2, 3, 8}));
  CHECK(cache.num_nodes() == 7);
  CHECK(pool.ownerless_pages() == 7);
  CHECK(cache.look({}, pages_of({1, 2, 3, 8}), 4 * kPage).matched == 4 * kPage);
  // Without MTP it does not matter.
  PagePool plain(16);
  PrefixCache without(plain, false);
  put(plain, without, pages_of({1, 2}));
  put(plain, without, pages_of({1, 3}));
  CHECK(without.num_nodes() == 3);
  CHECK(plain.ownerless_pages() == 3);
}

TEST_CASE("engine_E13 unused prefixes go by age, from their ends, and an owner pins them") {
  PagePool pool(8);
  PrefixCache cache(pool, false);
  const auto matched = [&](const Tokens& list) {
    return cache.look({}, list, 999).matched / kPage;
  };
  const Tokens old = pages_of({1, 2, 3}), young = pages_of({4, 5, 6});
  put(pool, cache, old);
  put(pool, cache, young);
  CHECK(pool.ownerless_pages() == 6);
  CHECK(pool.free_pages() == 8);
  Pages mine = pool.take(3);  // two were free
  CHECK(matched(old) == 2);
  CHECK(matched(young) == 3);
  CHECK(pool.evicted_pages() == 1);
  pool.release(cache.take({}, old, kPage).pages);  // its first page was used just now
  pool.release(mine);
  mine = pool.take(6);
  CHECK(matched(old) == 1);
  CHECK(matched(young) == 1);
  pool.release(mine);
  const PrefixCache::Found pinned = cache.take({}, young, 999);
  CHECK(pool.free_pages() == 7);
  CHECK(!pool.try_take(8));
  mine = pool.take(7);
  CHECK(matched(old) == 0);
  CHECK(matched(young) == 1);
  CHECK(!pool.try_take(1));
  pool.release(mine);
  pool.release(pinned.pages);
  CHECK(matched(young) == 1);
  cache.clear();
  CHECK(pool.ownerless_pages() == 0);
}

TEST_CASE("engine_E14 one scope finds nothing of another, and forgets by itself") {
  PagePool pool(16);
  PrefixCache cache(pool, false);
  const Tokens list = pages_of({1, 2});
  put(pool, cache, list, "one");
  CHECK(cache.look("one", list, 999).matched == 2 * kPage);
  for (const char* other : {"", "two", "on", "one "}) {
    CHECK(cache.look(other, list, 999).matched == 0);
    CHECK(cache.look(other, list, 999).first_difference == 0);
  }
  put(pool, cache, list, "two");
  CHECK(pool.ownerless_pages() == 4);
  CHECK(cache.num_scopes() == 2);
  const PrefixCache::Found used = cache.take("one", list, kPage);
  cache.forget("one");
  cache.forget("no such");
  CHECK(cache.look("one", list, 999).matched == kPage);  // has an owner
  CHECK(cache.look("two", list, 999).matched == 2 * kPage);
  pool.release(used.pages);
  cache.forget("one");
  CHECK(cache.look("one", list, 999).matched == 0);
  CHECK(cache.num_scopes() == 1);
  CHECK(pool.ownerless_pages() == 2);
  // One page in two scopes: what one forgets the other still has.
  Pages pages = pool.take(2);
  pool.set_written(pages);
  cache.offer("three", list, pages);
  cache.offer("four", list, pages);
  pool.release(pages);
  CHECK(pool.ownerless_pages() == 4);
  cache.forget("three");
  CHECK(cache.look("four", list, 999).matched == 2 * kPage);
  CHECK(pool.ownerless_pages() == 4);
  cache.forget("four");
  CHECK(pool.ownerless_pages() == 2);
}

TEST_CASE("engine_E9 a prefix cache does not grow with what it has seen") {
  Random random{3};
  PagePool pool(32);
  PrefixCache cache(pool, true);
  for (int i = 0; i < (kSanitized ? 2000 : 20000); ++i) {
    Tokens list;
    for (std::size_t n = 3 * kPage; n > 0; --n)
      list.push_back(static_cast<TokenId>(random.below(9)));
    put(pool, cache, list, std::to_string(i));
    REQUIRE(cache.num_nodes() <= pool.num_pages());
    REQUIRE(cache.num_scopes() <= pool.num_pages());
  }
  CHECK(pool.ownerless_pages() == 32);
  CHECK(pool.evicted_pages() > 5000);
}

TEST_CASE("a prefix of the longest context is kept, found and dropped on a small stack") {
  constexpr std::size_t kLong = 163840;
  PagePool pool(kLong / kPage);
  const Tokens list(kLong, 7);
  std::size_t matched = 0, left = 1;
  on_stack(64, [&] {
    PrefixCache cache(pool, false);
    put(pool, cache, list);
    matched = cache.look({}, list, kLong).matched;
    cache.forget({});
    left = cache.num_nodes();
    put(pool, cache, list);
  });
  CHECK(matched == kLong);
  CHECK(left == 0);
  CHECK(pool.ownerless_pages() == kLong / kPage);
}

TEST_CASE("a prefix cache serves many threads, and no page is another prompt's") {
  constexpr std::size_t kAll = 48;
  PagePool pool(kAll);
  PrefixCache cache(pool, false);
  // A page's tokens are all alike: what it holds is which lists of numbers lead to it.
  std::vector<std::atomic<std::uint64_t>> bytes(kAll);
  std::atomic<int> wrong{0}, hits{0};
  const auto work = [&](std::uint64_t seed) {
    Random random{seed};
    for (int i = 0; i < (kSanitized ? 1500 : 6000); ++i) {
      const Tokens list =
          pages_of({static_cast<TokenId>(random.below(2)), static_cast<TokenId>(random.below(3)),
                    static_cast<TokenId>(random.below(3))});
      const std::string scope = random.below(4) == 0 ? "other" : "";
      PrefixCache::Found found = cache.take(scope, list, list.size());
      const std::size_t whole = found.reuse.matched / kPage;
      hits += whole > 0 ? 1 : 0;
      const auto rest = pool.try_take(3 - whole);
      if (rest) {
        found.pages.insert(found.pages.end(), rest->begin(), rest->end());
        std::uint64_t path = scope.empty() ? 1 : 2;
        for (std::size_t page = 0; page < 3; ++page) {
          path = path * 10 + static_cast<std::uint64_t>(list[page * kPage]);
          std::atomic<std::uint64_t>& place = bytes[static_cast<std::size_t>(found.pages[page])];
          if (page >= whole) place = path;
          wrong += place != path ? 1 : 0;
        }
        pool.set_written(*rest);
        cache.offer(scope, list, found.pages);
      }
      pool.release(found.pages);
      if (random.below(50) == 0) cache.forget(scope);
      wrong += cache.num_nodes() > kAll * 2 ? 1 : 0;
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t t = 1; t <= 4; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(hits > 1000);
  CHECK(pool.free_pages() == kAll);
  cache.clear();
  CHECK(pool.ownerless_pages() == 0);
}

}  // namespace
}  // namespace dsv32::test
