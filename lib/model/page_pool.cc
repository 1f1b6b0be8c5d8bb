// Reference counts and a stack of free pages.
#include "lib/model/page_pool.h"

#include "lib/base/check.h"

namespace dsv32 {

PagePool::PagePool(std::size_t num_pages) : owners_(num_pages) {
  free_.reserve(num_pages);
  for (std::size_t page = num_pages; page > 0; --page) {
    free_.push_back(static_cast<std::int32_t>(page - 1));
  }
}

std::vector<std::int32_t> PagePool::take(std::size_t count) {
  DSV32_CHECK(count <= free_.size(), capacity,
              "the cache is full: {} pages of 64 tokens are needed, {} of {} are free", count,
              free_.size(), owners_.size());
  std::vector<std::int32_t> pages(free_.end() - static_cast<std::ptrdiff_t>(count), free_.end());
  free_.resize(free_.size() - count);
  for (const std::int32_t page : pages) owners_[static_cast<std::size_t>(page)] = 1;
  return pages;
}

void PagePool::share(std::int32_t page) { ++owners_[static_cast<std::size_t>(page)]; }

void PagePool::release(std::int32_t page) noexcept {
  if (--owners_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
}

bool PagePool::is_shared(std::int32_t page) const {
  return owners_[static_cast<std::size_t>(page)] > 1;
}

}  // namespace dsv32
