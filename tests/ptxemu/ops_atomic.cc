// PTX ISA 9.7.13 "Parallel Synchronization and Communication Instructions": atom, red, fence,
// membar. An atomic is a strong read and write at once.
#include <cstring>
#include <limits>
#include <type_traits>
#include <unordered_map>

#include "tests/ptxemu/access.h"
#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/numbers.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

// reg: 0 what was there, 1 the address, 2 and 3 operands; detail: Space; detail2: how.
template <class T, class F>
void run_atomic(Warp& w, const Instruction& i, Lanes mask) {
  const auto space = static_cast<Space>(i.detail);
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    const Address address = address_of(w, i, i.reg[1], lane);
    std::byte* at = locate(w, i, lane, space, address, sizeof(T), i.detail2);
    T old;
    std::memset(&old, 0xff, sizeof old);
    if (at != nullptr) {
      std::memcpy(&old, at, sizeof old);
      const T c = i.reg[3] == kNone ? T{} : w.lanes<T>(i.reg[3])[lane];
      const T fresh = F{}(old, w.lanes<T>(i.reg[2])[lane], c);
      std::memcpy(at, &fresh, sizeof fresh);
    }
    if (i.reg[0] != kNone) w.lanes<T>(i.reg[0])[lane] = old;
    hand_on(w, lane, space, address, i.detail2);
  }
}

struct Atomic {
  Execute run = nullptr;
  unsigned bytes = 0;
};
using Atomics = std::unordered_map<std::string, Atomic>;

template <class T, class F>
void put(Atomics& all, const std::string& name, F) {
  all[name] = {run_atomic<T, F>, sizeof(T)};
}

template <class T>
void put_integer(Atomics& all, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  put<T>(all, "add." + type, [](T a, T b, T) { return static_cast<T>(U(a) + U(b)); });
  put<T>(all, "min." + type, [](T a, T b, T) { return a < b ? a : b; });
  put<T>(all, "max." + type, [](T a, T b, T) { return a > b ? a : b; });
}

template <class T>
void put_bits(Atomics& all, const std::string& type) {
  put<T>(all, "and." + type, [](T a, T b, T) { return static_cast<T>(a & b); });
  put<T>(all, "or." + type, [](T a, T b, T) { return static_cast<T>(a | b); });
  put<T>(all, "xor." + type, [](T a, T b, T) { return static_cast<T>(a ^ b); });
  put<T>(all, "exch." + type, [](T, T b, T) { return b; });
  put<T>(all, "cas." + type, [](T a, T b, T c) { return a == b ? c : a; });
}

u16 add_f16(u16 a, u16 b) { return to_f16(decode(a, kF16) + decode(b, kF16)); }
u16 add_bf16(u16 a, u16 b) {
  return static_cast<u16>(
      encode(double{from_bf16(a)} + from_bf16(b), kBf16, Rounding::nearest, false));
}
template <u16 (*Add)(u16, u16)>
u32 add_pair(u32 a, u32 b) {
  return Add(static_cast<u16>(a), static_cast<u16>(b)) |
         u32{Add(static_cast<u16>(a >> 16), static_cast<u16>(b >> 16))} << 16;
}

const Atomics& atomics() {
  static const Atomics kAll = [] {
    Atomics all;
    put_integer<u32>(all, "u32");
    put_integer<s32>(all, "s32");
    put_integer<u64>(all, "u64");
    put_integer<s64>(all, "s64");
    put_bits<u32>(all, "b32");
    put_bits<u64>(all, "b64");
    put<u16>(all, "cas.b16", [](u16 a, u16 b, u16 c) { return a == b ? c : a; });
    put<u32>(all, "inc.u32", [](u32 a, u32 b, u32) { return a >= b ? 0 : a + 1; });
    put<u32>(all, "dec.u32", [](u32 a, u32 b, u32) { return a == 0 || a > b ? b : a - 1; });
    put<float>(all, "add.f32", [](float a, float b, float) { return a + b; });
    put<double>(all, "add.f64", [](double a, double b, double) { return a + b; });
    put<u16>(all, "add.noftz.f16", [](u16 a, u16 b, u16) { return add_f16(a, b); });
    put<u16>(all, "add.noftz.bf16", [](u16 a, u16 b, u16) { return add_bf16(a, b); });
    put<u32>(all, "add.noftz.f16x2", [](u32 a, u32 b, u32) { return add_pair<add_f16>(a, b); });
    put<u32>(all, "add.noftz.bf16x2", [](u32 a, u32 b, u32) { return add_pair<add_bf16>(a, b); });
    return all;
  }();
  return kAll;
}

std::string operation_of(const Statement& s) {
  std::string key;
  for (const std::string_view word : s.words) {
    const bool is_operation = word == "add" || word == "min" || word == "max" || word == "inc" ||
                              word == "dec" || word == "and" || word == "or" || word == "xor" ||
                              word == "exch" || word == "cas" || word == "noftz";
    if (is_operation) key += std::string(word) + ".";
  }
  return key + std::string(s.type());
}

Space space_of(const Statement& s) {
  if (s.has("shared") || s.has("shared::cta")) return Space::shared;
  return s.has("global") ? Space::global : Space::generic;
}

// membar.cta, membar.gl, fence.acq_rel.gpu, fence.sc.sys: all of them hand on and take.
void run_fence(Warp& w, const Instruction& i, Lanes mask) { fence(w, mask, i.detail != 0); }

}  // namespace

void decode_atom(Decoder& decoder, const Statement& s, Instruction& i) {
  const auto found = atomics().find(operation_of(s));
  if (found == atomics().end()) decoder.fail("no such atomic operation");
  const std::size_t first = s.words[0] == "red" ? 0 : 1;
  const std::size_t operands = first + (s.has("cas") ? 3 : 2);
  if (s.operands.size() != operands) {
    decoder.fail(std::to_string(operands) + " operands are needed");
  }
  const bool both = s.has("acq_rel");
  unsigned how = kReads | kWrites | kStrongAccess;
  if (both || s.has("acquire")) how |= kAcquires;
  if (both || s.has("release")) how |= kReleases;
  if (!s.has("cta")) how |= kWide;
  i.detail = static_cast<std::uint8_t>(space_of(s));
  i.detail2 = static_cast<std::uint8_t>(how);
  const unsigned bytes = found->second.bytes;
  for (std::size_t k = first + 1; k < operands; ++k) {
    i.reg[k - first + 1] = decoder.source(s.operands[k], bytes);
  }
  decoder.address(s.operands[first], i, 1);
  if (first == 1) i.reg[0] = decoder.target(s.operands[0], bytes);
  i.run = found->second.run;
}

void decode_fence(Decoder& decoder, const Statement& s, Instruction& i) {
  const std::string_view scope = s.words.back();
  const bool wide = scope == "gl" || scope == "gpu" || scope == "sys";
  const bool known = s.words[0] == "membar"
                         ? s.words.size() == 2
                         : s.words.size() == 3 && (s.words[1] == "sc" || s.words[1] == "acq_rel");
  if (!known || (!wide && scope != "cta")) decoder.fail("no such fence");
  i.detail = wide;
  i.run = run_fence;
}

}  // namespace dsv32::ptxemu
