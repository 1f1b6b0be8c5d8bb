#ifndef DSV32_TESTS_PTXEMU_LINK_H_
#define DSV32_TESTS_PTXEMU_LINK_H_

#include "tests/ptxemu/code.h"

namespace dsv32::ptxemu {

// Once all functions are there: calls find theirs, and each kernel's shared variables their places.
// SyntaxError: a function that is called has no body.
void link(Code& code);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_LINK_H_
