// Beside every four bytes of memory that threads share: who wrote them last and when, and two of
// those who read them since. Bytes of a word that are written apart get an entry each.
//
// Two readers are kept, of different warps where there are such; what is dropped for a third is
// a race that this run may miss, never one that is made up.
#ifndef DSV32_TESTS_PTXEMU_SHADOW_H_
#define DSV32_TESTS_PTXEMU_SHADOW_H_

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tests/ptxemu/clocks.h"

namespace dsv32::ptxemu {

// CTA * 1024 + thread. Its topmost bit: the access was strong, that is atomic, volatile, relaxed,
// acquire or release; two of those never race (PTX ISA, "Morally strong operations").
using Who = std::uint32_t;
inline constexpr Who kStrong = 1u << 31;
inline constexpr std::uint32_t kMaxCtas = 1u << 21;

struct Touch {
  Clock clock = 0;  // 0: nobody
  Who who = 0;
};

struct Cell {
  Touch write;
  Touch read[2];
  std::uint8_t read_bytes[2];  // a bit for each of the four
  bool split;                  // its bytes have entries of their own
};

struct Access {
  unsigned warp = 0;
  Who who = 0;
  Clock clock = 0;
  bool write = false;
  const Known* known = nullptr;
  Clock first = 0;  // what was before is ordered: an earlier CTA in this memory, an earlier launch

  bool after(const Touch& before) const;
};

enum class Clash : std::uint8_t { none, write_write, write_after_read, read_after_write };
struct Verdict {
  Clash clash = Clash::none;
  Who other = 0;
  bool unwritten = false;  // a byte was never written, not since `first`
};

class Shadow {  // of one piece of memory; what was never touched takes no room
 public:
  void resize(std::size_t bytes);
  bool empty() const { return words_ == 0; }
  Verdict touch(std::size_t at, std::size_t bytes, const Access& access);

 private:
  struct Freed {
    void operator()(void* p) const { std::free(p); }
  };
  Touch* split_bytes(std::size_t word);

  std::size_t words_ = 0;
  std::unique_ptr<Cell[], Freed> cells_;
  std::unique_ptr<Touch[], Freed> bytes_;  // four a word
};

inline bool Access::after(const Touch& before) const {
  if (before.clock < first) return true;
  const Who differs = before.who ^ who;
  if ((differs & ~kStrong) == 0) return true;
  if ((before.who & who & kStrong) != 0) return true;
  const unsigned thread = before.who % kMaxThreads;
  if ((differs & ~kStrong) < kMaxThreads) return known->holds(warp, thread, before.clock);
  return known->holds_foreign((before.who & ~kStrong) / kMaxThreads, thread, before.clock);
}

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_SHADOW_H_
