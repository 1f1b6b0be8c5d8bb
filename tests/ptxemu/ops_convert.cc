// PTX ISA 9.7.9 "Data Movement and Conversion Instructions": cvt.
//
// A conversion is a way in and a way out: sources become a double or a whole number of 64 bits,
// which hold every value of every type but f64 and 64-bit ones exactly; then one rounding.
#include <cfenv>
#include <cmath>
#include <limits>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/numbers.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

enum class Type : std::uint8_t {
  s8,
  s16,
  s32,
  s64,
  u8,
  u16,
  u32,
  u64,
  f16,
  bf16,
  f32,
  f64,
  e4m3x2,
  e5m2x2,
  f16x2,
  bf16x2,
  ue8m0x2,
  tf32,
  none
};

constexpr std::string_view kTypeNames[] = {
    "s8",   "s16", "s32", "s64",    "u8",     "u16",   "u32",    "u64",     "f16",
    "bf16", "f32", "f64", "e4m3x2", "e5m2x2", "f16x2", "bf16x2", "ue8m0x2", "tf32"};

Type type_of(std::string_view name) {
  for (std::size_t k = 0; k < std::size(kTypeNames); ++k) {
    if (kTypeNames[k] == name) return static_cast<Type>(k);
  }
  return Type::none;
}

bool is_signed(Type t) { return t <= Type::s64; }
bool is_whole(Type t) { return t <= Type::u64; }
unsigned bits_of(Type t) {
  static constexpr unsigned kBits[] = {8, 16, 32, 64, 8, 16, 32, 64, 16, 16, 32, 64};
  return kBits[static_cast<int>(t)];
}

// What a conversion does, of an instruction's `imm`.
struct Plan {
  Type to, from;
  Rounding rounding;
  bool to_whole;  // rni, rzi, rmi, rpi
  bool sat, ftz, relu;

  static Plan of(const Instruction& i) {
    const auto bits = static_cast<u64>(i.imm);
    return {static_cast<Type>(bits & 255),
            static_cast<Type>(bits >> 8 & 255),
            static_cast<Rounding>(bits >> 16 & 255),
            (bits >> 24 & 1) != 0,
            (bits >> 25 & 1) != 0,
            (bits >> 26 & 1) != 0,
            (bits >> 27 & 1) != 0};
  }
  s64 packed() const {
    return static_cast<s64>(static_cast<u64>(to) | static_cast<u64>(from) << 8 |
                            static_cast<u64>(rounding) << 16 | u64{to_whole} << 24 |
                            u64{sat} << 25 | u64{ftz} << 26 | u64{relu} << 27);
  }
};

u64 read(Warp& w, std::uint32_t slot, unsigned bytes, int lane) {
  return bytes == 2   ? w.lanes<u16>(slot)[lane]
         : bytes == 4 ? w.lanes<u32>(slot)[lane]
                      : w.lanes<u64>(slot)[lane];
}
void write(Warp& w, std::uint32_t slot, unsigned bytes, int lane, u64 value) {
  if (bytes == 2) w.lanes<u16>(slot)[lane] = static_cast<u16>(value);
  if (bytes == 4) w.lanes<u32>(slot)[lane] = static_cast<u32>(value);
  if (bytes == 8) w.lanes<u64>(slot)[lane] = value;
}

s64 whole_of(u64 bits, Type from) {
  const unsigned shift = 64 - bits_of(from);
  return is_signed(from) ? static_cast<s64>(bits << shift) >> shift
                         : static_cast<s64>(bits << shift >> shift);
}

