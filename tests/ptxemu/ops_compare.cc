// PTX ISA 9.7.6 "Comparison and Selection Instructions" and 9.7.7 "Half Precision Comparison
// Instructions". Predicates are a bit a lane, so a comparison gives 32 of them at once.
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/numbers.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

template <class T>
T as_is(T x) {
  return x;
}
float flushed(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}
double of_f16(u16 x) { return decode(x, kF16); }
double of_bf16(u16 x) { return from_bf16(x); }

template <class T, auto Convert, class F>
Lanes compare_lanes(Warp& w, const Instruction& i) {
  const T* a = w.lanes<T>(i.reg[1]);
  const T* b = w.lanes<T>(i.reg[2]);
  Lanes result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    result |= Lanes{F{}(Convert(a[lane]), Convert(b[lane]))} << lane;
  }
  return result;
}

struct Comparison {
  Compare compare = nullptr;
  unsigned bytes = 0;
};
using Comparisons = std::unordered_map<std::string, Comparison>;  // "lt.s32"

template <class T, auto Convert, class F>
void put(Comparisons& all, const std::string& name, const std::string& type, F) {
  all[name + "." + type] = {compare_lanes<T, Convert, F>, sizeof(T)};
}

template <class T, auto Convert>
void put_ordered(Comparisons& all, const std::string& type) {
  using V = decltype(Convert(T{}));
  put<T, Convert>(all, "eq", type, [](V a, V b) { return a == b; });
  put<T, Convert>(all, "ne", type, [](V a, V b) { return a != b && a == a && b == b; });
  put<T, Convert>(all, "lt", type, [](V a, V b) { return a < b; });
  put<T, Convert>(all, "le", type, [](V a, V b) { return a <= b; });
  put<T, Convert>(all, "gt", type, [](V a, V b) { return a > b; });
  put<T, Convert>(all, "ge", type, [](V a, V b) { return a >= b; });
}

// True also when one of the two is no number.
template <class T, auto Convert>
void put_unordered(Comparisons& all, const std::string& type) {
  using V = decltype(Convert(T{}));
  put<T, Convert>(all, "equ", type, [](V a, V b) { return !(a < b) && !(a > b); });
  put<T, Convert>(all, "neu", type, [](V a, V b) { return !(a == b); });
  put<T, Convert>(all, "ltu", type, [](V a, V b) { return !(a >= b); });
  put<T, Convert>(all, "leu", type, [](V a, V b) { return !(a > b); });
  put<T, Convert>(all, "gtu", type, [](V a, V b) { return !(a <= b); });
  put<T, Convert>(all, "geu", type, [](V a, V b) { return !(a < b); });
  put<T, Convert>(all, "num", type, [](V a, V b) { return a == a && b == b; });
  put<T, Convert>(all, "nan", type, [](V a, V b) { return a != a || b != b; });
}

template <class T>
void put_unsigned(Comparisons& all, const std::string& type) {
  put_ordered<T, as_is<T>>(all, type);
  put<T, as_is<T>>(all, "lo", type, [](T a, T b) { return a < b; });
  put<T, as_is<T>>(all, "ls", type, [](T a, T b) { return a <= b; });
  put<T, as_is<T>>(all, "hi", type, [](T a, T b) { return a > b; });
  put<T, as_is<T>>(all, "hs", type, [](T a, T b) { return a >= b; });
}

template <class T, auto Convert>
void put_float(Comparisons& all, const std::string& type) {
  put_ordered<T, Convert>(all, type);
  put_unordered<T, Convert>(all, type);
}

const Comparisons& comparisons() {
  static const Comparisons kAll = [] {
    Comparisons all;
    put_ordered<s16, as_is<s16>>(all, "s16");
    put_ordered<s32, as_is<s32>>(all, "s32");
    put_ordered<s64, as_is<s64>>(all, "s64");
    put_unsigned<u16>(all, "u16");
    put_unsigned<u32>(all, "u32");
    put_unsigned<u64>(all, "u64");
    put_unsigned<u16>(all, "b16");
    put_unsigned<u32>(all, "b32");
    put_unsigned<u64>(all, "b64");
    put_float<float, as_is<float>>(all, "f32");
    put_float<float, flushed>(all, "ftz.f32");
    put_float<double, as_is<double>>(all, "f64");
    put_float<u16, of_f16>(all, "f16");
    put_float<u16, of_bf16>(all, "bf16");
    return all;
  }();
  return kAll;
}

enum Combine : std::uint8_t { kAlone, kAnd, kOr, kXor };

Lanes combined(std::uint8_t how, Lanes a, Lanes b) {
  switch (how) {
    case kAnd:
      return a & b;
    case kOr:
      return a | b;
    case kXor:
      return a ^ b;
    default:
      return a;
  }
}

