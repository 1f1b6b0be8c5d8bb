// The sixteen barriers of a CTA (PTX ISA, bar and barrier).
#ifndef DSV32_TESTS_PTXEMU_BARRIERS_H_
#define DSV32_TESTS_PTXEMU_BARRIERS_H_

#include "tests/ptxemu/warp.h"

namespace dsv32::ptxemu {

enum class BarrierOp : std::uint8_t { sync, arrive, count, all, any };

// Lanes of a warp come to a barrier. True if they have to wait for others.
bool arrive(Warp& w, const Instruction& i, Lanes mask);
// Threads that ended are waited for no longer.
void release_barriers(Block& block);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_BARRIERS_H_