float flushed(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

double number_of(u64 bits, const Plan& plan) {
  switch (plan.from) {
    case Type::f16:
      return decode(static_cast<u32>(bits), kF16);
    case Type::bf16:
      return from_bf16(static_cast<u32>(bits));
    case Type::f64:
      return std::bit_cast<double>(bits);
    default: {
      const float x = std::bit_cast<float>(static_cast<u32>(bits));
      return plan.ftz ? flushed(x) : x;
    }
  }
}

double rounded(double x, Rounding rounding) {
  switch (rounding) {
    case Rounding::zero:
      return std::trunc(x);
    case Rounding::down:
      return std::floor(x);
    case Rounding::up:
      return std::ceil(x);
    case Rounding::nearest:
      break;
  }
  return std::nearbyint(x);
}

// A whole number out of its type's range becomes the nearest in it; a NaN becomes 0 or, where f64
// or 64 bits take part, the topmost bit alone.
u64 clamped(double x, Type to, Type from) {
  const unsigned bits = bits_of(to);
  if (x != x) return bits == 64 || from == Type::f64 ? u64{1} << (bits - 1) : 0;
  const double lowest = is_signed(to) ? -std::ldexp(1.0, static_cast<int>(bits) - 1) : 0;
  const double above = std::ldexp(1.0, static_cast<int>(bits) - (is_signed(to) ? 1 : 0));
  if (x <= lowest) return static_cast<u64>(static_cast<s64>(lowest));
  if (x >= above) return is_signed(to) ? (u64{1} << (bits - 1)) - 1 : ~u64{0} >> (64 - bits);
  return is_signed(to) ? static_cast<u64>(static_cast<s64>(x)) : static_cast<u64>(x);
}

u64 limited(s128 x, Type to) {
  const unsigned bits = bits_of(to);
  const s128 one = 1;
  const s128 lowest = is_signed(to) ? -(one << (bits - 1)) : 0;
  const s128 highest = (one << (is_signed(to) ? bits - 1 : bits)) - 1;
  return static_cast<u64>(x < lowest ? lowest : x > highest ? highest : x);
}

int float_mode(Rounding rounding) {
  static constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  return kModes[static_cast<int>(rounding)];
}

template <class From>
float to_f32(From x, Rounding rounding) {
  if (rounding == Rounding::nearest) return static_cast<float>(x);
  volatile From source = x;
  std::fesetround(float_mode(rounding));
  volatile float result = static_cast<float>(source);
  std::fesetround(FE_TONEAREST);
  return result;
}

template <class From>
double to_f64(From x, Rounding rounding) {
  volatile From source = x;
  std::fesetround(float_mode(rounding));
  volatile double result = static_cast<double>(source);
  std::fesetround(FE_TONEAREST);
  return result;
}

// Out of a number that is exact, into a float type.
u64 float_bits(double x, const Plan& plan) {
  if (plan.relu && x < 0) x = 0;
  if (plan.sat) x = x > 0 ? (x < 1 ? x : 1) : 0;
  switch (plan.to) {
    case Type::f16:
      return encode(x, kF16, plan.rounding, false);
    case Type::bf16:
      return encode(x, kBf16, plan.rounding, false);
    case Type::f64:
      return std::bit_cast<u64>(x);
    default: {
      const float result = to_f32(x, plan.rounding);
      return std::bit_cast<u32>(plan.ftz ? flushed(result) : result);
    }
  }
}

u64 converted(u64 bits, const Plan& plan) {
  if (is_whole(plan.from)) {
    const s64 whole = whole_of(bits, plan.from);
    const bool negative = is_signed(plan.from) && whole < 0;
    if (plan.to == Type::f32) {
      const float x = negative || is_signed(plan.from)
                          ? to_f32(whole, plan.rounding)
                          : to_f32(static_cast<u64>(whole), plan.rounding);
      return std::bit_cast<u32>(plan.sat ? std::fmin(std::fmax(x, 0.0f), 1.0f) : x);
    }
    const double x = is_signed(plan.from) ? to_f64(whole, plan.rounding)
                                          : to_f64(static_cast<u64>(whole), plan.rounding);
    if (!is_whole(plan.to)) return float_bits(x, plan);
    if (!plan.sat) return static_cast<u64>(whole);
    return negative || is_signed(plan.from) ? limited(s128{whole}, plan.to)
                                            : limited(s128{static_cast<u64>(whole)}, plan.to);
  }
  double x = number_of(bits, plan);
  if (plan.to_whole) x = rounded(x, plan.rounding);
  return is_whole(plan.to) ? clamped(x, plan.to, plan.from) : float_bits(x, plan);
}

// detail: bytes of the destination register; detail2: of the source's.
void run_cvt(Warp& w, const Instruction& i, Lanes mask) {
  const Plan plan = Plan::of(i);
  for_lanes(mask, [&](int lane) {
    u64 result = converted(read(w, i.reg[1], i.detail2, lane), plan);
    // A register wider than the type holds the number, not its bits (PTX ISA, cvt).
    if (is_whole(plan.to)) result = static_cast<u64>(whole_of(result, plan.to));
    write(w, i.reg[0], i.detail, lane, result);
  });
}

template <class To, class From>
void run_plain(Warp& w, const Instruction& i, Lanes mask) {
  To* to = w.lanes<To>(i.reg[0]);
  const From* from = w.lanes<From>(i.reg[1]);
  for_lanes(mask, [&](int lane) { to[lane] = static_cast<To>(from[lane]); });
}

void run_bf16(Warp& w, const Instruction& i, Lanes mask) {
  u16* to = w.lanes<u16>(i.reg[0]);
  const float* from = w.lanes<float>(i.reg[1]);
  for_lanes(mask, [&](int lane) { to[lane] = to_bf16(from[lane]); });
}

void run_bf16_pair(Warp& w, const Instruction& i, Lanes mask) {
  u32* to = w.lanes<u32>(i.reg[0]);
  const float* high = w.lanes<float>(i.reg[1]);
  const float* low = w.lanes<float>(i.reg[2]);
  for_lanes(mask,
            [&](int lane) { to[lane] = to_bf16(low[lane]) | u32{to_bf16(high[lane])} << 16; });
}

// The conversions that most kernels are full of, without a plan.
Execute plain(const Plan& plan, unsigned to_bytes, unsigned from_bytes) {
  if (plan.sat || plan.ftz || plan.relu || plan.to_whole) return nullptr;
  const auto is = [&](Type to, Type from) {
    return plan.to == to && plan.from == from && to_bytes == bits_of(to) / 8 &&
           from_bytes == bits_of(from) / 8;
  };
  if (is(Type::u64, Type::u32)) return run_plain<u64, u32>;
  if (is(Type::s64, Type::s32)) return run_plain<s64, s32>;
  if (is(Type::u32, Type::u64) || is(Type::s32, Type::s64)) return run_plain<u32, u64>;
  if (is(Type::u32, Type::u16)) return run_plain<u32, u16>;
  if (is(Type::s32, Type::s16)) return run_plain<s32, s16>;
  if (is(Type::u16, Type::u32)) return run_plain<u16, u32>;
  if (plan.rounding != Rounding::nearest) return nullptr;
  if (is(Type::f32, Type::s32)) return run_plain<float, s32>;
  if (is(Type::f32, Type::u32)) return run_plain<float, u32>;
  if (is(Type::f32, Type::f64)) return run_plain<float, double>;
  if (is(Type::f64, Type::f32)) return run_plain<double, float>;
  if (is(Type::bf16, Type::f32)) return run_bf16;
  return nullptr;
}

// Two numbers in one register (9.7.9, cvt with packed types): the first source is the upper one.
u32 packed(double x, const Plan& plan) {
  if (plan.relu && x < 0) x = 0;
  switch (plan.to) {
    case Type::e4m3x2:
      return encode(x, kE4m3, plan.rounding, true);
    case Type::e5m2x2:
      return encode(x, kE5m2, plan.rounding, true);
    case Type::ue8m0x2:
      return encode_e8m0(x, plan.rounding);
    case Type::f16x2:
      return encode(x, kF16, plan.rounding, plan.sat);
    default:
      return encode(x, kBf16, plan.rounding, plan.sat);
  }
}

unsigned part_bits(Type t) { return t == Type::f16x2 || t == Type::bf16x2 ? 16 : 8; }

double part_of(u32 bits, Type t) {
  switch (t) {
    case Type::e4m3x2:
      return decode(bits & 255, kE4m3);
    case Type::e5m2x2:
      return decode(bits & 255, kE5m2);
    case Type::ue8m0x2:
      return (bits & 255) == 255 ? std::nan("")
                                 : std::ldexp(1.0, static_cast<int>(bits & 255) - 127);
    case Type::f16x2:
      return decode(bits & 0xffff, kF16);
    default:
      return from_bf16(bits & 0xffff);
  }
}

void run_pack(Warp& w, const Instruction& i, Lanes mask) {
  const Plan plan = Plan::of(i);
  const unsigned bits = part_bits(plan.to);
  for_lanes(mask, [&](int lane) {
    const u32 high = packed(w.lanes<float>(i.reg[1])[lane], plan);
    const u32 low = packed(w.lanes<float>(i.reg[2])[lane], plan);
    write(w, i.reg[0], i.detail, lane, low | high << bits);
  });
}

void run_repack(Warp& w, const Instruction& i, Lanes mask) {
  const Plan plan = Plan::of(i);
  const unsigned in = part_bits(plan.from), out = part_bits(plan.to);
  for_lanes(mask, [&](int lane) {
    const u32 bits = static_cast<u32>(read(w, i.reg[1], i.detail2, lane));
    const u32 low = packed(part_of(bits, plan.from), plan);
    const u32 high = packed(part_of(bits >> in, plan.from), plan);
    write(w, i.reg[0], i.detail, lane, low | high << out);
  });
}

void decode_packed(Decoder& decoder, const Statement& s, Instruction& i, Plan plan) {
  i.detail = static_cast<std::uint8_t>(2 * part_bits(plan.to) / 8);
  i.reg[0] = decoder.target(s.operands[0], i.detail);
  i.imm = plan.packed();
  if (s.operands.size() == 3 && plan.from == Type::f32) {
    i.reg[1] = decoder.source(s.operands[1], 4);
    i.reg[2] = decoder.source(s.operands[2], 4);
    const bool simple =
        plan.to == Type::bf16x2 && plan.rounding == Rounding::nearest && !plan.relu && !plan.sat;
    i.run = simple ? run_bf16_pair : run_pack;
    return;
  }
  if (s.operands.size() != 2 || plan.from < Type::e4m3x2 || plan.from > Type::ue8m0x2) {
    decoder.fail("no such form of cvt");
  }
  i.detail2 = static_cast<std::uint8_t>(2 * part_bits(plan.from) / 8);
  i.reg[1] = decoder.source(s.operands[1], i.detail2);
  i.run = run_repack;
}

Rounding rounding_of(const Statement& s) {
  if (s.has("rz") || s.has("rzi")) return Rounding::zero;
  if (s.has("rm") || s.has("rmi")) return Rounding::down;
  if (s.has("rp") || s.has("rpi")) return Rounding::up;
  return Rounding::nearest;
}

void run_tf32(Warp& w, const Instruction& i, Lanes mask) {  // rna: away from zero at a half
  for_lanes(mask, [&](int lane) {
    const u32 x = w.lanes<u32>(i.reg[1])[lane];
    const bool is_nan = (x & 0x7fffffffu) > 0x7f800000u;
    w.lanes<u32>(i.reg[0])[lane] = is_nan ? 0x7fffffffu : (x + 0x1000u) & 0xffffe000u;
  });
}

}  // namespace

