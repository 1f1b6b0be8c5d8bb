// What a thread knows of the others: vector clocks (PTX ISA, "Memory Consistency Model", causality
// order). A thread's clock advances when it gives others something to know: at a barrier, at
// bar.warp.sync, at a release. An access that happened at clock c of thread t comes before one of
// thread u if u knows t's clock c. Shuffles, votes and mma make nothing known.
//
// A row of T clocks a thread would cost T * T at every barrier. So a thread keeps the clocks of its
// own warp, and for the rest a row that it shares with all who left the same barrier.
#ifndef DSV32_TESTS_PTXEMU_CLOCKS_H_
#define DSV32_TESTS_PTXEMU_CLOCKS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "tests/ptxemu/code.h"

namespace dsv32::ptxemu {

using Clock = std::uint32_t;

// What is known of each CTA's threads, to be handed on through memory.
using View = std::map<std::uint32_t, std::vector<Clock>>;
void join(View& into, const View& from);

struct ClockRow {  // clocks of a CTA's threads, and what came from other CTAs
  std::vector<Clock> clocks;
  std::shared_ptr<const View> foreign;
  Clock floor = 0;  // the smallest of `clocks`
};

struct Known {              // to one thread
  Clock floor = 0;          // all clocks up to this, of every thread of the CTA
  Clock near[kLanes] = {};  // of the lanes of its warp
  std::shared_ptr<const ClockRow> row;

  bool holds(unsigned warp, unsigned thread, Clock clock) const {
    if (clock <= floor) return true;
    if (thread / kLanes == warp) return near[thread % kLanes] >= clock;
    return row->clocks[thread] >= clock;
  }
  bool holds_foreign(std::uint32_t cta, unsigned thread, Clock clock) const;
};

struct WarpClocks {
  Clock own[kLanes];
  Known known[kLanes];
  // What a fence found known, for relaxed writes after it; and what relaxed reads saw, for a fence.
  std::shared_ptr<const View> released[kLanes];
  bool released_widely[kLanes];
  std::shared_ptr<View> seen[kLanes];
};

class Clocks {  // of one CTA
 public:
  void begin(std::uint32_t cta, unsigned threads, Clock first);

  Clock first() const { return first_; }
  Clock highest() const { return highest_; }
  WarpClocks& warp(unsigned index) { return warps_[index]; }

  // Those who took part leave with all that any of them knew: lanes of each warp.
  void meet(const std::vector<Lanes>& who);
  void meet_in_warp(unsigned warp, Lanes who);  // bar.warp.sync

  View view(unsigned warp, unsigned lane);  // all that it knows, its own past included
  void learn(unsigned warp, unsigned lane, const View& view);
  void advance(unsigned warp, unsigned lane);

 private:
  unsigned lanes_of(std::size_t warp) const;
  void gather(ClockRow& row, std::size_t warp, Lanes who) const;

  std::uint32_t cta_ = 0;
  unsigned threads_ = 0;
  Clock first_ = 1, highest_ = 1;
  std::vector<WarpClocks> warps_;
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_CLOCKS_H_
