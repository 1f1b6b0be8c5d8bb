// PTX ISA 9.7.9 "Data Movement and Conversion Instructions: Asynchronous copy": cp.async, its
// groups and its waits.
//
// A copy may happen at any time between its issue and its wait. So it happens at the wait, or with
// Options::eager at the issue; whoever touched the bytes in between, in either order, raced: the
// write is judged by what the thread knew at the issue and counts from the wait on.
#include <cstring>

#include "tests/ptxemu/access.h"
#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

LaneCopies& copies_of(Warp& w, unsigned lane) {
  if (w.copies.empty()) w.copies.resize(kLanes);
  return w.copies[lane];
}

void take(Warp& w, Copy& copy, std::byte* into) {
  std::memset(into, 0, copy.bytes);
  if (copy.taken == 0) return;
  const Buffer* from = w.block->grid->memory->find(copy.from);
  if (from == nullptr || !from->holds(copy.from, copy.taken)) return;
  std::memcpy(into, from->data.get() + (copy.from - from->base), copy.taken);
}

// reg: 0 to, 1 from, 2 source bytes or the predicate to ignore the source; detail: which; bytes:
// of the copy; target: to add to the source's address.
enum class Extra : std::uint8_t { none, bytes, ignore };

unsigned taken_bytes(Warp& w, const Instruction& i, unsigned lane) {
  switch (static_cast<Extra>(i.detail)) {
    case Extra::bytes: {
      const u32 bytes = w.lanes<u32>(i.reg[2])[lane];
      if (bytes <= i.bytes) return bytes;
      report(w, i, lane, Kind::async_copy, "%u bytes of a source, %u of the copy", bytes, i.bytes);
      return i.bytes;
    }
    case Extra::ignore:
      return w.bits(i.reg[2]) >> lane & 1 ? 0 : i.bytes;
    case Extra::none:
      break;
  }
  return i.bytes;
}

// What it reads, and the stores that it is for shared memory.
void measure_copy(Warp& w, const Instruction& i, Lanes mask) {
  Address to[kLanes] = {}, from[kLanes] = {};
  Lanes reads = 0;
  for_lanes(mask, [&](int lane) {
    const auto l = static_cast<unsigned>(lane);
    to[lane] = static_cast<u32>(address_of(w, i, i.reg[0], l));
    from[lane] = w.lanes<Address>(i.reg[1])[lane] + i.target;
    reads |= Lanes{taken_bytes(w, i, l) != 0} << lane;
  });
  measure(w, i, mask, Space::shared, to, i.bytes, kWrites);
  measure(w, i, reads, Space::global, from, i.bytes, kReads);
}

void run_copy(Warp& w, const Instruction& i, Lanes mask) {
  if (w.block->grid->options.meter != nullptr) measure_copy(w, i, mask);
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    Copy copy;
    copy.to = static_cast<u32>(address_of(w, i, i.reg[0], lane));
    copy.from = w.lanes<Address>(i.reg[1])[lane] + i.target;
    copy.bytes = i.bytes;
    copy.taken = static_cast<std::uint8_t>(taken_bytes(w, i, lane));
    copy.line = i.line;
    copy.known = w.block->clocks.warp(w.index).known[lane];
    // Of a source of no bytes nothing is read, wherever it lies; of a part, the whole is aligned.
    if (copy.taken != 0) {
      const bool ok = copy.from % copy.bytes == 0;
      if (!ok) report(w, i, lane, Kind::misaligned, "the source of a copy of %u bytes", copy.bytes);
      if (!ok || locate(w, i, lane, Space::global, copy.from, copy.taken, kReads) == nullptr) {
        copy.taken = 0;
      }
    }
    if (w.block->grid->options.eager) {
      take(w, copy, copy.data);
      copy.landed = true;
      const std::size_t room = w.block->shared.size();
      if (copy.to <= room && copy.bytes <= room - copy.to) {
        std::memcpy(w.block->shared.data() + copy.to, copy.data, copy.bytes);
      }
    }
    copies_of(w, lane).open.push_back(std::move(copy));
  }
}

void land(Warp& w, unsigned lane, Copy& copy) {
  Instruction at;
  at.line = copy.line;
  std::byte* to = locate_copied(w, at, lane, copy);
  if (to == nullptr) return;
  if (!copy.landed) take(w, copy, copy.data);
  std::memcpy(to, copy.data, copy.bytes);
}

void run_commit(Warp& w, const Instruction&, Lanes mask) {
  for_lanes(mask, [&](int lane) {
    LaneCopies& copies = copies_of(w, static_cast<unsigned>(lane));
    copies.groups.push_back(std::move(copies.open));
    copies.open.clear();
  });
}

void run_wait(Warp& w, const Instruction& i, Lanes mask) {
  if (i.detail != 0) run_commit(w, i, mask);
  land_copies(w, mask, static_cast<std::size_t>(i.imm));
}

}  // namespace

void land_copies(Warp& w, Lanes mask, std::size_t pending) {
  if (w.copies.empty()) return;
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    LaneCopies& copies = w.copies[lane];
    if (copies.groups.size() <= pending) continue;
    const std::size_t landing = copies.groups.size() - pending;
    for (std::size_t group = 0; group < landing; ++group) {
      for (Copy& copy : copies.groups[group]) land(w, lane, copy);
    }
    copies.groups.erase(copies.groups.begin(),
                        copies.groups.begin() + static_cast<std::ptrdiff_t>(landing));
  }
}

void land_all_copies(Warp& w, Lanes mask) {
  if (w.copies.empty()) return;
  run_commit(w, {}, mask);
  land_copies(w, mask, 0);
}

void decode_cp(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.mnemonic == "cp.async.commit_group") {
    i.run = run_commit;
    return;
  }
  if (s.mnemonic == "cp.async.wait_group" || s.mnemonic == "cp.async.wait_all") {
    i.detail = s.operands.empty();
    i.imm = s.operands.empty() ? 0 : static_cast<s64>(s.operands[0].bits);
    i.run = run_wait;
    return;
  }
  const bool known =
      s.words.size() >= 5 && s.words[1] == "async" && (s.words[2] == "ca" || s.words[2] == "cg") &&
      s.words[3].substr(0, 6) == "shared" && s.words[4] == "global" && !s.has("L2::cache_hint");
  if (!known || s.operands.size() < 3 || s.operands.size() > 4) {
    decoder.fail("no such form of an asynchronous copy");
  }
  i.bytes = static_cast<std::uint8_t>(s.operands[2].bits);
  const bool size =
      s.words[2] == "cg" ? i.bytes == 16 : i.bytes == 4 || i.bytes == 8 || i.bytes == 16;
  if (!size) decoder.fail("no such size of an asynchronous copy");
  decoder.address(s.operands[1], i, 1);
  if (!i.wide) decoder.fail("the source's address has 64 bits");
  i.target = static_cast<std::uint32_t>(i.imm);
  decoder.address(s.operands[0], i, 0);
  i.run = run_copy;
  if (s.operands.size() == 3) return;
  const Register extra = decoder.source_of_any_size(s.operands[3], 4);
  i.reg[2] = extra.slot;
  i.detail = static_cast<std::uint8_t>(extra.bytes == kPredicate ? Extra::ignore : Extra::bytes);
}

}  // namespace dsv32::ptxemu
