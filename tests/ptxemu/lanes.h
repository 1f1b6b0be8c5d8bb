// What locate() does for one lane, for all lanes of an access at once.
#ifndef DSV32_TESTS_PTXEMU_LANES_H_
#define DSV32_TESTS_PTXEMU_LANES_H_

#include "tests/ptxemu/access.h"

namespace dsv32::ptxemu {

struct LanesAt {
  std::byte* data = nullptr;  // of address `base`
  Address base = 0;
};

// Null data: addresses that are not of one piece of memory or may be wrong; each lane has to be
// looked at alone, and nothing was reported.
LanesAt locate_lanes(Warp& w, const Instruction& i, Lanes mask, const Address (&addresses)[kLanes]);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_LANES_H_
