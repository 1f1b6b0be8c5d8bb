// The worst of many deviations. std::max passes by what is no number, and a test with it.
#ifndef DSV32_TESTS_SUPPORT_WORST_H_
#define DSV32_TESTS_SUPPORT_WORST_H_

#include <algorithm>
#include <cmath>
#include <limits>

namespace dsv32::test {

class Worst {
 public:
  // What is no number is worse than all others.
  void add(double deviation) {
    worst_ = std::max(worst_, std::isnan(deviation) ? std::numeric_limits<double>::infinity()
                                                    : std::fabs(deviation));
  }
  double value() const { return worst_; }

 private:
  double worst_ = 0.0;
};

// x - y; none where both are the same infinity or both are no numbers.
inline double difference(double x, double y) {
  return x == y || (std::isnan(x) && std::isnan(y)) ? 0.0 : x - y;
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_WORST_H_
