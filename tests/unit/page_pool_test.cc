// The pool of pages against a plain model of it, and from many threads.
#include "lib/model/page_pool.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Random;
using Pages = std::vector<std::int32_t>;

constexpr std::size_t kPages = 12;

// What the pool promises, written down slowly: each page's owners one by one, what it holds as a
// number that nothing else ever gets, and the kept ones without an owner, oldest first.
class PlainPool {
 public:
  struct Page {
    int owners = 0, keepers = 0;
    bool written = false;
    long content = 0;
  };
  struct Kept {
    KeptPage handle;
    long content = 0;
    bool forgotten = false;  // each is to be forgotten once
  };

  std::size_t free_pages() const { return kPages - owned(); }
  std::size_t owned() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(pages, [](const Page& page) { return page.owners > 0; }));
  }
  bool is_kept(const Kept& kept) const {
    const Page& page = at(kept.handle.page);
    return page.keepers > 0 && page.content == kept.content;
  }
  // `list` was taken. Which pages are free is the pool's choice; of those without an owner it takes
  // the oldest, and only if no other is left.
  void take(const Pages& list) {
    std::size_t plain = kPages - owned() - ownerless.size();
    for (const std::int32_t number : list) {
      Page& page = at(number);
      REQUIRE(page.owners == 0);
      if (plain > 0) {
        REQUIRE(page.keepers == 0);
        --plain;
      } else {
        REQUIRE(!ownerless.empty());
        REQUIRE(number == ownerless.front());
        ownerless.pop_front();
        ++evicted;
      }
      page = {.owners = 1, .content = ++last_content};
    }
  }
  void release(std::int32_t number) {
    Page& page = at(number);
    if (--page.owners > 0) return;
    if (page.keepers > 0) {
      ownerless.push_back(number);
    } else {
      page = {};
    }
  }
  void share(const Kept& kept) {
    if (at(kept.handle.page).owners++ == 0) std::erase(ownerless, kept.handle.page);
  }
  void forget(const Kept& kept) {
    if (!is_kept(kept)) return;
    Page& page = at(kept.handle.page);
    if (--page.keepers > 0 || page.owners > 0) return;
    std::erase(ownerless, kept.handle.page);
    page = {};
  }
  Page& at(std::int32_t page) { return pages[static_cast<std::size_t>(page)]; }
  const Page& at(std::int32_t page) const { return pages[static_cast<std::size_t>(page)]; }

  std::vector<Page> pages{kPages};
  std::deque<std::int32_t> ownerless;
  std::uint64_t evicted = 0;
  long last_content = 0;
};

// Random calls, each on both.
class Twins {
 public:
  explicit Twins(std::uint64_t seed) : random_{seed} {}

  void step() {
    switch (random_.below(10)) {
      case 0:
      case 1:
        return take();
      case 2:
        return try_take();
      case 3:
        return share();
      case 4:
      case 5:
        return release();
      case 6:
        return set_written();
      case 7:
        return keep();
      case 8:
        return try_share();
      default:
        return forget();
    }
  }

  void check() {
    REQUIRE(pool_.num_pages() == kPages);
    REQUIRE(pool_.free_pages() == plain_.free_pages());
    REQUIRE(pool_.ownerless_pages() == plain_.ownerless.size());
    REQUIRE(plain_.owned() + pool_.free_pages() == kPages);
    for (std::int32_t page = 0; page < static_cast<std::int32_t>(kPages); ++page) {
      const PlainPool::Page& plain = plain_.at(page);
      REQUIRE(pool_.is_shared(page) == (plain.owners > 1));
      REQUIRE(pool_.may_write(page) == (plain.owners == 1 && plain.keepers == 0));
    }
    for (const PlainPool::Kept& kept : kept_) {
      REQUIRE(pool_.is_kept(kept.handle) == plain_.is_kept(kept));
      REQUIRE(pool_.has_owner(kept.handle) ==
              (plain_.is_kept(kept) && plain_.at(kept.handle.page).owners > 0));
    }
    REQUIRE(pool_.evicted_pages() == plain_.evicted);
  }

