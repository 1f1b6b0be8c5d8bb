// Memory for what is large.
#ifndef DSV32_LIB_BASE_MEMORY_H_
#define DSV32_LIB_BASE_MEMORY_H_

#include <cstddef>
#include <memory>

namespace dsv32 {

// From so many bytes on large pages are asked for: below, the end of the last one would be waste.
inline constexpr std::size_t kLargePagesFrom = std::size_t{8} << 20;

// `bytes` (1 or more) of zeros straight from the system, at a page's begin, which go back to it
// with the last owner; null if it refuses. No promise of memory is asked for: whether all of it is
// there was the plan's question, and what nobody touches takes none.
std::shared_ptr<std::byte> map_memory(std::size_t bytes);

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_MEMORY_H_