// reg: 0 p, 1 a, 2 b, 3 q, 4 c; detail: Combine; detail2: c is negated.
void run_setp(Warp& w, const Instruction& i, Lanes mask) {
  const Lanes found = i.compare(w, i);
  Lanes c = i.reg[4] == kNone ? 0 : w.bits(i.reg[4]);
  if (i.detail2 != 0) c = ~c;
  const auto put = [&](std::uint32_t slot, Lanes value) {
    if (slot == kNone) return;
    Lanes& to = w.bits(slot);
    to = (to & ~mask) | (value & mask);
  };
  put(i.reg[0], combined(i.detail, found, c));
  put(i.reg[3], combined(i.detail, ~found, c));
}

// imm: what "true" is in the result's type.
template <class T>
void run_set(Warp& w, const Instruction& i, Lanes mask) {
  Lanes c = i.reg[4] == kNone ? 0 : w.bits(i.reg[4]);
  if (i.detail2 != 0) c = ~c;
  const Lanes found = combined(i.detail, i.compare(w, i), c);
  T* to = w.lanes<T>(i.reg[0]);
  for_lanes(mask, [&](int lane) { to[lane] = found >> lane & 1 ? static_cast<T>(i.imm) : T{0}; });
}

// Two halves, compared apart; imm: what "true" is in one of them.
template <auto Convert, class F>
void run_set_pair(Warp& w, const Instruction& i, Lanes mask) {
  const u32* a = w.lanes<u32>(i.reg[1]);
  const u32* b = w.lanes<u32>(i.reg[2]);
  u32* to = w.lanes<u32>(i.reg[0]);
  const auto is = static_cast<u32>(i.imm);
  for_lanes(mask, [&](int lane) {
    const auto half = [&](int shift) {
      const bool holds = F{}(Convert(static_cast<u16>(a[lane] >> shift)),
                             Convert(static_cast<u16>(b[lane] >> shift)));
      return holds ? is << shift : 0;
    };
    to[lane] = half(0) | half(16);
  });
}

template <auto Convert>
Execute set_pair(std::string_view name) {
  const auto of = [](auto f) { return run_set_pair<Convert, decltype(f)>; };
  if (name == "eq") return of([](double a, double b) { return a == b; });
  if (name == "ne") return of([](double a, double b) { return a < b || a > b; });
  if (name == "lt") return of([](double a, double b) { return a < b; });
  if (name == "le") return of([](double a, double b) { return a <= b; });
  if (name == "gt") return of([](double a, double b) { return a > b; });
  if (name == "ge") return of([](double a, double b) { return a >= b; });
  if (name == "equ") return of([](double a, double b) { return !(a < b) && !(a > b); });
  if (name == "neu") return of([](double a, double b) { return !(a == b); });
  if (name == "ltu") return of([](double a, double b) { return !(a >= b); });
  if (name == "leu") return of([](double a, double b) { return !(a > b); });
  if (name == "gtu") return of([](double a, double b) { return !(a <= b); });
  if (name == "geu") return of([](double a, double b) { return !(a < b); });
  if (name == "num") return of([](double a, double b) { return a == a && b == b; });
  if (name == "nan") return of([](double a, double b) { return a != a || b != b; });
  return nullptr;
}

void decode_set_pair(Decoder& decoder, const Statement& s, Instruction& i) {
  constexpr s64 kOneF16 = 0x3c00, kOneBf16 = 0x3f80, kOnes = 0xffff;
  const std::string_view type = s.words[2];
  i.imm = type == "f16x2" ? kOneF16 : type == "bf16x2" ? kOneBf16 : kOnes;
  i.run = s.type() == "f16x2" ? set_pair<of_f16>(s.words[1]) : set_pair<of_bf16>(s.words[1]);
  if (i.run == nullptr || s.words.size() != 4 || s.operands.size() != 3 || type_bytes(type) != 4) {
    decoder.fail("no such form of set");
  }
  i.reg[1] = decoder.source(s.operands[1], 4);
  i.reg[2] = decoder.source(s.operands[2], 4);
  i.reg[0] = decoder.target(s.operands[0], 4);
}

// Words between "setp" and the types: comparison, perhaps a combination, perhaps ftz.
Comparison compared(Decoder& decoder, const Statement& s, Instruction& i) {
  std::string key(s.words[1]);
  if (s.has("ftz")) key += ".ftz";
  key += '.';
  key += s.type();
  const auto found = comparisons().find(key);
  if (found == comparisons().end()) decoder.fail("no such comparison");
  i.detail = s.has("and") ? kAnd : s.has("or") ? kOr : s.has("xor") ? kXor : kAlone;
  const std::size_t operands = i.detail == kAlone ? 3 : 4;
  if (s.operands.size() != operands) {
    decoder.fail(std::to_string(operands) + " operands are needed");
  }
  i.compare = found->second.compare;
  for (std::size_t k = 1; k < 3; ++k) {
    i.reg[k] = decoder.source(s.operands[k], found->second.bytes);
  }
  if (i.detail != kAlone) {
    i.reg[4] = decoder.source(s.operands[3], kPredicate);
    i.detail2 = s.operands[3].negated;
  }
  return found->second;
}

