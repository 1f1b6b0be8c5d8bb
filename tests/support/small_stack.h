// A thread with a small stack, where depth that input sets is a crash.
#ifndef DSV32_TESTS_SUPPORT_SMALL_STACK_H_
#define DSV32_TESTS_SUPPORT_SMALL_STACK_H_

#include <cstddef>
#include <functional>
#include <pthread.h>

#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {

// Runs `work` on a stack of so many KiB; more with a sanitizer, whose frames are larger.
inline void on_stack(std::size_t kib, const std::function<void()>& work) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, kib * 1024 * (kSanitized ? 8 : 1)) == 0);
  pthread_t thread;
  const auto start = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, start, const_cast<std::function<void()>*>(&work)) ==
          0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_SMALL_STACK_H_
