// Which pages of the cache are free, and how many hold each of the others.
#ifndef DSV32_LIB_MODEL_PAGE_POOL_H_
#define DSV32_LIB_MODEL_PAGE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace dsv32 {

inline constexpr std::size_t kPageTokens = 64;  // kernels::kPageSize
inline std::size_t pages_for(std::size_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

// A page whose bytes are worth keeping, as they were then: once it has no owner it stays as it is
// until its place is needed.
struct KeptPage {
  std::int32_t page = -1;
  std::uint32_t generation = 0;  // another one: the page holds something else by now
};

// Knows no device and no bytes. A page is free, or has owners, or (if it was kept) is without an
// owner and still whole. Each call is atomic and short: nothing waits here for a pass.
class PagePool {
 public:
  explicit PagePool(std::size_t num_pages);

  // `count` pages with one owner each and bytes that mean nothing: free ones, then those that were
  // without an owner longest. take() throws capacity; neither takes any if there are too few.
  std::vector<std::int32_t> take(std::size_t count);
  std::optional<std::vector<std::int32_t>> try_take(std::size_t count);

  // Throws capacity, as take() does, if there are fewer than `count`, counting `more` that its
  // caller would give back first.
  void require(std::size_t count, std::size_t more) const;

  void share(std::span<const std::int32_t> pages);  // one owner more each
  // One owner less each, the last page first: of a prefix that is kept, what stands behind goes
  // before what it stands on.
  void release(std::span<const std::int32_t> pages) noexcept;
  bool is_shared(std::int32_t page) const;
  bool may_write(std::int32_t page) const;  // its owner: nobody shares it, nobody keeps it

  // What the owner of taken pages says when a step has written them; only then may they be kept.
  void set_written(std::span<const std::int32_t> pages) noexcept;
  // By one of its owners. Several may keep a page: each calls forget() once.
  KeptPage keep(std::int32_t page);
  bool try_share(const KeptPage& kept);        // one owner more, if it still is what was kept
  void forget(const KeptPage& kept) noexcept;  // no longer worth keeping
  bool is_kept(const KeptPage& kept) const noexcept;    // still is what was kept
  bool has_owner(const KeptPage& kept) const noexcept;  // likewise, and nobody can take it

  std::size_t free_pages() const noexcept;       // what take() can give
  std::size_t ownerless_pages() const noexcept;  // of these, kept ones
  std::uint64_t evicted_pages() const noexcept;  // kept ones that take() has given out so far
  std::size_t num_pages() const noexcept { return pages_.size(); }

 private:
  struct Page {
    std::int32_t owners = 0, keepers = 0;
    std::uint32_t generation = 0;  // of its bytes
    bool written = false;
    std::int32_t before = -1, behind = -1;  // neighbours in the queue of those without an owner
  };
  Page& at(std::int32_t page) { return pages_[static_cast<std::size_t>(page)]; }
  const Page& at(std::int32_t page) const { return pages_[static_cast<std::size_t>(page)]; }
  [[noreturn]] void refuse(std::size_t count, std::size_t free) const;
  bool is_same(const KeptPage& kept) const;
  void take_locked(std::span<std::int32_t> out);
  void set_free(std::int32_t page) noexcept;
  void enqueue(std::int32_t page) noexcept;
  void dequeue(std::int32_t page) noexcept;

  mutable std::mutex mutex_;
  std::vector<Page> pages_;
  std::vector<std::int32_t> free_;            // a stack; never grows beyond its first capacity
  std::int32_t oldest_ = -1, youngest_ = -1;  // of the kept ones without an owner
  std::size_t ownerless_ = 0;
  std::uint64_t evicted_ = 0;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_PAGE_POOL_H_
