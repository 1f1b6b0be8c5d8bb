#include "lib/base/memory.h"

#include <cstdint>
#include <sys/mman.h>

namespace dsv32 {
namespace {

// Large pages for what is large: rows kilobytes apart cost a page each otherwise, and their places
// in L2 are luck. None for what is small, whatever the system does for those who do not ask.
// Wishes; without them everything works.
void choose_pages([[maybe_unused]] std::byte* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(MADV_HUGEPAGE) && defined(MADV_NOHUGEPAGE)
  if (bytes < kLargePagesFrom) {
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    return;
  }
  constexpr std::uintptr_t kLarge = std::uintptr_t{2} << 20;
  const auto first = reinterpret_cast<std::uintptr_t>(memory), last = first + bytes;
  const std::uintptr_t begin = (first + kLarge - 1) / kLarge * kLarge, end = last / kLarge * kLarge;
  madvise(memory + (begin - first), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace

std::shared_ptr<std::byte> map_memory(std::size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  auto* memory = static_cast<std::byte*>(pages);
  choose_pages(memory, bytes);
  return {memory, [bytes](std::byte* p) { munmap(p, bytes); }};
}

}  // namespace dsv32
