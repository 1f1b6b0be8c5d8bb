// Divergence: lanes that part at a branch are groups of their own, of which the one that is
// furthest behind runs first, deeper functions before their callers; so they meet again where they
// can. A .sync instruction waits for all lanes of its mask to come to it (PTX ISA, "Warp-level
// instructions"); lanes that ended are waited for no longer.
#include "tests/ptxemu/flow.h"

#include <algorithm>
#include <cstring>

#include "tests/ptxemu/barriers.h"

namespace dsv32::ptxemu {
namespace {

Group& current(Warp& w) { return w.groups[w.current]; }

// The current group keeps these lanes; the others are a group of their own at `pc`.
void part(Warp& w, Lanes keep, std::uint32_t pc) {
  Group& group = current(w);
  const Lanes rest = group.lanes & ~keep;
  group.lanes = keep;
  if (rest == 0) return;
  Group other;
  other.frame = group.frame;
  other.pc = pc;
  other.lanes = rest;
  w.groups.push_back(other);
}

void branch(Warp& w, Lanes mask, std::uint32_t target) {
  part(w, mask, current(w).pc + 1);
  current(w).pc = target;
}

void branch_by_table(Warp& w, const Instruction& i, Lanes mask) {
  part(w, mask, current(w).pc + 1);
  const std::vector<std::uint32_t>& table = w.frame->function->tables[i.target];
  const std::uint32_t* indices = w.lanes<std::uint32_t>(i.reg[0]);
  for (Lanes rest = mask; rest != 0;) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(rest));
    const std::uint32_t index = indices[lane];
    Lanes same = 0;
    for (Lanes k = rest; k != 0; k &= k - 1) {
      if (indices[__builtin_ctz(k)] == index) same |= k & (0 - k);
    }
    if (index >= table.size()) {
      return end(w, i, lane, Kind::bad_instruction, "brx.idx to target %u of %zu", index,
                 table.size());
    }
    rest &= ~same;
    part(w, same, current(w).pc);
    current(w).pc = table[index];
    if (rest != 0) w.current = w.groups.size() - 1;  // those that were parted off come next
  }
}

void copy_params(Frame& to, const Slice& to_slice, const Frame& from, const Slice& from_slice,
                 Lanes lanes) {
  const std::uint32_t bytes = std::min(to_slice.bytes, from_slice.bytes);
  for (; lanes != 0; lanes &= lanes - 1) {
    const auto lane = static_cast<std::size_t>(__builtin_ctz(lanes));
    std::memcpy(to.params.data() + lane * to.function->param_bytes + to_slice.offset,
                from.params.data() + lane * from.function->param_bytes + from_slice.offset, bytes);
  }
}

void enter_function(Warp& w, const Instruction& i, const Call& call, std::uint32_t index,
                    Lanes mask) {
  const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
  const std::vector<Function>& functions = w.block->grid->code->functions;
  if (index >= functions.size() || functions[index].entry) {
    return end(w, i, lane, Kind::bad_instruction, "a call of what is no function");
  }
  const Function& function = functions[index];
  if (!function.defined) {  // __assertfail alone comes this far
    return end(w, i, lane, Kind::trap, "%s", call.name.c_str());
  }
  const bool fits = function.formals.size() == call.arguments.size() &&
                    function.results.size() == call.results.size();
  Frame* const caller = w.frame;
  Frame* const frame = fits ? w.enter(function, caller, mask) : nullptr;
  if (frame == nullptr) {
    return end(w, i, lane, Kind::bad_instruction, "a call of %s: %s", function.name.c_str(),
               fits ? "the stack is full" : "other parameters");
  }
  for (std::size_t k = 0; k < call.arguments.size(); ++k) {
    copy_params(*frame, function.formals[k], *caller, call.arguments[k], mask);
  }
  frame->call = &call;
  frame->return_pc = current(w).pc + 1;
  current(w).frame = frame;
  current(w).pc = 0;
}

void call_function(Warp& w, const Instruction& i, Lanes mask) {
  part(w, mask, current(w).pc + 1);
  const Call& call = w.frame->function->calls[i.target];
  if (call.reg == kNone) return enter_function(w, i, call, call.function, mask);
  const Address* addresses = w.lanes<Address>(call.reg);
  const Address first = addresses[__builtin_ctz(mask)];
  Lanes same = 0;
  for (Lanes k = mask; k != 0; k &= k - 1) {
    if (addresses[__builtin_ctz(k)] == first) same |= k & (0 - k);
  }
  part(w, same, current(w).pc);  // the others call in their turn
  const Address offset = first - kFunctionWindow;
  const bool is_function = offset < kWindowBytes && offset % kFunctionStride == 0;
  enter_function(w, i, call,
                 is_function ? static_cast<std::uint32_t>(offset / kFunctionStride) : kNone, same);
}

void end_threads(Warp& w, Lanes mask) {
  land_all_copies(w, mask);
  for (Frame* frame = w.frame; frame != nullptr;) {
    Frame* const caller = frame->caller;
    w.leave(frame, mask);
    frame = caller;
  }
  w.live &= ~mask;
  w.block->live_threads -= static_cast<unsigned>(__builtin_popcount(mask));
  Group& group = current(w);
  group.lanes &= ~mask;
  ++group.pc;
  if (group.lanes == 0) w.groups.erase(w.groups.begin() + static_cast<std::ptrdiff_t>(w.current));
  for (Group& other : w.groups) {  // they may have waited for these
    if (other.wait == Wait::lanes) other.wait = Wait::none;
  }
  release_barriers(*w.block);
}

