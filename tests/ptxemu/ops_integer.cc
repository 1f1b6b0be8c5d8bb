// PTX ISA 9.7.1 "Integer Arithmetic Instructions" and 9.7.2 "Extended-Precision Integer Arithmetic
// Instructions": modulo 2^n unless .sat says otherwise; a division by zero gives ones.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

template <class T>
using Wider = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, s32, u32>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, s64, u64>,
                       std::conditional_t<std::is_signed_v<T>, s128, u128>>>;
template <class T>
using Unsigned = std::make_unsigned_t<T>;

template <class T>
T wrapped(u64 value) {
  return static_cast<T>(static_cast<Unsigned<T>>(value));
}

template <class T>
T high(T a, T b) {
  return static_cast<T>(static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b) >> (8 * sizeof(T)));
}

template <class T>
T quotient(T a, T b) {
  if (b == 0) return static_cast<T>(~T{0});
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return wrapped<T>(0 - static_cast<u64>(a));
  return static_cast<T>(a / b);
}

template <class T>
T remainder(T a, T b) {
  if (b == 0) return a;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return static_cast<T>(a % b);
}

template <class T>
void add_type(Rows& rows, const std::string& type) {
  add(rows, "add." + type,
      [](T a, T b) { return wrapped<T>(static_cast<u64>(a) + static_cast<u64>(b)); });
  add(rows, "sub." + type,
      [](T a, T b) { return wrapped<T>(static_cast<u64>(a) - static_cast<u64>(b)); });
  add(rows, "mul.lo." + type,
      [](T a, T b) { return wrapped<T>(static_cast<u64>(a) * static_cast<u64>(b)); });
  add(rows, "mul.hi." + type, [](T a, T b) { return high(a, b); });
  add(rows, "mad.lo." + type, [](T a, T b, T c) {
    return wrapped<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
  });
  add(rows, "mad.hi." + type,
      [](T a, T b, T c) { return wrapped<T>(static_cast<u64>(high(a, b)) + static_cast<u64>(c)); });
  add(rows, "div." + type, [](T a, T b) { return quotient(a, b); });
  add(rows, "rem." + type, [](T a, T b) { return remainder(a, b); });
  add(rows, "min." + type, [](T a, T b) { return a < b ? a : b; });
  add(rows, "max." + type, [](T a, T b) { return a > b ? a : b; });
  add(rows, "sad." + type, [](T a, T b, T c) {
    const u64 difference = a < b ? static_cast<u64>(b) - static_cast<u64>(a)
                                 : static_cast<u64>(a) - static_cast<u64>(b);
    return wrapped<T>(static_cast<u64>(c) + static_cast<Unsigned<T>>(difference));
  });
}

template <class T>
void add_signed(Rows& rows, const std::string& type) {
  add(rows, "neg." + type, [](T a) { return wrapped<T>(0 - static_cast<u64>(a)); });
  add(rows, "abs." + type, [](T a) { return a < 0 ? wrapped<T>(0 - static_cast<u64>(a)) : a; });
}

template <class T>
void add_wide(Rows& rows, const std::string& type) {
  using W = Wider<T>;
  add(rows, "mul.wide." + type,
      [](T a, T b) { return static_cast<W>(static_cast<W>(a) * static_cast<W>(b)); });
  add(rows, "mad.wide." + type, [](T a, T b, W c) {
    return wrapped<W>(static_cast<u64>(static_cast<W>(a) * static_cast<W>(b)) +
                      static_cast<u64>(c));
  });
}

s32 saturated(s64 value) {
  return static_cast<s32>(
      std::clamp<s64>(value, std::numeric_limits<s32>::min(), std::numeric_limits<s32>::max()));
}

// bfe: position and length are the low bytes of b and c; what lies beyond is the field's sign.
template <class T>
T extract(T a, u32 position, u32 length) {
  using U = Unsigned<T>;
  constexpr u32 kBits = 8 * sizeof(T);
  const u32 from = position & 255, count = length & 255;
  const U bits = static_cast<U>(a);
  const bool negative =
      std::is_signed_v<T> && count != 0 && (bits >> std::min(from + count - 1, kBits - 1) & 1) != 0;
  const u32 there = std::min(count, kBits - std::min(from, kBits));
  const U mask = there == kBits ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << there) - 1);
  const U field = from >= kBits ? 0 : static_cast<U>(bits >> from & mask);
  return static_cast<T>(negative ? static_cast<U>(field | ~mask) : field);
}

