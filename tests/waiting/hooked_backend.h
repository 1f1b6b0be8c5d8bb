// A backend for the tests of this folder: the CPU's, but a test says what each pass does first.
#ifndef DSV32_TESTS_WAITING_HOOKED_BACKEND_H_
#define DSV32_TESTS_WAITING_HOOKED_BACKEND_H_

#include <functional>

namespace dsv32::test {

// Calls `hook` in every pass of this program, on the thread that computes, while it lives. What
// the hook throws comes out of the pass. Of several the last one made counts.
class PassHook {
 public:
  explicit PassHook(std::function<void()> hook);
  ~PassHook();
  PassHook(const PassHook&) = delete;
  PassHook& operator=(const PassHook&) = delete;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_WAITING_HOOKED_BACKEND_H_