  std::map<std::string, long> seen;  // how often each outcome came

 private:
  std::size_t some() { return random_.below(kPages / 2 + 1); }
  bool own_nothing() const { return owned_.empty(); }

  void took(const Pages& list) {
    plain_.take(list);
    owned_.insert(owned_.end(), list.begin(), list.end());
  }

  void take() {
    const std::size_t count = random_.below(8) == 0 ? kPages + random_.below(3) : some();
    if (count > plain_.free_pages()) {
      check_error(ErrorCode::capacity, "", [&] { pool_.take(count); });
      ++seen["take refused"];
    } else {
      const Pages list = pool_.take(count);
      REQUIRE(list.size() == count);
      seen["evicted"] += plain_.owned() + plain_.ownerless.size() + count > kPages ? 1 : 0;
      took(list);
      ++seen["taken"];
    }
  }
  void try_take() {
    const std::size_t count = some();
    const auto list = pool_.try_take(count);
    REQUIRE(list.has_value() == (count <= plain_.free_pages()));
    if (list) took(*list);
    ++seen[list ? "tried and taken" : "tried in vain"];
  }
  void share() {
    if (own_nothing()) return;
    const std::int32_t page = owned_[random_.below(owned_.size())];
    pool_.share(std::span(&page, 1));
    ++plain_.at(page).owners;
    owned_.push_back(page);
  }
  void release() {
    Pages list;
    for (std::size_t n = some(); n > 0 && !own_nothing(); --n) {
      const std::size_t i = random_.below(owned_.size());
      list.push_back(owned_[i]);
      owned_.erase(owned_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    pool_.release(list);
    for (auto page = list.rbegin(); page != list.rend(); ++page) plain_.release(*page);
  }
  void set_written() {
    if (own_nothing()) return;
    const std::int32_t page = owned_[random_.below(owned_.size())];
    pool_.set_written(std::span(&page, 1));
    plain_.at(page).written = true;
  }
  void keep() {
    const auto page = static_cast<std::int32_t>(random_.below(kPages));
    PlainPool::Page& plain = plain_.at(page);
    if (plain.owners == 0 || !plain.written) {
      check_error(ErrorCode::internal, "before it is written", [&] { pool_.keep(page); });
      ++seen["keep refused"];
      return;
    }
    const KeptPage handle = pool_.keep(page);
    REQUIRE(handle.page == page);
    ++plain.keepers;
    kept_.push_back({.handle = handle, .content = plain.content});
    if (kept_.size() > 8) kept_.erase(kept_.begin());
    ++seen["kept"];
  }
  void try_share() {
    REQUIRE(!pool_.try_share({}));
    if (kept_.empty()) return;
    const PlainPool::Kept kept = kept_[random_.below(kept_.size())];
    const bool shared = pool_.try_share(kept.handle);
    REQUIRE(shared == plain_.is_kept(kept));
    if (!shared) {
      ++seen["stale"];
      return;
    }
    ++seen[plain_.at(kept.handle.page).owners == 0 ? "revived" : "shared again"];
    plain_.share(kept);
    owned_.push_back(kept.handle.page);
  }
  void forget() {
    if (kept_.empty() || random_.below(4) > 0) return;
    PlainPool::Kept& kept = kept_[random_.below(kept_.size())];
    if (std::exchange(kept.forgotten, true)) return;
    pool_.forget(kept.handle);
    plain_.forget(kept);
    ++seen["forgotten"];
  }

  Random random_;
  PagePool pool_{kPages};
  PlainPool plain_;
  Pages owned_;  // each as often as it is owned
  std::vector<PlainPool::Kept> kept_;
};

TEST_CASE("a page pool does what a plain one does, whatever is asked of it") {
  std::map<std::string, long> seen;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Twins twins(seed);
    for (int i = 0; i < 10000; ++i) {
      twins.step();
      twins.check();
    }
    for (const auto& [what, times] : twins.seen) seen[what] += times;
  }
  for (const char* what :
       {"take refused", "taken", "evicted", "tried and taken", "tried in vain", "keep refused",
        "kept", "stale", "revived", "shared again", "forgotten"}) {
    INFO(what);
    CHECK(seen[what] > 500);
  }
}

TEST_CASE("kept pages go when nothing else is left, the oldest first") {
  PagePool pool(4);
  const Pages pages = pool.take(4);
  CHECK(std::set<std::int32_t>(pages.begin(), pages.end()).size() == 4);
  check_error(ErrorCode::internal, "", [&] { pool.keep(pages[0]); });
  pool.set_written(pages);
  std::vector<KeptPage> kept;
  for (const std::int32_t page : {pages[2], pages[0], pages[3]}) kept.push_back(pool.keep(page));
  for (const std::int32_t page : {pages[2], pages[0], pages[1], pages[3]})
    pool.release(std::span(&page, 1));
  CHECK(pool.free_pages() == 4);
  CHECK(pool.ownerless_pages() == 3);
  check_error(ErrorCode::capacity, "5 pages", [&] { pool.take(5); });
  CHECK(pool.ownerless_pages() == 3);  // a take that cannot be changes nothing
  CHECK(pool.take(1) == Pages{pages[1]});
  CHECK(pool.take(1) == Pages{pages[2]});
  CHECK(!pool.try_share(kept[0]));
  CHECK(pool.try_share(kept[1]));
  pool.release(std::span(&pages[0], 1));  // is the youngest now
  CHECK(pool.take(1) == Pages{pages[3]});
  CHECK(pool.try_share(kept[1]));
  CHECK(!pool.try_take(1));
  CHECK(!pool.try_share(kept[2]));
  CHECK(pool.free_pages() == 0);
  CHECK(PagePool(0).take(0).empty());
}

TEST_CASE("a page pool serves many threads, and gets every page back") {
  constexpr std::size_t kAll = 64;
  PagePool pool(kAll);
  // Which thread has a page for itself. A page with two such owners is found out.
  std::vector<std::atomic<int>> holder(kAll);
  std::atomic<int> clashes{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= 8; ++t) {
    threads.emplace_back([&, t] {
      Random random{static_cast<std::uint64_t>(t)};
      std::vector<KeptPage> kept;
      for (int i = 0; i < 3000; ++i) {
        const auto mine = pool.try_take(1 + random.below(12));
        if (!mine) continue;
        for (const std::int32_t page : *mine)
          clashes += holder[static_cast<std::size_t>(page)].exchange(t) == 0 ? 0 : 1;
        pool.set_written(*mine);
        if (random.below(2) == 0) kept.push_back(pool.keep(mine->front()));
        pool.share(*mine);
        pool.release(*mine);
        for (const std::int32_t page : *mine)
          clashes += holder[static_cast<std::size_t>(page)].exchange(0) == t ? 0 : 1;
        pool.release(*mine);
        for (const KeptPage& page : kept) {
          if (!pool.try_share(page)) continue;
          clashes += pool.try_take(kAll) ? 1 : 0;  // one at least has an owner: us
          pool.release(std::span(&page.page, 1));
        }
        if (kept.size() > 4) {
          pool.forget(kept.front());
          kept.erase(kept.begin());
        }
        clashes += pool.free_pages() > kAll || pool.ownerless_pages() > kAll ? 1 : 0;
      }
      for (const KeptPage& page : kept) pool.forget(page);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
  CHECK(pool.free_pages() == kAll);
  CHECK(pool.ownerless_pages() == 0);
  const Pages all = pool.take(kAll);
  CHECK(std::set<std::int32_t>(all.begin(), all.end()).size() == kAll);
}

}  // namespace
}  // namespace dsv32::test
