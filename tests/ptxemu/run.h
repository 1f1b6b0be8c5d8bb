#ifndef DSV32_TESTS_PTXEMU_RUN_H_
#define DSV32_TESTS_PTXEMU_RUN_H_

#include "tests/ptxemu/warp.h"

namespace dsv32::ptxemu {

// All CTAs of a launch, one after the other; the clock that the next launch begins with.
Clock run_grid(Grid& grid);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_RUN_H_
