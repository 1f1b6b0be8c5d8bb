// PTX ISA 9.7.8 "Logic and Shift Instructions", prmt of 9.7.9, and the sums of products and of
// differences that are "Integer Arithmetic" and "Video Instructions".
#include <algorithm>
#include <type_traits>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

template <class T>
void add_bitwise(Rows& rows, const std::string& type) {
  add(rows, "and." + type, [](T a, T b) { return static_cast<T>(a & b); });
  add(rows, "or." + type, [](T a, T b) { return static_cast<T>(a | b); });
  add(rows, "xor." + type, [](T a, T b) { return static_cast<T>(a ^ b); });
  add(rows, "not." + type, [](T a) { return static_cast<T>(~a); });
  add(rows, "cnot." + type, [](T a) { return static_cast<T>(a == 0 ? 1 : 0); });
}

// Distances beyond the register count as its width.
template <class T>
T left(T a, u32 by) {
  return by >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << by);
}
template <class T>
T right(T a, u32 by) {
  constexpr u32 kBits = 8 * sizeof(T);
  if (by >= kBits) return std::is_signed_v<T> ? static_cast<T>(a >> (kBits - 1)) : T{0};
  return static_cast<T>(a >> by);
}

template <class T>
void add_shifts(Rows& rows, const std::string& bits) {
  using S = std::make_signed_t<T>;
  add(rows, "shl.b" + bits, [](T a, u32 b) { return left(a, b); });
  add(rows, "shr.b" + bits, [](T a, u32 b) { return right(a, b); });
  add(rows, "shr.u" + bits, [](T a, u32 b) { return right(a, b); });
  add(rows, "shr.s" + bits, [](S a, u32 b) { return right(a, b); });
}

u32 funnel_left(u32 low, u32 high, u32 by) {
  return static_cast<u32>((u64{high} << 32 | low) << by >> 32);
}
u32 funnel_right(u32 low, u32 high, u32 by) {
  return static_cast<u32>((u64{high} << 32 | low) >> by);
}

// A row whose operands are whole predicates.
template <class F>
void add_predicates(Rows& rows, const std::string& key, unsigned sources, F) {
  rows.push_back({key,
                  [](Warp& w, const Instruction& i, Lanes mask) {
                    const Lanes b = i.reg[2] == kNone ? 0 : w.bits(i.reg[2]);
                    const Lanes result = F{}(w.bits(i.reg[1]), b);
                    Lanes& to = w.bits(i.reg[0]);
                    to = (to & ~mask) | (result & mask);
                  },
                  kPredicate, std::vector<unsigned>(sources, kPredicate)});
}

// prmt: each nibble of the selector names one of eight bytes, or its sign.
u32 permuted(u32 a, u32 b, u32 selector) {
  const u64 bytes = u64{b} << 32 | a;
  u32 result = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 nibble = selector >> (4 * i) & 15;
    u32 byte = static_cast<u32>(bytes >> (8 * (nibble & 7))) & 255;
    if ((nibble & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

// The modes name the bytes by the low bits of c (PTX ISA, prmt, its table).
u32 prmt_selector(u32 mode, u32 c) {
  static constexpr u16 kTable[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543},  // f4e
      {0x5670, 0x6701, 0x7012, 0x0123},  // b4e
      {0x0000, 0x1111, 0x2222, 0x3333},  // rc8
      {0x3210, 0x3211, 0x3222, 0x3333},  // ecl
      {0x0000, 0x1110, 0x2210, 0x3210},  // ecr
      {0x1010, 0x3232, 0x1010, 0x3232},  // rc16
  };
  return kTable[mode][c & 3];
}

void run_prmt_mode(Warp& w, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int lane) {
    const u32 selector = prmt_selector(i.detail, w.lanes<u32>(i.reg[3])[lane]);
    w.lanes<u32>(i.reg[0])[lane] =
        permuted(w.lanes<u32>(i.reg[1])[lane], w.lanes<u32>(i.reg[2])[lane], selector);
  });
}

// lop3's table, one bit of its index at a time: blend by a, then b, then c.
void run_lop3(Warp& w, const Instruction& i, Lanes mask) {
  u32* to = w.lanes<u32>(i.reg[0]);
  const u32* from_a = w.lanes<u32>(i.reg[1]);
  const u32* from_b = w.lanes<u32>(i.reg[2]);
  const u32* from_c = w.lanes<u32>(i.reg[3]);
  u32 ones[8];
  for (int k = 0; k < 8; ++k) ones[k] = i.detail >> k & 1 ? ~0u : 0u;
  for_lanes(mask, [&](int lane) {
    const u32 a = from_a[lane], b = from_b[lane], c = from_c[lane];
    const auto pick = [c](u32 without, u32 with) { return (without & ~c) | (with & c); };
    const u32 neither = pick(ones[0], ones[1]), of_b = pick(ones[2], ones[3]);
    const u32 of_a = pick(ones[4], ones[5]), of_both = pick(ones[6], ones[7]);
    to[lane] = (~a & ((~b & neither) | (b & of_b))) | (a & ((~b & of_a) | (b & of_both)));
  });
}

template <class A, class B>
s32 dot4(u32 a, u32 b, s32 c) {
  s32 sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<A>(a >> (8 * i)) * static_cast<B>(b >> (8 * i));
  return static_cast<s32>(static_cast<u32>(sum) + static_cast<u32>(c));
}

