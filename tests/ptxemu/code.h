// Functions in the form that is executed. A register is a byte offset into its frame's register
// file: 32 lanes of 2, 4 or 8 bytes one behind the other, or, of a predicate, one word with a bit
// for each lane. Constants, special registers and addresses of variables are registers, too.
#ifndef DSV32_TESTS_PTXEMU_CODE_H_
#define DSV32_TESTS_PTXEMU_CODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/ptxemu/machine.h"

namespace dsv32::ptxemu {

struct Warp;
struct Instruction;
using Lanes = std::uint32_t;  // a bit for each
using Execute = void (*)(Warp&, const Instruction&, Lanes);
using Compare = Lanes (*)(Warp&, const Instruction&);  // of all lanes, wanted or not

inline constexpr std::uint32_t kNone = ~0u;
inline constexpr int kLanes = 32;
inline constexpr Lanes kAllLanes = ~0u;
inline constexpr unsigned kMaxThreads = 1024;  // of a CTA

// What comes after an instruction, and what it waits for.
enum class Flow : std::uint8_t {
  straight,
  sync,     // waits for the lanes of its mask (.sync)
  barrier,  // waits for other warps
  branch,
  table,  // brx.idx
  call,
  leave,  // ret
  exit,
};

struct Instruction {
  Execute run = nullptr;
  Compare compare = nullptr;
  std::uint32_t reg[6] = {kNone, kNone, kNone, kNone, kNone, kNone};
  std::uint32_t predicate = kNone;
  std::uint32_t members = kNone;  // .sync: register with the mask; kNone: all lanes
  std::uint32_t list = 0;         // vector operands: where they begin in Function::lists
  std::uint32_t target = 0;       // of a branch; which call; which table
  std::int64_t imm = 0;
  int line = 0;
  Flow flow = Flow::straight;
  bool negated = false;     // the predicate
  bool wide = false;        // the address is in a register of 64 bits
  std::uint8_t count = 0;   // of a vector operand
  std::uint8_t bytes = 0;   // of an element in memory
  std::uint8_t detail = 0;  // what else its group keeps
  std::uint8_t detail2 = 0;
};

// Registers that are filled when a frame begins.
enum class Special : std::uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  smid,
  nsmid,
  gridid,
  total_shared,
  dynamic_shared,
  shared_variable,  // address in its space, of the module's `index`th .shared variable
  variable,         // the same of .global and .const
  local_variable,   // `index`: its offset in the frame
  function_address,
};

struct Fill {
  Special what = Special::tid_x;
  std::uint8_t bytes = 4;
  std::uint32_t slot = 0;
  std::uint32_t index = 0;
  std::int64_t offset = 0;
};

struct Slice {  // of a frame's .param area
  std::uint32_t offset = 0, bytes = 0;
};

struct Call {
  std::uint32_t function = kNone;  // kNone: by the address in `reg`
  std::uint32_t reg = kNone;
  std::string name;
  int line = 0;
  std::vector<Slice> arguments, results;
};

struct Function {
  std::string name;
  bool entry = false, defined = false;
  int line = 0;
  std::vector<Instruction> code;
  std::vector<std::uint32_t> lists;
  std::vector<std::vector<std::uint32_t>> tables;
  std::vector<Call> calls;
  std::vector<std::byte> image;  // of the register file
  std::vector<Fill> fills;
  std::vector<Slice> formals, results;  // of a .func, in its .param area
  std::uint32_t param_bytes = 0;        // of a frame's .param area, of each lane
  std::uint32_t local_bytes = 0;
  std::uint32_t registers = 0;
};

struct SharedVariable {
  std::string name;
  std::uint32_t bytes = 0, alignment = 1;
  bool dynamic = false;  // .extern: what the launch adds
};

struct Relocation {  // an address in a variable's first value
  std::size_t offset = 0;
  std::string name;
  std::int64_t addend = 0;
};

struct Variable {
  Symbol symbol;
  std::vector<std::byte> first;  // its bytes, if it has an initialiser
  std::vector<Relocation> relocations;
  bool initialised = false;
};

// Where a kernel's shared variables lie; kNone: it uses none of them.
struct SharedLayout {
  std::vector<std::uint32_t> offsets;
  std::uint32_t static_bytes = 0;
};

struct Code {
  int version = 0;
  int last_line = 0;
  std::string target;
  std::vector<Function> functions;
  std::vector<SharedVariable> shared;
  std::vector<Variable> variables;
  std::vector<Kernel> kernels;
  std::vector<Symbol> symbols;
  std::vector<std::uint32_t> kernel_functions;  // of each of `kernels`
  std::vector<SharedLayout> layouts;            // of each of `kernels`
};

// Generic addresses (PTX ISA, "Generic Addressing"): device memory lies above all windows, each
// machine's in a range of its own, and what is below the windows is nobody's.
inline constexpr Address kWindowBytes = Address{1} << 24;
inline constexpr Address kFunctionWindow = Address{1} << 36;
inline constexpr Address kParamWindow = Address{2} << 36;
inline constexpr Address kLocalWindow = Address{3} << 36;
inline constexpr Address kSharedWindow = Address{4} << 36;
inline constexpr int kMachineShift = 40;
inline constexpr Address kFunctionStride = 16;

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_CODE_H_