template <class T>
void run_selp(Warp& w, const Instruction& i, Lanes mask) {
  T* to = w.lanes<T>(i.reg[0]);
  const T* a = w.lanes<T>(i.reg[1]);
  const T* b = w.lanes<T>(i.reg[2]);
  const Lanes which = w.bits(i.reg[3]);
  for_lanes(mask, [&](int lane) { to[lane] = which >> lane & 1 ? a[lane] : b[lane]; });
}

template <class T, class C>
void run_slct(Warp& w, const Instruction& i, Lanes mask) {
  T* to = w.lanes<T>(i.reg[0]);
  const T* a = w.lanes<T>(i.reg[1]);
  const T* b = w.lanes<T>(i.reg[2]);
  const C* c = w.lanes<C>(i.reg[3]);
  for_lanes(mask, [&](int lane) { to[lane] = c[lane] >= 0 ? a[lane] : b[lane]; });
}

template <class T>
void run_testp(Warp& w, const Instruction& i, Lanes mask) {
  const T* a = w.lanes<T>(i.reg[1]);
  Lanes result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool is[] = {std::isfinite(a[lane]), std::isinf(a[lane]),
                       !std::isnan(a[lane]),   std::isnan(a[lane]),
                       std::isnormal(a[lane]), std::fpclassify(a[lane]) == FP_SUBNORMAL};
    result |= Lanes{is[i.detail]} << lane;
  }
  Lanes& to = w.bits(i.reg[0]);
  to = (to & ~mask) | (result & mask);
}

}  // namespace

void decode_setp(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() < 3 || s.operands.empty()) decoder.fail("no such form of setp");
  compared(decoder, s, i);
  const Operand& first = s.operands[0];
  const bool pair = first.type == Operand::Type::pair;
  i.reg[0] = decoder.target(pair ? first.parts[0] : first, kPredicate);
  if (pair) i.reg[3] = decoder.target(first.parts[1], kPredicate);
  i.run = run_setp;
}

void decode_set(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() < 4) decoder.fail("no such form of set");
  if (s.type() == "f16x2" || s.type() == "bf16x2") return decode_set_pair(decoder, s, i);
  compared(decoder, s, i);
  const std::string_view type = s.words[s.words.size() - 2];
  constexpr s64 kOneF32 = 0x3f800000, kOneF16 = 0x3c00, kOneBf16 = 0x3f80;
  i.imm = type == "f32" ? kOneF32 : type == "f16" ? kOneF16 : type == "bf16" ? kOneBf16 : -1;
  const unsigned bytes = type_bytes(type);
  if (bytes != 2 && bytes != 4) decoder.fail("no such result of set");
  i.reg[0] = decoder.target(s.operands[0], bytes);
  i.run = bytes == 2 ? run_set<u16> : run_set<u32>;
}

void decode_selp(Decoder& decoder, const Statement& s, Instruction& i) {
  const unsigned bytes = type_bytes(s.type());
  if (s.words.size() != 2 || s.operands.size() != 4 || bytes < 2 || bytes > 8) {
    decoder.fail("no such form of selp");
  }
  i.reg[1] = decoder.source(s.operands[1], bytes);
  i.reg[2] = decoder.source(s.operands[2], bytes);
  if (s.operands[3].negated) std::swap(i.reg[1], i.reg[2]);
  i.reg[3] = decoder.source(s.operands[3], kPredicate);
  i.reg[0] = decoder.target(s.operands[0], bytes);
  i.run = bytes == 2 ? run_selp<u16> : bytes == 4 ? run_selp<u32> : run_selp<u64>;
}

void decode_slct(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() != 3 || s.operands.size() != 4) decoder.fail("no such form of slct");
  const unsigned bytes = type_bytes(s.words[1]);
  const bool by_float = s.type() == "f32";
  if ((bytes != 4 && bytes != 8) || (!by_float && s.type() != "s32")) {
    decoder.fail("no such form of slct");
  }
  i.reg[1] = decoder.source(s.operands[1], bytes);
  i.reg[2] = decoder.source(s.operands[2], bytes);
  i.reg[3] = decoder.source(s.operands[3], 4);
  i.reg[0] = decoder.target(s.operands[0], bytes);
  if (bytes == 4) i.run = by_float ? run_slct<u32, float> : run_slct<u32, s32>;
  if (bytes == 8) i.run = by_float ? run_slct<u64, float> : run_slct<u64, s32>;
}

void decode_testp(Decoder& decoder, const Statement& s, Instruction& i) {
  static constexpr std::string_view kTests[] = {"finite",     "infinite", "number",
                                                "notanumber", "normal",   "subnormal"};
  if (s.words.size() != 3) decoder.fail("no such form of testp");
  const auto* test = std::find(std::begin(kTests), std::end(kTests), s.words[1]);
  const bool wide = s.type() == "f64";
  if (test == std::end(kTests) || s.operands.size() != 2) decoder.fail("no such form of testp");
  i.detail = static_cast<std::uint8_t>(test - std::begin(kTests));
  i.reg[1] = decoder.source(s.operands[1], wide ? 8 : 4);
  i.reg[0] = decoder.target(s.operands[0], kPredicate);
  i.run = wide ? run_testp<double> : run_testp<float>;
}

}  // namespace dsv32::ptxemu
