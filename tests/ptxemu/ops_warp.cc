// PTX ISA 9.7.9 shfl.sync and 9.7.13 vote.sync, match.sync, redux.sync, elect.sync, activemask,
// bar.warp.sync. They come with the lanes of their mask, or with what is there of them after a
// finding.
#include <algorithm>
#include <bit>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

enum class Shuffle : std::uint8_t { idx, up, down, bfly };

struct From {
  int lane = 0;
  bool inside = false;
};

// Lanes come in segments of equal size; `c` has the segment's mask and the last lane in it.
From shuffle_from(Shuffle how, int lane, u32 b, u32 c) {
  const int by = static_cast<int>(b & 31), segment = static_cast<int>(c >> 8 & 31);
  const int limit = (lane & segment) | static_cast<int>(c & 31 & ~static_cast<u32>(segment));
  int from = lane;
  switch (how) {
    case Shuffle::idx:
      from = (lane & segment) | (by & ~segment);
      break;
    case Shuffle::up:
      from = lane - by;
      break;
    case Shuffle::down:
      from = lane + by;
      break;
    case Shuffle::bfly:
      from = lane ^ by;
      break;
  }
  const bool inside = how == Shuffle::up ? from >= limit : from <= limit;
  return {inside ? from : lane, inside};
}

// reg: 0 d, 1 a, 2 b, 3 c, 4 p.
void run_shfl(Warp& w, const Instruction& i, Lanes mask) {
  u32 values[kLanes];
  std::copy_n(w.lanes<u32>(i.reg[1]), kLanes, values);
  const u32* by = w.lanes<u32>(i.reg[2]);
  const u32* c = w.lanes<u32>(i.reg[3]);
  u32* to = i.reg[0] == kNone ? nullptr : w.lanes<u32>(i.reg[0]);
  Lanes inside = 0;
  for_lanes(mask, [&](int lane) {
    const From from = shuffle_from(static_cast<Shuffle>(i.detail), lane, by[lane], c[lane]);
    const bool there = (mask >> from.lane & 1) != 0;
    if (!there) {
      report(w, i, static_cast<unsigned>(lane), Kind::inactive_source,
             "lane %d takes the value of lane %d, which is not there", lane, from.lane);
    }
    if (to != nullptr) to[lane] = there ? values[from.lane] : ~0u;
    inside |= Lanes{from.inside} << lane;
  });
  if (i.reg[4] == kNone) return;
  Lanes& p = w.bits(i.reg[4]);
  p = (p & ~mask) | (inside & mask);
}

enum class Vote : std::uint8_t { ballot, any, all, uni };

void run_vote(Warp& w, const Instruction& i, Lanes mask) {
  Lanes votes = w.bits(i.reg[1]);
  if (i.detail2 != 0) votes = ~votes;
  votes &= mask;
  if (static_cast<Vote>(i.detail) == Vote::ballot) {
    u32* to = w.lanes<u32>(i.reg[0]);
    return for_lanes(mask, [&](int lane) { to[lane] = votes; });
  }
  const bool all = votes == mask, any = votes != 0;
  const bool result = static_cast<Vote>(i.detail) == Vote::any   ? any
                      : static_cast<Vote>(i.detail) == Vote::all ? all
                                                                 : all || !any;
  Lanes& to = w.bits(i.reg[0]);
  to = (to & ~mask) | (result ? mask : 0);
}

// reg: 0 d, 1 a, 2 p of match.all.
template <class T>
void run_match(Warp& w, const Instruction& i, Lanes mask) {
  T values[kLanes];
  std::copy_n(w.lanes<T>(i.reg[1]), kLanes, values);
  Lanes same[kLanes] = {};
  bool all = true;
  for_lanes(mask, [&](int lane) {
    for (int other = 0; other < kLanes; ++other) {
      same[lane] |= Lanes{(mask >> other & 1) != 0 && values[other] == values[lane]} << other;
    }
    all = all && same[lane] == mask;
  });
  const bool of_all = i.detail != 0;
  if (i.reg[0] != kNone) {
    u32* to = w.lanes<u32>(i.reg[0]);
    for_lanes(mask, [&](int lane) { to[lane] = of_all ? (all ? mask : 0) : same[lane]; });
  }
  if (i.reg[2] == kNone) return;
  Lanes& p = w.bits(i.reg[2]);
  p = (p & ~mask) | (all ? mask : 0);
}

template <class T, class F>
void run_redux(Warp& w, const Instruction& i, Lanes mask) {
  const T* from = w.lanes<T>(i.reg[1]);
  const int first = std::countr_zero(mask);
  T result = from[first];
  for_lanes(mask & (mask - 1), [&](int lane) { result = F{}(result, from[lane]); });
  T* to = w.lanes<T>(i.reg[0]);
  for_lanes(mask, [&](int lane) { to[lane] = result; });
}

template <class T, class F>
Execute redux(F) {
  return run_redux<T, F>;
}

Execute redux_of(const std::string& key) {
  if (key == "add.u32" || key == "add.s32") return redux<u32>([](u32 a, u32 b) { return a + b; });
  if (key == "min.u32") return redux<u32>([](u32 a, u32 b) { return std::min(a, b); });
  if (key == "max.u32") return redux<u32>([](u32 a, u32 b) { return std::max(a, b); });
  if (key == "min.s32") return redux<s32>([](s32 a, s32 b) { return std::min(a, b); });
  if (key == "max.s32") return redux<s32>([](s32 a, s32 b) { return std::max(a, b); });
  if (key == "and.b32") return redux<u32>([](u32 a, u32 b) { return a & b; });
  if (key == "or.b32") return redux<u32>([](u32 a, u32 b) { return a | b; });
  if (key == "xor.b32") return redux<u32>([](u32 a, u32 b) { return a ^ b; });
  return nullptr;
}

