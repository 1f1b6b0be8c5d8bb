// FloatState: what a thread computes inside is the same whatever it has set, and its state comes
// back. On its own, so that it can be built for machines that the rest is not (scripts/aarch64.sh).
#include "lib/base/float_state.h"

#include <cfenv>
#include <cstdint>
#include <limits>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// <cfenv> knows no flushing of subnormal numbers.
void flush_subnormals(bool flush) {
#if defined(__x86_64__)
  std::uint32_t state = 0;
  asm volatile("stmxcsr %0" : "=m"(state));
  state = flush ? state | 0x8040u : state & ~0x8040u;
  asm volatile("ldmxcsr %0" ::"m"(state) : "memory");
#elif defined(__aarch64__)
  std::uint64_t state = 0;
  asm volatile("mrs %0, fpcr" : "=r"(state));
  state = flush ? state | (1u << 24) : state & ~std::uint64_t{1u << 24};
  asm volatile("msr fpcr, %0" ::"r"(state) : "memory");
#else
  static_cast<void>(flush);
#endif
}

// Out of the compiler's sight.
float quotient(float a, float b) {
  volatile float x = a, y = b;
  volatile float q = x / y;
  return q;
}
float smallest_half() { return quotient(std::numeric_limits<float>::min(), 2.0f); }

// The state of a test, put back at its end.
class Restored {
 public:
  Restored() { std::fegetenv(&before_); }
  ~Restored() {
    flush_subnormals(false);
    std::fesetenv(&before_);
  }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  std::fenv_t before_{};
};

TEST_CASE("rounding, flushing and flags of a thread change nothing inside, and are there again") {
  const float nearest = quotient(1.0f, 3.0f), subnormal = smallest_half();
  REQUIRE(subnormal > 0.0f);
  const Restored restored;
  bool any_other = false, flushed = false;
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    for (const bool flush : {false, true}) {
      INFO("mode " << mode << ", flush " << flush);
      std::fesetround(mode);
      flush_subnormals(flush);
      std::feclearexcept(FE_ALL_EXCEPT);
      std::feraiseexcept(FE_UNDERFLOW);
      const float mine = quotient(1.0f, 3.0f), mine_small = smallest_half();
      std::feclearexcept(FE_ALL_EXCEPT);
      std::feraiseexcept(FE_UNDERFLOW);
      float inside = 0.0f, inside_small = 0.0f, called = 0.0f;
      {
        FloatState ours;
        inside = quotient(1.0f, 3.0f);
        inside_small = smallest_half();
        volatile float none = quotient(1.0f, 0.0f);  // raises a flag that is nobody's
        static_cast<void>(none);
        const CallersFloatState callers(ours);
        called = quotient(1.0f, 3.0f);
      }
      const int flags = std::fetestexcept(FE_DIVBYZERO | FE_UNDERFLOW);
      CHECK(std::fegetround() == mode);
      CHECK(inside == nearest);
      CHECK(inside_small == subnormal);
      CHECK(called == mine);
      CHECK(flags == FE_UNDERFLOW);
      CHECK(quotient(1.0f, 3.0f) == mine);
      CHECK(smallest_half() == mine_small);
      any_other = any_other || mine != nearest;
      flushed = flushed || mine_small == 0.0f;
    }
  }
  CHECK(any_other);  // the modes do something here
  CHECK(flushed);
}

}  // namespace
}  // namespace dsv32::test
