// How long a random world runs.
#ifndef DSV32_TESTS_SUPPORT_UNTIL_MET_H_
#define DSV32_TESTS_SUPPORT_UNTIL_MET_H_

namespace dsv32::test {

// Calls step(0), step(1), ... `least` times, and on until `met()`: that the world has met each rare
// thing that it is there for. So chance says how long a test runs, never how it ends. False if 20
// times as many steps didn't do, which only a fault explains.
template <class Step, class Met>
bool run_until_met(int least, Step&& step, Met&& met) {
  for (int i = 0; i < least || !met(); ++i) {
    if (i == 20 * least) return false;
    step(i);
  }
  return true;
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_UNTIL_MET_H_
