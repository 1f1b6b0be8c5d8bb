// Host memory for the pages of preempted answers, and whether to copy them is worth it.
#ifndef DSV32_LIB_ENGINE_SWAP_SPACE_H_
#define DSV32_LIB_ENGINE_SWAP_SPACE_H_

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace dsv32 {

// Not thread-safe. Lives longer than what it has lent.
class SwapSpace {
 public:
  explicit SwapSpace(std::size_t bytes) : free_(bytes) {}

  // Room that goes back where it came from.
  class Memory {
   public:
    Memory() = default;
    Memory(SwapSpace& of, std::size_t bytes)
        : bytes_(std::make_unique_for_overwrite<std::byte[]>(bytes)), size_(bytes), of_(&of) {
      of.free_ -= bytes;
    }
    Memory(Memory&& other) noexcept { swap(other); }
    Memory& operator=(Memory other) noexcept {
      swap(other);
      return *this;
    }
    ~Memory() {
      if (of_) of_->free_ += size_;
    }
    std::span<std::byte> bytes() const { return {bytes_.get(), size_}; }

   private:
    void swap(Memory& other) noexcept {
      std::swap(bytes_, other.bytes_);
      std::swap(size_, other.size_);
      std::swap(of_, other.of_);
    }
    std::unique_ptr<std::byte[]> bytes_;
    std::size_t size_ = 0;
    SwapSpace* of_ = nullptr;
  };

  bool has_room(std::size_t bytes) const { return bytes <= free_; }
  // Whether to copy so much there and back takes less time than that; before the first copy it may.
  bool pays(std::size_t bytes, double seconds) const noexcept;
  void observe(std::size_t bytes, double seconds) noexcept;  // one way

 private:
  std::size_t free_;
  double byte_seconds_ = 0.0;  // a byte's, one way; 0: not known yet
};

// What a preempted answer had in its pages.
struct SwappedPages {
  SwapSpace::Memory memory{};  // one page behind the other
  std::size_t tokens = 0;
  bool mtp_stale = false;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SWAP_SPACE_H_
