// Reference counts, a stack of free pages, and a queue of those that are kept without an owner.
#include "lib/model/page_pool.h"

#include "lib/base/check.h"

namespace dsv32 {

PagePool::PagePool(std::size_t num_pages) : pages_(num_pages) {
  free_.reserve(num_pages);
  for (std::size_t page = num_pages; page > 0; --page) {
    free_.push_back(static_cast<std::int32_t>(page - 1));
  }
}

std::vector<std::int32_t> PagePool::take(std::size_t count) {
  std::optional<std::vector<std::int32_t>> pages = try_take(count);
  if (!pages) refuse(count, free_pages());
  return *std::move(pages);
}

void PagePool::require(std::size_t count, std::size_t more) const {
  const std::size_t free = free_pages() + more;
  if (count > free) refuse(count, free);
}

void PagePool::refuse(std::size_t count, std::size_t free) const {
  throw Error(ErrorCode::capacity,
              formatted("the cache is full: {} pages of 64 tokens are needed, {} of {} are free",
                        count, free, num_pages()));
}

std::optional<std::vector<std::int32_t>> PagePool::try_take(std::size_t count) {
  std::optional<std::vector<std::int32_t>> out;
  if (count > pages_.size()) return out;
  out.emplace(count);  // what can fail, before anything is changed
  const std::lock_guard guard(mutex_);
  if (count > free_.size() + ownerless_) {
    out.reset();
  } else {
    take_locked(*out);
  }
  return out;
}

void PagePool::take_locked(std::span<std::int32_t> out) {
  for (std::int32_t& page : out) {
    if (free_.empty()) {
      const std::int32_t oldest = oldest_;
      dequeue(oldest);
      set_free(oldest);
      ++evicted_;
    }
    page = free_.back();
    free_.pop_back();
    at(page).owners = 1;
  }
}

void PagePool::share(std::span<const std::int32_t> pages) {
  const std::lock_guard guard(mutex_);
  for (const std::int32_t page : pages) ++at(page).owners;
}

void PagePool::release(std::span<const std::int32_t> pages) noexcept {
  const std::lock_guard guard(mutex_);
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) {
    if (--at(*page).owners > 0) continue;
    at(*page).keepers > 0 ? enqueue(*page) : set_free(*page);
  }
}

bool PagePool::is_shared(std::int32_t page) const {
  const std::lock_guard guard(mutex_);
  return at(page).owners > 1;
}

bool PagePool::may_write(std::int32_t page) const {
  const std::lock_guard guard(mutex_);
  return at(page).owners == 1 && at(page).keepers == 0;
}

void PagePool::set_written(std::span<const std::int32_t> pages) noexcept {
  const std::lock_guard guard(mutex_);
  for (const std::int32_t page : pages) at(page).written = true;
}

KeptPage PagePool::keep(std::int32_t page) {
  const std::lock_guard guard(mutex_);
  Page& p = at(page);
  DSV32_CHECK(p.owners > 0 && p.written, internal, "page {} is kept before it is written", page);
  ++p.keepers;
  return {.page = page, .generation = p.generation};
}

bool PagePool::try_share(const KeptPage& kept) {
  const std::lock_guard guard(mutex_);
  if (!is_same(kept)) return false;
  if (at(kept.page).owners++ == 0) dequeue(kept.page);
  return true;
}

void PagePool::forget(const KeptPage& kept) noexcept {
  const std::lock_guard guard(mutex_);
  if (!is_same(kept)) return;
  Page& p = at(kept.page);
  if (--p.keepers > 0 || p.owners > 0) return;
  dequeue(kept.page);
  set_free(kept.page);
}

bool PagePool::is_kept(const KeptPage& kept) const noexcept {
  const std::lock_guard guard(mutex_);
  return is_same(kept);
}

bool PagePool::has_owner(const KeptPage& kept) const noexcept {
  const std::lock_guard guard(mutex_);
  return is_same(kept) && at(kept.page).owners > 0;
}

std::size_t PagePool::free_pages() const noexcept {
  const std::lock_guard guard(mutex_);
  return free_.size() + ownerless_;
}

std::size_t PagePool::ownerless_pages() const noexcept {
  const std::lock_guard guard(mutex_);
  return ownerless_;
}

std::uint64_t PagePool::evicted_pages() const noexcept {
  const std::lock_guard guard(mutex_);
  return evicted_;
}

bool PagePool::is_same(const KeptPage& kept) const {
  if (kept.page < 0) return false;
  return at(kept.page).keepers > 0 && at(kept.page).generation == kept.generation;
}

// What it held is nobody's any more: handles to it are void.
void PagePool::set_free(std::int32_t page) noexcept {
  Page& p = at(page);
  ++p.generation;
  p.written = false;
  p.keepers = 0;
  free_.push_back(page);
}

void PagePool::enqueue(std::int32_t page) noexcept {
  Page& p = at(page);
  p.before = youngest_;
  p.behind = -1;
  (youngest_ < 0 ? oldest_ : at(youngest_).behind) = page;
  youngest_ = page;
  ++ownerless_;
}

void PagePool::dequeue(std::int32_t page) noexcept {
  Page& p = at(page);
  (p.before < 0 ? oldest_ : at(p.before).behind) = p.behind;
  (p.behind < 0 ? youngest_ : at(p.behind).before) = p.before;
  p.before = p.behind = -1;
  --ownerless_;
}

}  // namespace dsv32