template <class A, class B>
s32 dot2(u32 a, u32 b, s32 c, int first) {  // halves of a, bytes of b
  u32 sum = static_cast<u32>(c);
  for (int i = 0; i < 2; ++i) {
    sum += static_cast<u32>(s64{static_cast<A>(a >> (16 * i))} *
                            static_cast<B>(b >> (8 * (first + i))));
  }
  return static_cast<s32>(sum);
}

template <class A, class B, class AHalf>
void add_dots(Rows& rows, const std::string& types) {
  add(rows, "dp4a." + types, [](u32 a, u32 b, s32 c) { return dot4<A, B>(a, b, c); });
  add(rows, "dp2a.lo." + types, [](u32 a, u32 b, s32 c) { return dot2<AHalf, B>(a, b, c, 0); });
  add(rows, "dp2a.hi." + types, [](u32 a, u32 b, s32 c) { return dot2<AHalf, B>(a, b, c, 2); });
}

// The SIMD video instructions as nvcc writes them for its byte-wise intrinsics: part by part.
template <class T, class F>
u32 by_parts(u32 a, u32 b, F f) {
  u32 result = 0;
  for (unsigned at = 0; at < 32; at += 8 * sizeof(T)) {
    const T part = static_cast<T>(f(static_cast<T>(a >> at), static_cast<T>(b >> at)));
    result |= u32{static_cast<std::make_unsigned_t<T>>(part)} << at;
  }
  return result;
}

template <class T>
void add_parts(Rows& rows, const std::string& parts, const std::string& type) {
  const std::string end = parts + "." + type + "." + type + "." + type;
  add(rows, "vadd" + end,
      [](u32 a, u32 b, u32) { return by_parts<T>(a, b, [](T x, T y) { return x + y; }); });
  add(rows, "vsub" + end,
      [](u32 a, u32 b, u32) { return by_parts<T>(a, b, [](T x, T y) { return x - y; }); });
  add(rows, "vabsdiff" + end, [](u32 a, u32 b, u32) {
    return by_parts<T>(a, b, [](T x, T y) { return x < y ? y - x : x - y; });
  });
  add(rows, "vmin" + end,
      [](u32 a, u32 b, u32) { return by_parts<T>(a, b, [](T x, T y) { return std::min(x, y); }); });
  add(rows, "vmax" + end,
      [](u32 a, u32 b, u32) { return by_parts<T>(a, b, [](T x, T y) { return std::max(x, y); }); });
}

}  // namespace

void add_logic_rows(Rows& rows) {
  add_bitwise<u16>(rows, "b16");
  add_bitwise<u32>(rows, "b32");
  add_bitwise<u64>(rows, "b64");
  add_shifts<u16>(rows, "16");
  add_shifts<u32>(rows, "32");
  add_shifts<u64>(rows, "64");
  add_predicates(rows, "and.pred", 2, [](Lanes a, Lanes b) { return a & b; });
  add_predicates(rows, "or.pred", 2, [](Lanes a, Lanes b) { return a | b; });
  add_predicates(rows, "xor.pred", 2, [](Lanes a, Lanes b) { return a ^ b; });
  add_predicates(rows, "not.pred", 1, [](Lanes a, Lanes) { return ~a; });
  add(rows, "shf.l.wrap.b32", [](u32 a, u32 b, u32 c) { return funnel_left(a, b, c & 31); });
  add(rows, "shf.r.wrap.b32", [](u32 a, u32 b, u32 c) { return funnel_right(a, b, c & 31); });
  add(rows, "shf.l.clamp.b32",
      [](u32 a, u32 b, u32 c) { return c > 31 ? a : funnel_left(a, b, c); });
  add(rows, "shf.r.clamp.b32",
      [](u32 a, u32 b, u32 c) { return c > 31 ? b : funnel_right(a, b, c); });
  add(rows, "prmt.b32", [](u32 a, u32 b, u32 c) { return permuted(a, b, c); });
}

void add_video_rows(Rows& rows) {
  add_dots<s8, s8, s16>(rows, "s32.s32");
  add_dots<s8, u8, s16>(rows, "s32.u32");
  add_dots<u8, s8, u16>(rows, "u32.s32");
  add_dots<u8, u8, u16>(rows, "u32.u32");
  add_parts<s8>(rows, "4", "s32");
  add_parts<u8>(rows, "4", "u32");
  add_parts<s16>(rows, "2", "s32");
  add_parts<u16>(rows, "2", "u32");
}

void decode_lop3(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.mnemonic != "lop3.b32" || s.operands.size() != 5) decoder.fail("no such form of lop3");
  const Operand& table = s.operands[4];
  if (table.type != Operand::Type::number) decoder.fail("lop3 without its table");
  for (std::size_t k = 1; k < 4; ++k) i.reg[k] = decoder.source(s.operands[k], 4);
  i.reg[0] = decoder.target(s.operands[0], 4);
  i.detail = static_cast<std::uint8_t>(table.bits);
  i.run = run_lop3;
}

void decode_prmt(Decoder& decoder, const Statement& s, Instruction& i) {
  decode_row(
      decoder,
      s.words.size() > 2
          ? Statement{s.line, s.guard, s.guard_negated, "prmt.b32", {"prmt", "b32"}, s.operands}
          : s,
      i);
  if (s.words.size() == 2) return;
  static constexpr std::string_view kModes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  const auto* mode = std::find(std::begin(kModes), std::end(kModes), s.words.back());
  if (mode == std::end(kModes)) decoder.fail("no such mode of prmt");
  i.detail = static_cast<std::uint8_t>(mode - std::begin(kModes));
  i.run = run_prmt_mode;
}

}  // namespace dsv32::ptxemu
