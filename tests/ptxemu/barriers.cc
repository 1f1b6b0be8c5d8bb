#include "tests/ptxemu/barriers.h"

#include <bit>

namespace dsv32::ptxemu {
namespace {

void give_result(const Barrier::Waiting& waiting, std::uint32_t votes, unsigned arrived) {
  const Instruction& i = *waiting.instruction;
  if (i.reg[0] == kNone) return;
  std::byte* registers = waiting.frame->registers.data() + i.reg[0];
  const auto op = static_cast<BarrierOp>(i.detail);
  auto* to = reinterpret_cast<std::uint32_t*>(registers);
  if (op == BarrierOp::count) {
    for (Lanes rest = waiting.lanes; rest != 0; rest &= rest - 1) to[__builtin_ctz(rest)] = votes;
    return;
  }
  const bool result = op == BarrierOp::all ? votes == arrived : votes != 0;
  *to = (*to & ~waiting.lanes) | (result ? waiting.lanes : 0);
}

void wake(Block& block, const Barrier::Waiting& waiting) {
  for (Group& group : block.warps[waiting.warp].groups) {
    if (group.frame == waiting.frame && (group.lanes & waiting.lanes) != 0) {
      group.wait = Wait::none;
    }
  }
}

// All that were awaited are there: what they know is everybody's.
void complete(Block& block, Barrier& barrier) {
  if (block.grid->options.detect) block.clocks.meet(barrier.who);
  for (const Barrier::Waiting& waiting : barrier.waiting) {
    give_result(waiting, barrier.votes, barrier.arrived);
    wake(block, waiting);
  }
  barrier = {};
}

void complete_if_all_came(Block& block, Barrier& barrier) {
  const unsigned awaited = barrier.expected != 0 ? barrier.expected : block.live_threads;
  if (barrier.arrived != 0 && barrier.arrived >= awaited) complete(block, barrier);
}

}  // namespace

bool arrive(Warp& w, const Instruction& i, Lanes mask) {
  Block& block = *w.block;
  const auto lane = static_cast<unsigned>(std::countr_zero(mask));
  const std::uint32_t index = w.lanes<std::uint32_t>(i.reg[1])[lane];
  const std::uint32_t count = i.reg[2] == kNone ? 0 : w.lanes<std::uint32_t>(i.reg[2])[lane];
  if (index >= kBarriers) {
    report(w, i, lane, Kind::barrier, "barrier %u of 16", index);
    return false;
  }
  Barrier& barrier = block.barriers[index];
  if (count % kLanes != 0 || count > block.warps.size() * kLanes) {
    report(w, i, lane, Kind::barrier, "a barrier of %u threads in a CTA of %zu warps", count,
           block.warps.size());
  }
  if (barrier.arrived != 0 && barrier.expected != count) {
    report(w, i, lane, Kind::barrier, "barrier %u waits for %u threads, not for %u", index,
           barrier.expected, count);
  }
  if (barrier.who.empty()) barrier.who.assign(block.warps.size(), 0);
  if ((barrier.who[w.index] & mask) != 0) {
    report(w, i, lane, Kind::barrier, "a thread comes to barrier %u twice", index);
  }
  barrier.who[w.index] |= mask;
  barrier.expected = count;
  barrier.arrived += static_cast<unsigned>(std::popcount(mask));
  if (i.reg[3] != kNone) {
    const Lanes votes = i.detail2 != 0 ? ~w.bits(i.reg[3]) : w.bits(i.reg[3]);
    barrier.votes += static_cast<unsigned>(std::popcount(votes & mask));
  }
  const bool waits = static_cast<BarrierOp>(i.detail) != BarrierOp::arrive;
  if (waits) barrier.waiting.push_back({w.index, mask, w.frame, &i});
  return waits;
}

void release_barriers(Block& block) {
  for (Barrier& barrier : block.barriers) complete_if_all_came(block, barrier);
}

}  // namespace dsv32::ptxemu