void leave_function(Warp& w, Lanes mask) {
  Frame* const frame = w.frame;
  if (frame->caller == nullptr) return end_threads(w, mask);
  part(w, mask, current(w).pc + 1);
  for (std::size_t k = 0; k < frame->call->results.size(); ++k) {
    copy_params(*frame->caller, frame->call->results[k], *frame, frame->function->results[k], mask);
  }
  current(w).frame = frame->caller;
  current(w).pc = frame->return_pc;
  w.leave(frame, mask);
}

Lanes members_of(Warp& w, const Instruction& i, unsigned lane) {
  return i.members == kNone ? kAllLanes : w.lanes<Lanes>(i.members)[lane];
}

// The lanes of `mask` that name the same members as `lane`.
Lanes with_same_members(Warp& w, const Instruction& i, Lanes mask, unsigned lane) {
  if (i.members == kNone) return mask;
  const Lanes members = members_of(w, i, lane);
  Lanes same = 0;
  for (Lanes k = mask; k != 0; k &= k - 1) {
    const Lanes bit = k & (0 - k);
    if (members_of(w, i, static_cast<unsigned>(__builtin_ctz(bit))) == members) same |= bit;
  }
  return same;
}

// Have all come that this instruction waits for?
bool all_there(Warp& w, const Instruction& i, Lanes mask, bool forced) {
  bool complete = true;
  for (Lanes rest = mask; rest != 0;) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(rest));
    const Lanes same = with_same_members(w, i, rest, lane);
    const Lanes members = members_of(w, i, lane);
    const Lanes missing = members & w.live & ~same;
    rest &= ~same;
    if ((same & ~members) != 0) {
      report(w, i, lane, Kind::divergent_sync, "lanes %08x are none of their own mask %08x",
             same & ~members, members);
    }
    if (missing == 0) continue;
    complete = false;
    if (forced) {
      report(w, i, lane, Kind::divergent_sync, "lanes %08x never come; %08x are there", missing,
             same);
    }
  }
  return complete;
}

// True if the current group waits for lanes now.
bool waits_for_lanes(Warp& w, const Instruction& i, Lanes mask) {
  if (all_there(w, i, mask, current(w).forced) || current(w).forced) return false;
  part(w, mask, current(w).pc + 1);
  current(w).wait = Wait::lanes;
  return true;
}

void synchronise(Warp& w, const Instruction& i, Lanes mask) {
  if (waits_for_lanes(w, i, mask)) return;
  for (Lanes rest = mask; rest != 0;) {
    const Lanes same = with_same_members(w, i, rest, static_cast<unsigned>(__builtin_ctz(rest)));
    i.run(w, i, same);
    rest &= ~same;
  }
  current(w).forced = false;
  ++current(w).pc;
}

void come_to_barrier(Warp& w, const Instruction& i, Lanes mask) {
  if (i.wide && waits_for_lanes(w, i, mask)) return;
  part(w, mask, current(w).pc + 1);
  Group& group = current(w);
  group.forced = false;
  ++group.pc;
  if (arrive(w, i, mask)) group.wait = Wait::barrier;
  release_barriers(*w.block);
}

bool runs_before(const Group& a, const Group& b) {
  if (a.frame->depth != b.frame->depth) return a.frame->depth > b.frame->depth;
  return a.pc < b.pc;
}

void merge(Warp& w) {
  for (std::size_t a = 0; a < w.groups.size(); ++a) {
    for (std::size_t b = w.groups.size() - 1; b > a; --b) {
      Group& into = w.groups[a];
      const Group& from = w.groups[b];
      if (into.frame != from.frame || into.pc != from.pc || into.wait == Wait::barrier ||
          from.wait == Wait::barrier) {
        continue;
      }
      into.lanes |= from.lanes;
      into.wait = Wait::none;
      into.forced = false;
      w.groups.erase(w.groups.begin() + static_cast<std::ptrdiff_t>(b));
    }
  }
}

}  // namespace

void flow(Warp& w, const Instruction& i, Lanes mask) {
  if (mask == 0) {
    ++current(w).pc;
    return;
  }
  switch (i.flow) {
    case Flow::sync:
      return synchronise(w, i, mask);
    case Flow::barrier:
      return come_to_barrier(w, i, mask);
    case Flow::branch:
      return branch(w, mask, i.target);
    case Flow::table:
      return branch_by_table(w, i, mask);
    case Flow::call:
      return call_function(w, i, mask);
    case Flow::leave:
      return leave_function(w, mask);
    case Flow::exit:
      return end_threads(w, mask);
    case Flow::straight:
      break;
  }
}

bool regroup(Warp& w) {
  if (w.groups.size() > 1) merge(w);
  const Group* best = nullptr;
  for (std::size_t k = 0; k < w.groups.size(); ++k) {
    const Group& group = w.groups[k];
    if (group.wait != Wait::none || (best != nullptr && !runs_before(group, *best))) continue;
    best = &group;
    w.current = k;
  }
  if (best == nullptr) return false;
  w.frame = best->frame;
  w.registers = w.frame->registers.data();
  return true;
}

bool is_ready(const Warp& w) {
  return std::any_of(w.groups.begin(), w.groups.end(),
                     [](const Group& group) { return group.wait == Wait::none; });
}

bool force_sync(Warp& w) {
  for (Group& group : w.groups) {
    if (group.wait != Wait::lanes) continue;
    group.wait = Wait::none;
    group.forced = true;
    return true;
  }
  return false;
}

}  // namespace dsv32::ptxemu