template <class T>
T insert(T a, T b, u32 position, u32 length) {
  constexpr u32 kBits = 8 * sizeof(T);
  const u32 from = position & 255, count = length & 255;
  if (from >= kBits || count == 0) return b;
  const T ones = count >= kBits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << count) - 1);
  const T mask = static_cast<T>(ones << from);
  return static_cast<T>((b & ~mask) | ((a << from) & mask));
}

template <class T>
u32 topmost(T a) {  // bfind: of a signed number, the topmost bit that is not the sign's
  const Unsigned<T> bits = static_cast<Unsigned<T>>(a < 0 ? ~a : a);
  return bits == 0 ? ~0u : static_cast<u32>(std::bit_width(bits) - 1);
}

template <class T>
void add_bits(Rows& rows, const std::string& type) {
  constexpr u32 kBits = 8 * sizeof(T);
  add(rows, "bfe." + type, [](T a, u32 b, u32 c) { return extract(a, b, c); });
  add(rows, "bfind." + type, [](T a) { return topmost(a); });
  add(rows, "bfind.shiftamt." + type, [](T a) {
    const u32 found = topmost(a);
    return found == ~0u ? found : kBits - 1 - found;
  });
}

template <class T>
T reversed(T a) {
  T result = 0;
  for (unsigned bit = 0; bit < 8 * sizeof(T); ++bit) {
    result = static_cast<T>(result << 1 | (a >> bit & 1));
  }
  return result;
}

template <class T>
void add_untyped(Rows& rows, const std::string& type) {
  add(rows, "bfi." + type, [](T a, T b, u32 c, u32 d) { return insert(a, b, c, d); });
  add(rows, "popc." + type, [](T a) { return static_cast<u32>(std::popcount(a)); });
  add(rows, "clz." + type, [](T a) { return static_cast<u32>(std::countl_zero(a)); });
  add(rows, "brev." + type, [](T a) { return reversed(a); });
}

s32 mul24(s32 a, s32 b, int shift) {
  const s64 product = static_cast<s64>(a << 8 >> 8) * (b << 8 >> 8);
  return static_cast<s32>(product >> shift);
}
u32 mul24(u32 a, u32 b, int shift) {
  return static_cast<u32>(static_cast<u64>(a & 0xffffff) * (b & 0xffffff) >> shift);
}

// The carry out of one part of a long number goes into the next by a bit of each lane.
struct Sum {
  bool subtract, takes_carry, gives_carry;
};

template <class T>
void add_with_carry(Warp& w, const Instruction& i, Lanes mask, Sum sum) {
  using W = Wider<T>;
  T* to = w.lanes<T>(i.reg[0]);
  const T* a = w.lanes<T>(i.reg[1]);
  const T* b = w.lanes<T>(i.reg[2]);
  Lanes& carry = w.bits(kCarry);
  for (; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    const W in = sum.takes_carry ? carry >> lane & 1 : 0;
    const W result = sum.subtract ? static_cast<W>(W{a[lane]} - W{b[lane]} - in)
                                  : static_cast<W>(W{a[lane]} + W{b[lane]} + in);
    to[lane] = static_cast<T>(result);
    if (!sum.gives_carry) continue;
    const Lanes out = static_cast<Lanes>(result >> (8 * sizeof(T)) & 1);
    carry = (carry & ~(1u << lane)) | out << lane;
  }
}

template <class T>
void mad_with_carry(Warp& w, const Instruction& i, Lanes mask, bool upper, Sum sum) {
  using W = Wider<T>;
  T* to = w.lanes<T>(i.reg[0]);
  Lanes& carry = w.bits(kCarry);
  for (; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    const W product = W{w.lanes<T>(i.reg[1])[lane]} * W{w.lanes<T>(i.reg[2])[lane]};
    const T part = static_cast<T>(upper ? product >> (8 * sizeof(T)) : product);
    const W in = sum.takes_carry ? carry >> lane & 1 : 0;
    const W result = static_cast<W>(W{part} + W{w.lanes<T>(i.reg[3])[lane]} + in);
    to[lane] = static_cast<T>(result);
    const Lanes out = static_cast<Lanes>(result >> (8 * sizeof(T)) & 1);
    if (sum.gives_carry) carry = (carry & ~(1u << lane)) | out << lane;
  }
}

template <class T, bool Subtract, bool Takes, bool Gives>
Row carry_row(const std::string& key) {
  return {key,
          [](Warp& w, const Instruction& i, Lanes mask) {
            add_with_carry<T>(w, i, mask, {Subtract, Takes, Gives});
          },
          sizeof(T),
          {sizeof(T), sizeof(T)}};
}

