// A number of 64 bits that tells bytes apart: against accident, not against forgery.
#ifndef DSV32_LIB_BASE_HASH_H_
#define DSV32_LIB_BASE_HASH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dsv32 {

// The same on every machine, however the bytes are cut into calls. Eight lanes of words, each with
// a multiplication a word, which wait for each other's none: as fast as memory. A step is a
// bijection of a lane for a given word and of a word for a given lane, so a change within one word
// is never missed.
class Hash {
 public:
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);  // and a zero, so that two texts are not one
  std::uint64_t value() const;      // of all so far; more may follow
  std::string hex() const;          // 16 digits

 private:
  static constexpr std::size_t kLanes = 8, kBlock = 8 * kLanes;
  void add_block(const std::byte* block);

  std::array<std::uint64_t, kLanes> lanes_{1, 2, 3, 4, 5, 6, 7, 8};
  std::array<std::byte, kBlock> rest_{};  // less than a block, until the next call
  std::size_t rest_size_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_HASH_H_
