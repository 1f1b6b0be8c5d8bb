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

  bool must_be_written = false;  // since `first`, or a read is a finding

  bool after(const Touch& before) const;
  bool clearly_after(const Touch& before) const;  // some of the same, at once
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
  // The same if it is one of the many that nothing is to be said of; false: touch() has to look.
  bool touch_quickly(std::size_t at, std::size_t bytes, const Access& access);
  // Of a read that need not be noted: does it come after all writes, as far as can be seen at once?
  bool written_before(std::size_t at, std::size_t bytes, const Access& access) const;

 private:
  struct Freed {
    void operator()(void* p) const { std::free(p); }
  };
  Touch* split_bytes(std::size_t word);

  std::size_t words_ = 0;
  std::unique_ptr<Cell[], Freed> cells_;
  std::unique_ptr<Touch[], Freed> bytes_;  // four a word
};

inline bool Access::clearly_after(const Touch& before) const {
  const Who differs = before.who ^ who;
  return before.clock < first || differs == 0 ||
         (differs < kMaxThreads && before.clock <= known->floor);
}

// Whole words that nobody touched in an order that is not known at once.
inline bool Shadow::touch_quickly(std::size_t at, std::size_t bytes, const Access& access) {
  constexpr std::size_t kWordBytes = 4;
  constexpr std::uint8_t kWhole = 15;
  if ((at | bytes) % kWordBytes != 0) return false;
  const Touch now{access.clock, access.who};
  Cell* cell = &cells_[at / kWordBytes];
  for (Cell* const end = cell + bytes / kWordBytes; cell != end; ++cell) {
    if (cell->split || !access.clearly_after(cell->write)) return false;
    if (access.write) {
      if (!access.clearly_after(cell->read[0]) || !access.clearly_after(cell->read[1]))
        return false;
      cell->write = now;
      cell->read[0].clock = cell->read[1].clock = 0;
      cell->read_bytes[0] = cell->read_bytes[1] = 0;
      continue;
    }
    if (access.must_be_written && cell->write.clock < access.first) return false;
    if (!access.clearly_after(cell->read[0])) return false;
    cell->read[0] = now;
    cell->read_bytes[0] = kWhole;
  }
  return true;
}

inline bool Shadow::written_before(std::size_t at, std::size_t bytes, const Access& access) const {
  constexpr std::size_t kWordBytes = 4;
  for (std::size_t word = at / kWordBytes; word <= (at + bytes - 1) / kWordBytes; ++word) {
    const Cell& cell = cells_[word];
    if (cell.split || !access.clearly_after(cell.write)) return false;
    if (access.must_be_written && cell.write.clock < access.first) return false;
  }
  return true;
}

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
