// Seconds of a steady clock.
#ifndef DSV32_BENCHMARKS_CLOCK_H_
#define DSV32_BENCHMARKS_CLOCK_H_

#include <chrono>

namespace dsv32::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_CLOCK_H_
