// A call with each of its allocations failing in turn.
#ifndef DSV32_TESTS_FAULTS_FAIL_EACH_H_
#define DSV32_TESTS_FAULTS_FAIL_EACH_H_

#include <new>

#include "tests/faults/seams.h"
#include "tests/support/catch.h"

namespace dsv32::test {

// Runs `call` with its k-th allocation failing, for k = 0, step, 2 step and so on. Each time it
// must throw bad_alloc or out_of_memory, or do without; then `check` looks at what is left.
template <class Call, class Check>
void fail_each_allocation(long step, Call&& call, Check&& check) {
  long failures = 0;
  for (long k = 0;; k += step) {
    bool happened = false;
    {
      const FailAllocation fail(k);
      try {
        call();
      } catch (const std::bad_alloc&) {
        ++failures;
      } catch (const Error& error) {
        if (error.code() != ErrorCode::out_of_memory) throw;
        ++failures;
      }
      happened = FailAllocation::happened();
    }
    check();
    if (!happened) break;
  }
  CHECK(failures > 0);
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_FAULTS_FAIL_EACH_H_
