// PTX ISA 9.7.12 "Control Flow Instructions" and, of 9.7.13, bar and barrier. What they do to a
// warp's groups of lanes is in run.cc; here they are taken apart.
#include "tests/ptxemu/barriers.h"
#include "tests/ptxemu/decoder.h"

namespace dsv32::ptxemu {
namespace {

void run_nothing(Warp&, const Instruction&, Lanes) {}

void run_trap(Warp& w, const Instruction& i, Lanes mask) {
  end(w, i, static_cast<unsigned>(__builtin_ctz(mask)), Kind::trap, "trap");
}

void run_warp_barrier(Warp& w, const Instruction&, Lanes mask) {
  if (w.detect) w.block->clocks.meet_in_warp(w.index, mask);
}

Slice slice_of(Decoder& decoder, const Operand& operand) {
  const ParamName* param = decoder.param(operand.name);
  if (param == nullptr || param->of_kernel) decoder.fail("no parameter that can be passed on");
  return param->slice;
}

const Operand* list_at(const Statement& s, std::size_t at) {
  return at < s.operands.size() && s.operands[at].type == Operand::Type::list ? &s.operands[at]
                                                                              : nullptr;
}

BarrierOp barrier_op(Decoder& decoder, const Statement& s) {
  if (s.has("sync")) return BarrierOp::sync;
  if (s.has("arrive")) return BarrierOp::arrive;
  if (s.has("red") && s.has("popc")) return BarrierOp::count;
  if (s.has("red") && s.has("and")) return BarrierOp::all;
  if (s.has("red") && s.has("or")) return BarrierOp::any;
  decoder.fail("no such form of a barrier");
}

}  // namespace

// reg: 0 result, 1 which barrier, 2 how many threads, 3 predicate; detail: BarrierOp; detail2: the
// predicate is negated; wide: all lanes of a warp come at once (.aligned, and bar).
void decode_bar(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() > 1 && s.words[1] == "warp") {
    if (s.mnemonic != "bar.warp.sync" || s.operands.size() != 1) {
      decoder.fail("no such form of a barrier");
    }
    decoder.members(s.operands[0], i);
    i.flow = Flow::sync;
    i.run = run_warp_barrier;
    return;
  }
  const BarrierOp op = barrier_op(decoder, s);
  const bool votes = op == BarrierOp::count || op == BarrierOp::all || op == BarrierOp::any;
  i.detail = static_cast<std::uint8_t>(op);
  i.wide = s.words[0] == "bar" || s.has("aligned");
  i.flow = Flow::barrier;
  const std::size_t first = votes ? 1 : 0;
  const std::size_t last = s.operands.size() - (votes ? 1 : 0);  // behind the counts
  if (s.operands.size() < first + 1 || last > first + 2 || last <= first) {
    decoder.fail("no such form of a barrier");
  }
  i.reg[1] = decoder.source(s.operands[first], 4);
  if (last == first + 2) i.reg[2] = decoder.source(s.operands[first + 1], 4);
  if (op == BarrierOp::arrive && i.reg[2] == kNone) decoder.fail("arrive needs a thread count");
  if (!votes) return;
  i.reg[3] = decoder.source(s.operands[last], kPredicate);
  i.detail2 = s.operands[last].negated;
  i.reg[0] = decoder.target(s.operands[0], op == BarrierOp::count ? 4 : kPredicate);
}

void decode_bra(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 1) decoder.fail("bra needs a label");
  i.flow = Flow::branch;
  decoder.branch_to(s.operands[0].name);
}

void decode_brx(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 2 || !s.has("idx")) decoder.fail("no such form of brx");
  i.reg[0] = decoder.source(s.operands[0], 4);
  i.target = decoder.branch_table(s.operands[1].name);
  i.flow = Flow::table;
}

// call (result), function, (arguments), prototype;
void decode_call(Decoder& decoder, const Statement& s, Instruction& i) {
  Call call;
  std::size_t at = 0;
  if (const Operand* results = list_at(s, at)) {
    for (const Operand& part : results->parts) call.results.push_back(slice_of(decoder, part));
    ++at;
  }
  if (at >= s.operands.size()) decoder.fail("call without a function");
  const Operand& function = s.operands[at++];
  if (const Operand* arguments = list_at(s, at)) {
    for (const Operand& part : arguments->parts) {
      call.arguments.push_back(slice_of(decoder, part));
    }
  }
  call.name = std::string(function.name);
  if (decoder.is_register(function.name)) call.reg = decoder.source(function, 8);
  i.target = decoder.call(std::move(call));
  i.flow = Flow::call;
}

void decode_ret(Decoder&, const Statement&, Instruction& i) { i.flow = Flow::leave; }
void decode_exit(Decoder&, const Statement&, Instruction& i) { i.flow = Flow::exit; }
void decode_trap(Decoder&, const Statement&, Instruction& i) { i.run = run_trap; }
void decode_nothing(Decoder&, const Statement&, Instruction& i) { i.run = run_nothing; }

}  // namespace dsv32::ptxemu
