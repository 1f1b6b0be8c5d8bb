// How a warp's lanes go on after an instruction: together, in two groups, into a function, or not
// before others have come.
#ifndef DSV32_TESTS_PTXEMU_FLOW_H_
#define DSV32_TESTS_PTXEMU_FLOW_H_

#include "tests/ptxemu/warp.h"

namespace dsv32::ptxemu {

// What is not Flow::straight, of the warp's current group; `mask`: its lanes whose guard holds.
void flow(Warp& w, const Instruction& i, Lanes mask);

// Groups that came to one instruction become one; then the one that runs next is chosen. False:
// all wait.
bool regroup(Warp& w);
bool is_ready(const Warp& w);

// Lanes that wait at a .sync for others that will never come go on without them. False: none does.
bool force_sync(Warp& w);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_FLOW_H_
