// Deflate with fixed codes and a short look into the last 32 KB.
#include "cli/deflate.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace cli {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kWindow = 32768;
constexpr std::size_t kShortest = 3;
constexpr std::size_t kLongest = 258;
constexpr std::size_t kHashes = 1 << 15;
constexpr int kTries = 16;  // candidates for one match
constexpr unsigned kEndOfBlock = 256;

// Least length and distance of each code; the next one's begins where this one's extra bits end.
constexpr std::array<std::uint16_t, 29> kLengths = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                                    15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                                    67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr std::array<std::uint8_t, 29> kLengthBits = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr std::array<std::uint16_t, 30> kDistances = {
    1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
    193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};

class Bits {
 public:
  // The lowest `count` bits of `value`, the lowest first.
  void put(unsigned value, unsigned count) {
    held_ |= std::uint64_t{value} << used_;
    for (used_ += count; used_ >= 8; used_ -= 8) {
      out_.push_back(static_cast<std::byte>(held_ & 0xFF));
      held_ >>= 8;
    }
  }
  // A Huffman code: its highest bit first.
  void code(unsigned value, unsigned count) {
    unsigned reversed = 0;
    for (unsigned bit = 0; bit < count; ++bit) reversed |= (value >> bit & 1) << (count - 1 - bit);
    put(reversed, count);
  }
  Bytes finish() {
    if (used_ > 0) put(0, 8 - used_);
    return std::move(out_);
  }

 private:
  Bytes out_{};
  std::uint64_t held_ = 0;
  unsigned used_ = 0;
};

// RFC 1951, 3.2.6.
void put_symbol(Bits& bits, unsigned symbol) {
  if (symbol < 144)
    bits.code(0x30 + symbol, 8);
  else if (symbol < 256)
    bits.code(0x190 + symbol - 144, 9);
  else if (symbol < 280)
    bits.code(symbol - 256, 7);
  else
    bits.code(0xC0 + symbol - 280, 8);
}

void put_match(Bits& bits, std::size_t length, std::size_t distance) {
  const auto at = std::upper_bound(kLengths.begin(), kLengths.end(), length) - kLengths.begin() - 1;
  const auto code = static_cast<std::size_t>(at);
  put_symbol(bits, static_cast<unsigned>(257 + code));
  bits.put(static_cast<unsigned>(length - kLengths[code]), kLengthBits[code]);
  const auto far = static_cast<std::size_t>(
      std::upper_bound(kDistances.begin(), kDistances.end(), distance) - kDistances.begin() - 1);
  bits.code(static_cast<unsigned>(far), 5);
  const unsigned extra = far < 2 ? 0 : static_cast<unsigned>(far / 2 - 1);
  bits.put(static_cast<unsigned>(distance - kDistances[far]), extra);
}

// Where the same three bytes were before.
class Matches {
 public:
  explicit Matches(std::span<const std::byte> raw)
      : raw_(raw), last_(kHashes, kNone), before_(kWindow, kNone) {}

  struct Match {
    std::size_t length = 0;
    std::size_t distance = 0;
  };

  Match find(std::size_t at) const {
    Match best;
    if (at + kShortest > raw_.size()) return best;
    const std::size_t most = std::min(kLongest, raw_.size() - at);
    std::size_t candidate = last_[hash(at)];
    for (int tries = 0; tries < kTries && candidate != kNone && at - candidate < kWindow; ++tries) {
      std::size_t length = 0;
      while (length < most && raw_[candidate + length] == raw_[at + length]) ++length;
      if (length > best.length) best = {length, at - candidate};
      if (length == most) break;
      const std::size_t earlier = before_[candidate % kWindow];
      if (earlier == kNone || earlier >= candidate) break;
      candidate = earlier;
    }
    return best;
  }

  void add(std::size_t at) {
    if (at + kShortest > raw_.size()) return;
    std::size_t& last = last_[hash(at)];
    before_[at % kWindow] = last;
    last = at;
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  std::size_t hash(std::size_t at) const {
    const auto byte = [&](std::size_t i) { return std::to_integer<std::size_t>(raw_[at + i]); };
    return (byte(0) << 10 ^ byte(1) << 5 ^ byte(2)) % kHashes;
  }

  std::span<const std::byte> raw_;
  std::vector<std::size_t> last_;
  std::vector<std::size_t> before_;
};

std::uint32_t adler32(std::span<const std::byte> bytes) {
  constexpr std::uint32_t kModulus = 65521;
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const std::byte byte : bytes) {
    a = (a + std::to_integer<std::uint32_t>(byte)) % kModulus;
    b = (b + a) % kModulus;
  }
  return b << 16 | a;
}

}  // namespace

Bytes zlib_compressed(std::span<const std::byte> raw) {
  Bits bits;
  bits.put(0x78, 8);
  bits.put(0x01, 8);
  bits.put(1, 1);  // the last block
  bits.put(1, 2);  // of fixed codes
  Matches matches(raw);
  for (std::size_t at = 0; at < raw.size();) {
    const Matches::Match match = matches.find(at);
    const std::size_t step = match.length >= kShortest ? match.length : 1;
    if (step > 1)
      put_match(bits, match.length, match.distance);
    else
      put_symbol(bits, std::to_integer<unsigned>(raw[at]));
    for (std::size_t i = 0; i < step; ++i) matches.add(at + i);
    at += step;
  }
  put_symbol(bits, kEndOfBlock);
  Bytes out = bits.finish();
  const std::uint32_t sum = adler32(raw);
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<std::byte>(sum >> shift & 0xFF));
  return out;
}

}  // namespace cli