void decode_cvt(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() < 3 || s.operands.size() < 2) decoder.fail("no such form of cvt");
  Plan plan{type_of(s.words[s.words.size() - 2]),
            type_of(s.type()),
            rounding_of(s),
            s.has("rni") || s.has("rzi") || s.has("rmi") || s.has("rpi"),
            s.has("sat") || s.has("satfinite"),
            s.has("ftz"),
            s.has("relu")};
  if (plan.to == Type::none || plan.from == Type::none) decoder.fail("no such type");
  if (plan.to == Type::tf32) {
    if (!s.has("rna") || plan.from != Type::f32) decoder.fail("no such form of cvt");
    i.reg[1] = decoder.source(s.operands[1], 4);
    i.reg[0] = decoder.target(s.operands[0], 4);
    i.run = run_tf32;
    return;
  }
  if (plan.to >= Type::e4m3x2 || plan.from >= Type::e4m3x2) {
    return decode_packed(decoder, s, i, plan);
  }
  if (s.operands.size() != 2) decoder.fail("no such form of cvt");
  const unsigned bytes = std::max(2u, bits_of(plan.from) / 8);
  const Register from = decoder.source_of_any_size(s.operands[1], bytes);
  const Register to = decoder.target_of_any_size(s.operands[0]);
  if (from.bytes < bits_of(plan.from) / 8 || to.bytes < bits_of(plan.to) / 8) {
    decoder.fail("a register smaller than its type");
  }
  i.reg[0] = to.slot;
  i.reg[1] = from.slot;
  i.detail = static_cast<std::uint8_t>(to.bytes);
  i.detail2 = static_cast<std::uint8_t>(from.bytes);
  i.imm = plan.packed();
  const Execute fast = plain(plan, to.bytes, from.bytes);
  i.run = fast != nullptr ? fast : run_cvt;
}

}  // namespace dsv32::ptxemu
