// Whether a sanitizer's runtime runs beside a test: it has threads and allocations of its own,
// wants address space, and no fork().
#ifndef DSV32_TESTS_SUPPORT_SANITIZED_H_
#define DSV32_TESTS_SUPPORT_SANITIZED_H_

namespace dsv32::test {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_SANITIZED_H_
