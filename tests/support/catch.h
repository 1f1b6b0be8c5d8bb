// One include for Catch2, version 2 or 3, and the matcher every error test uses.
#ifndef DSV32_TESTS_SUPPORT_CATCH_H_
#define DSV32_TESTS_SUPPORT_CATCH_H_

#if __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;  // a name of version 2's
#endif

#include <string>

#include "dsv32/error.h"

namespace dsv32::test {

// Runs `call`, which must throw an Error of this code whose message holds `part`; returns the
// message.
template <class Call>
std::string check_error(ErrorCode code, const std::string& part, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    INFO("message: " << message);
    CHECK(error.code() == code);
    CHECK(message.find(part) != std::string::npos);
    CHECK(message.size() <= 512);
    return message;
  }
  FAIL("no error was thrown");
  return {};
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_CATCH_H_
