#include "lib/base/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lib/base/format.h"

namespace dsv32 {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie");

// One step of SplitMix64's multiplier (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014), and a rotation that brings its high bits down.
std::uint64_t mixed(std::uint64_t state, std::uint64_t word) {
  return std::rotl((state ^ word) * 0xBF58476D1CE4E5B9u, 29);
}

// All bits of the input in each bit of the output: SplitMix64's finisher.
std::uint64_t spread(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

void Hash::add_block(const std::byte* block) {
  std::array<std::uint64_t, kLanes> words;
  std::memcpy(words.data(), block, kBlock);
  for (std::size_t i = 0; i < kLanes; ++i) lanes_[i] = mixed(lanes_[i], words[i]);
}

void Hash::add(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  size_ += bytes.size();
  if (rest_size_ > 0) {
    const std::size_t more = std::min(bytes.size(), kBlock - rest_size_);
    std::memcpy(rest_.data() + rest_size_, bytes.data(), more);
    rest_size_ += more;
    bytes = bytes.subspan(more);
    if (rest_size_ < kBlock) return;
    add_block(rest_.data());
  }
  for (; bytes.size() >= kBlock; bytes = bytes.subspan(kBlock)) add_block(bytes.data());
  rest_size_ = bytes.size();
  if (rest_size_ > 0) std::memcpy(rest_.data(), bytes.data(), rest_size_);
}

void Hash::add(std::string_view text) {
  add(std::as_bytes(std::span(text)));
  add(std::as_bytes(std::span("\0", 1)));
}

std::uint64_t Hash::value() const {
  Hash end = *this;
  if (rest_size_ > 0) {
    std::fill(end.rest_.begin() + static_cast<std::ptrdiff_t>(rest_size_), end.rest_.end(),
              std::byte{0});
    end.add_block(end.rest_.data());
  }
  std::uint64_t all = spread(size_);
  for (const std::uint64_t lane : end.lanes_) all = spread(all ^ lane);
  return all;
}

std::string Hash::hex() const { return formatted("{:016x}", value()); }

}  // namespace dsv32
