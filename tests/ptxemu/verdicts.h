// What is said of an access that races, or reads what nobody wrote.
#ifndef DSV32_TESTS_PTXEMU_VERDICTS_H_
#define DSV32_TESTS_PTXEMU_VERDICTS_H_

#include "tests/ptxemu/warp.h"

namespace dsv32::ptxemu {

void report_global(Warp& w, const Instruction& i, unsigned lane, const Buffer& buffer,
                   std::size_t at, const Verdict& verdict);
void report_shared(Warp& w, const Instruction& i, unsigned lane, Address offset, unsigned bytes,
                   const Verdict& verdict, bool reads);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_VERDICTS_H_
