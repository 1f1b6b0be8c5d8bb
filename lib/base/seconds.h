// Times of a clock as seconds, in the library's floating-point state.
#ifndef DSV32_LIB_BASE_SECONDS_H_
#define DSV32_LIB_BASE_SECONDS_H_

#include <chrono>

#include "lib/base/float_state.h"

namespace dsv32 {

inline double seconds_between(std::chrono::steady_clock::time_point start,
                              std::chrono::steady_clock::time_point end) {
  const FloatState ours;
  return std::chrono::duration<double>(end - start).count();
}
inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return seconds_between(start, std::chrono::steady_clock::now());
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_SECONDS_H_
