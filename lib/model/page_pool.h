// Which pages of the cache are free, and how many sequences hold each of the others.
#ifndef DSV32_LIB_MODEL_PAGE_POOL_H_
#define DSV32_LIB_MODEL_PAGE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dsv32 {

// Knows no device and no bytes. Not thread-safe: used under the Model's lock.
class PagePool {
 public:
  explicit PagePool(std::size_t num_pages);

  // `count` pages with one owner each, or throws capacity and takes none.
  std::vector<std::int32_t> take(std::size_t count);
  void share(std::int32_t page);             // one owner more
  void release(std::int32_t page) noexcept;  // one owner less; free after the last
  bool is_shared(std::int32_t page) const;
  std::size_t free_pages() const noexcept { return free_.size(); }
  std::size_t num_pages() const noexcept { return owners_.size(); }

 private:
  std::vector<std::int32_t> owners_;  // [num_pages], 0 = free
  std::vector<std::int32_t> free_;    // a stack; never grows beyond its first capacity
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_PAGE_POOL_H_