template <class T, bool Upper, bool Takes, bool Gives>
Row carry_mad_row(const std::string& key) {
  return {key,
          [](Warp& w, const Instruction& i, Lanes mask) {
            mad_with_carry<T>(w, i, mask, Upper, {false, Takes, Gives});
          },
          sizeof(T),
          {sizeof(T), sizeof(T), sizeof(T)}};
}

template <class T>
void add_carry_type(Rows& rows, const std::string& type) {
  rows.push_back(carry_row<T, false, false, true>("add.cc." + type));
  rows.push_back(carry_row<T, false, true, false>("addc." + type));
  rows.push_back(carry_row<T, false, true, true>("addc.cc." + type));
  rows.push_back(carry_row<T, true, false, true>("sub.cc." + type));
  rows.push_back(carry_row<T, true, true, false>("subc." + type));
  rows.push_back(carry_row<T, true, true, true>("subc.cc." + type));
  rows.push_back(carry_mad_row<T, false, false, true>("mad.lo.cc." + type));
  rows.push_back(carry_mad_row<T, false, true, false>("madc.lo." + type));
  rows.push_back(carry_mad_row<T, false, true, true>("madc.lo.cc." + type));
  rows.push_back(carry_mad_row<T, true, false, true>("mad.hi.cc." + type));
  rows.push_back(carry_mad_row<T, true, true, false>("madc.hi." + type));
  rows.push_back(carry_mad_row<T, true, true, true>("madc.hi.cc." + type));
}

}  // namespace

void add_integer_rows(Rows& rows) {
  add_type<u16>(rows, "u16");
  add_type<s16>(rows, "s16");
  add_type<u32>(rows, "u32");
  add_type<s32>(rows, "s32");
  add_type<u64>(rows, "u64");
  add_type<s64>(rows, "s64");
  add_signed<s16>(rows, "s16");
  add_signed<s32>(rows, "s32");
  add_signed<s64>(rows, "s64");
  add_wide<u16>(rows, "u16");
  add_wide<s16>(rows, "s16");
  add_wide<u32>(rows, "u32");
  add_wide<s32>(rows, "s32");
  add_bits<u32>(rows, "u32");
  add_bits<s32>(rows, "s32");
  add_bits<u64>(rows, "u64");
  add_bits<s64>(rows, "s64");
  add_untyped<u32>(rows, "b32");
  add_untyped<u64>(rows, "b64");
  add(rows, "add.sat.s32", [](s32 a, s32 b) { return saturated(s64{a} + b); });
  add(rows, "sub.sat.s32", [](s32 a, s32 b) { return saturated(s64{a} - b); });
  add(rows, "mad.hi.sat.s32", [](s32 a, s32 b, s32 c) { return saturated(s64{high(a, b)} + c); });
  add(rows, "mul24.lo.s32", [](s32 a, s32 b) { return mul24(a, b, 0); });
  add(rows, "mul24.hi.s32", [](s32 a, s32 b) { return mul24(a, b, 16); });
  add(rows, "mul24.lo.u32", [](u32 a, u32 b) { return mul24(a, b, 0); });
  add(rows, "mul24.hi.u32", [](u32 a, u32 b) { return mul24(a, b, 16); });
  add(rows, "mad24.lo.s32", [](s32 a, s32 b, s32 c) {
    return wrapped<s32>(static_cast<u64>(mul24(a, b, 0)) + static_cast<u64>(c));
  });
  add(rows, "mad24.lo.u32", [](u32 a, u32 b, u32 c) { return mul24(a, b, 0) + c; });
  add(rows, "szext.wrap.u32", [](u32 a, u32 b) { return extract(a, 0, b & 31); });
  add(rows, "szext.wrap.s32", [](s32 a, u32 b) { return extract(a, 0, b & 31); });
  add(rows, "szext.clamp.u32", [](u32 a, u32 b) { return extract(a, 0, std::min(b, 32u)); });
  add(rows, "szext.clamp.s32", [](s32 a, u32 b) { return extract(a, 0, std::min(b, 32u)); });
  add(rows, "bmsk.clamp.b32",
      [](u32 a, u32 b) { return a > 31 ? 0u : (b > 31 ? ~0u : (1u << b) - 1) << a; });
  add(rows, "bmsk.wrap.b32", [](u32 a, u32 b) { return ((1u << (b & 31)) - 1) << (a & 31); });
}

void add_carry_rows(Rows& rows) {
  add_carry_type<u32>(rows, "u32");
  add_carry_type<u32>(rows, "s32");
  add_carry_type<u64>(rows, "u64");
  add_carry_type<u64>(rows, "s64");
}

}  // namespace dsv32::ptxemu
