// What a tensor core makes of one step: products, their sum with an accumulator, the bits of the
// result.
//
// Real units round neither each product nor as IEEE 754 would round the sum. Outputs of five of
// them (tests/ptxemu/tensor_units_test.cc) follow one rule, with three numbers a unit:
//   E = the largest of all (exponent of a + exponent of b), of products that are not zero, and of
//       c's exponent; a subnormal number has its format's lowest exponent; at least -132
//   every product and c is cut toward zero at 2^(E - F); the sum of these is exact
//   it is cut toward zero to G fraction bits; a sum of zero is +0
// n products take part in such a step; an instruction of more is several, one after the other. So
// the sum does not depend on the order inside a step, nor on which operand is a.
#ifndef DSV32_TESTS_PTXEMU_TENSOR_UNITS_H_
#define DSV32_TESTS_PTXEMU_TENSOR_UNITS_H_

#include <cstdint>

namespace dsv32::ptxemu {

// Whose arithmetic: `ideal` is the exact sum (in double precision), rounded once to nearest.
enum class Mode { ideal, sm80, sm89, sm90 };
enum class TensorType { bf16, e4m3 };
enum class TensorInstruction { mma_sync, wgmma };  // PTX ISA: "mma", "wgmma.mma_async"

// Why the unit of `mode` cannot be asked for this; null if it can. Modes of hardware refuse what
// that hardware lacks, and what nobody has shown the rule for.
const char* tensor_refusal(Mode mode, TensorType type, TensorInstruction instruction);

struct TensorShape {
  int m = 0, n = 0, k = 0;  // n in eights; k 16 for bf16, 32 for e4m3, or multiples
};

// d[m][n] = a[m][k] b[k][n] + c[m][n], all of them rows without gaps. a and b: the bits of an
// element in a word (e4m3 in the low byte); c and d: the bits of a float. d may be c.
void tensor_mma(Mode mode, TensorType type, TensorInstruction instruction, TensorShape shape,
                const std::uint16_t* a, const std::uint16_t* b, const std::uint32_t* c,
                std::uint32_t* d);

// The rule's numbers, for those who print them.
struct TensorRule {
  int products = 0;         // of one step
  int fraction = 0;         // F
  int result_fraction = 0;  // G
};
TensorRule tensor_rule(Mode mode, TensorType type);  // of a mode of hardware that is not refused

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_TENSOR_UNITS_H_
