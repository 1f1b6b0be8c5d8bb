// From operands to registers of a function, while it is being parsed. An error is a SyntaxError.
#ifndef DSV32_TESTS_PTXEMU_DECODER_H_
#define DSV32_TESTS_PTXEMU_DECODER_H_

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "tests/ptxemu/code.h"
#include "tests/ptxemu/syntax.h"

namespace dsv32::ptxemu {

inline constexpr unsigned kPredicate = 0;    // the "bytes" of a predicate register
inline constexpr std::uint32_t kCarry = 0;   // slot of the condition code's carry, a bit a lane
unsigned type_bytes(std::string_view type);  // of "s32", "bf16x2", "pred"; kNoType: none
inline constexpr unsigned kNoType = ~0u;

struct Register {
  std::uint32_t slot = kNone;
  unsigned bytes = 0;
};

// Names of a function's body; "{" opens an inner one.
struct Scope {
  int parent = -1;
  std::unordered_map<std::string, Register> registers;
  std::unordered_map<std::string, unsigned> ranges;  // "%r" of "%r<10>": bytes
  std::unordered_map<std::string, std::uint32_t> labels;
  std::unordered_map<std::string, std::vector<std::string>> tables;  // .branchtargets
};

struct ParamName {  // of a function's .param area or, of an entry, of its parameters
  Slice slice;
  bool of_kernel = false;
};

class Decoder {
 public:
  Decoder(Code& code, Function& function);

  // Scopes, names, room.
  void open();
  void close();
  void declare_register(const std::string& name, unsigned bytes);
  void declare_range(const std::string& prefix, unsigned bytes);
  void declare_param(const std::string& name, std::uint32_t bytes, std::uint32_t alignment);
  void declare_kernel_param(const std::string& name, Slice slice);
  void declare_local(const std::string& name, std::uint32_t bytes, std::uint32_t alignment);
  void label(const std::string& name, int line);
  void table(const std::string& name, std::vector<std::string> labels);
  const ParamName* param(std::string_view name) const;

  // Operands. A register that is not of these bytes is an error.
  std::uint32_t source(const Operand& operand, unsigned bytes);
  std::uint32_t target(const Operand& operand, unsigned bytes);  // "_": kNone
  Register source_of_any_size(const Operand& operand, unsigned bytes_of_number);
  Register target_of_any_size(const Operand& operand);
  void address(const Operand& operand, Instruction& i, int reg);
  void members(const Operand& operand, Instruction& i) { i.members = source(operand, 4); }
  void vector(const std::vector<Operand>& parts, Instruction& i, unsigned bytes, bool targets);
  void add_to_list(Instruction& i, std::uint32_t slot);
  std::uint32_t constant(std::uint64_t bits, unsigned bytes);

  void instruction(const Statement& statement);
  bool is_register(std::string_view name) { return lookup(name).slot != kNone; }
  void branch_to(std::string_view name);
  std::uint32_t branch_table(std::string_view name);
  std::uint32_t call(Call call);
  void finish();  // labels become targets

  int line() const { return line_; }
  [[noreturn]] void fail(const std::string& text) const { syntax_error(line_, text); }

 private:
  struct Jump {  // to a label that may come later
    std::size_t instruction = 0;
    std::size_t table = kNone, entry = 0;
    int scope = 0, line = 0;
    std::string label;
  };
  Register lookup(std::string_view name);
  Register new_register(unsigned bytes);
  Register named(const Operand& operand, unsigned bytes);
  std::uint32_t fill(Special what, unsigned bytes, std::uint32_t index, std::int64_t offset);
  Register special(std::string_view name);
  std::uint32_t target_pc(const Jump& jump) const;

  Code& code_;
  Function& function_;
  std::vector<Scope> scopes_;
  int scope_ = -1;
  int line_ = 0;
  std::map<std::pair<std::uint64_t, unsigned>, std::uint32_t> constants_;
  std::unordered_map<std::string, std::uint32_t> fills_;
  std::unordered_map<std::string, ParamName> params_;
  std::unordered_map<std::string, std::uint32_t> locals_;
  std::vector<Jump> jumps_;
};

// Takes an instruction apart, by the first word of its mnemonic.
using Decode = void (*)(Decoder&, const Statement&, Instruction&);
Decode decode_of(std::string_view root);  // nullptr: there is no such instruction

void decode_row(Decoder&, const Statement&, Instruction&);  // one result, sources of its type
void decode_setp(Decoder&, const Statement&, Instruction&);
void decode_set(Decoder&, const Statement&, Instruction&);
void decode_selp(Decoder&, const Statement&, Instruction&);
void decode_slct(Decoder&, const Statement&, Instruction&);
void decode_testp(Decoder&, const Statement&, Instruction&);
void decode_mov(Decoder&, const Statement&, Instruction&);
void decode_cvt(Decoder&, const Statement&, Instruction&);
void decode_cvta(Decoder&, const Statement&, Instruction&);
void decode_isspacep(Decoder&, const Statement&, Instruction&);
void decode_lop3(Decoder&, const Statement&, Instruction&);
void decode_prmt(Decoder&, const Statement&, Instruction&);
void decode_ld(Decoder&, const Statement&, Instruction&);
void decode_st(Decoder&, const Statement&, Instruction&);
void decode_atom(Decoder&, const Statement&, Instruction&);
void decode_fence(Decoder&, const Statement&, Instruction&);
void decode_cp(Decoder&, const Statement&, Instruction&);
void decode_shfl(Decoder&, const Statement&, Instruction&);
void decode_vote(Decoder&, const Statement&, Instruction&);
void decode_match(Decoder&, const Statement&, Instruction&);
void decode_redux(Decoder&, const Statement&, Instruction&);
void decode_elect(Decoder&, const Statement&, Instruction&);
void decode_activemask(Decoder&, const Statement&, Instruction&);
void decode_mma(Decoder&, const Statement&, Instruction&);
void decode_ldmatrix(Decoder&, const Statement&, Instruction&);
void decode_stmatrix(Decoder&, const Statement&, Instruction&);
void decode_movmatrix(Decoder&, const Statement&, Instruction&);
void decode_bar(Decoder&, const Statement&, Instruction&);
void decode_bra(Decoder&, const Statement&, Instruction&);
void decode_brx(Decoder&, const Statement&, Instruction&);
void decode_call(Decoder&, const Statement&, Instruction&);
void decode_ret(Decoder&, const Statement&, Instruction&);
void decode_exit(Decoder&, const Statement&, Instruction&);
void decode_trap(Decoder&, const Statement&, Instruction&);
void decode_nothing(Decoder&, const Statement&, Instruction&);  // prefetch, nanosleep, ...

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_DECODER_H_