// The lowest lane is elected: any would do, and all kernels that rely on one are wrong.
void run_elect(Warp& w, const Instruction& i, Lanes mask) {
  const Lanes elected = mask & (0 - mask);
  if (i.reg[0] != kNone) {
    u32* to = w.lanes<u32>(i.reg[0]);
    for_lanes(mask, [&](int lane) { to[lane] = static_cast<u32>(std::countr_zero(mask)); });
  }
  Lanes& p = w.bits(i.reg[1]);
  p = (p & ~mask) | elected;
}

void run_activemask(Warp& w, const Instruction& i, Lanes mask) {
  u32* to = w.lanes<u32>(i.reg[0]);
  for_lanes(mask, [&](int lane) { to[lane] = mask; });
}

void need(Decoder& decoder, const Statement& s, std::size_t operands) {
  if (s.operands.size() == operands) return;
  decoder.fail(std::to_string(operands) + " operands are needed");
}

// "d|p"; without the second, kNone.
void pair_of(Decoder& decoder, const Operand& operand, std::uint32_t& d, std::uint32_t& p) {
  const bool pair = operand.type == Operand::Type::pair;
  d = decoder.target(pair ? operand.parts[0] : operand, 4);
  if (pair) p = decoder.target(operand.parts[1], kPredicate);
}

}  // namespace

void decode_shfl(Decoder& decoder, const Statement& s, Instruction& i) {
  static constexpr std::string_view kModes[] = {"idx", "up", "down", "bfly"};
  need(decoder, s, 5);
  if (s.words.size() != 4 || !s.has("sync") || s.type() != "b32") {
    decoder.fail("no such form of shfl");
  }
  const auto* mode = std::find(std::begin(kModes), std::end(kModes), s.words[2]);
  if (mode == std::end(kModes)) decoder.fail("no such form of shfl");
  i.detail = static_cast<std::uint8_t>(mode - std::begin(kModes));
  for (std::size_t k = 1; k < 4; ++k) i.reg[k] = decoder.source(s.operands[k], 4);
  decoder.members(s.operands[4], i);
  pair_of(decoder, s.operands[0], i.reg[0], i.reg[4]);
  i.flow = Flow::sync;
  i.run = run_shfl;
}

void decode_vote(Decoder& decoder, const Statement& s, Instruction& i) {
  static constexpr std::string_view kModes[] = {"ballot", "any", "all", "uni"};
  need(decoder, s, 3);
  if (s.words.size() != 4) decoder.fail("no such form of vote");
  const auto* mode = std::find(std::begin(kModes), std::end(kModes), s.words[2]);
  if (!s.has("sync") || mode == std::end(kModes)) decoder.fail("no such form of vote");
  i.detail = static_cast<std::uint8_t>(mode - std::begin(kModes));
  i.detail2 = s.operands[1].negated;
  i.reg[1] = decoder.source(s.operands[1], kPredicate);
  decoder.members(s.operands[2], i);
  i.reg[0] = decoder.target(s.operands[0], i.detail == 0 ? 4 : kPredicate);
  i.flow = Flow::sync;
  i.run = run_vote;
}

void decode_match(Decoder& decoder, const Statement& s, Instruction& i) {
  need(decoder, s, 3);
  const bool all = s.has("all");
  const unsigned bytes = type_bytes(s.type());
  if (!s.has("sync") || (!all && !s.has("any")) || (bytes != 4 && bytes != 8)) {
    decoder.fail("no such form of match");
  }
  i.detail = all;
  i.reg[1] = decoder.source(s.operands[1], bytes);
  decoder.members(s.operands[2], i);
  pair_of(decoder, s.operands[0], i.reg[0], i.reg[2]);
  i.flow = Flow::sync;
  i.run = bytes == 4 ? run_match<u32> : run_match<u64>;
}

void decode_redux(Decoder& decoder, const Statement& s, Instruction& i) {
  need(decoder, s, 3);
  if (s.words.size() != 4 || !s.has("sync")) decoder.fail("no such form of redux");
  i.run = redux_of(std::string(s.words[2]) + "." + std::string(s.words[3]));
  if (i.run == nullptr) decoder.fail("no such form of redux");
  i.reg[1] = decoder.source(s.operands[1], 4);
  decoder.members(s.operands[2], i);
  i.reg[0] = decoder.target(s.operands[0], 4);
  i.flow = Flow::sync;
}

void decode_elect(Decoder& decoder, const Statement& s, Instruction& i) {
  need(decoder, s, 2);
  decoder.members(s.operands[1], i);
  pair_of(decoder, s.operands[0], i.reg[0], i.reg[1]);
  if (i.reg[1] == kNone) decoder.fail("elect needs a predicate");
  i.flow = Flow::sync;
  i.run = run_elect;
}

void decode_activemask(Decoder& decoder, const Statement& s, Instruction& i) {
  need(decoder, s, 1);
  i.reg[0] = decoder.target(s.operands[0], 4);
  i.run = run_activemask;
}

}  // namespace dsv32::ptxemu
