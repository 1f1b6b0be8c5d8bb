// PTX ISA 9.7.9 "Data Movement and Conversion Instructions": ld, st, mov, cvta, isspacep.
#include <cstring>

#include "tests/ptxemu/access.h"
#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/lanes.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

void gather_addresses(Warp& w, const Instruction& i, Address (&addresses)[kLanes]) {
  const auto offset = static_cast<Address>(i.imm);
  if (i.wide) {
    const Address* from = w.lanes<Address>(i.reg[0]);
    for (int lane = 0; lane < kLanes; ++lane) addresses[lane] = from[lane] + offset;
    return;
  }
  const u32* from = w.lanes<u32>(i.reg[0]);
  for (int lane = 0; lane < kLanes; ++lane) {
    addresses[lane] = static_cast<u32>(from[lane] + static_cast<u32>(offset));
  }
}

template <class Element>
Element element_at(const std::byte* from, std::size_t index) {
  Element value;
  std::memcpy(&value, from + index * sizeof value, sizeof value);
  return value;
}

// All lanes at once, if nothing can be wrong. False: look at each alone.
template <class Element, class Register>
bool load_all(Warp& w, const Instruction& i, Lanes mask, const Address (&addresses)[kLanes]) {
  const LanesAt from = locate_lanes(w, i, mask, addresses);
  if (from.data == nullptr) return false;
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (unsigned k = 0; k < i.count; ++k) {
    if (slots[k] == kNone) continue;
    Register* to = w.lanes<Register>(slots[k]);
    for_lanes(mask, [&](int lane) {
      const std::byte* at = from.data + (addresses[lane] - from.base);
      to[lane] = static_cast<Register>(element_at<Element>(at, k));
    });
  }
  return true;
}

template <class Element, class Register>
bool store_all(Warp& w, const Instruction& i, Lanes mask, const Address (&addresses)[kLanes]) {
  const LanesAt to = locate_lanes(w, i, mask, addresses);
  if (to.data == nullptr) return false;
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (; mask != 0; mask &= mask - 1) {  // in this order: of two at one place the later stays
    const int lane = __builtin_ctz(mask);
    std::byte* at = to.data + (addresses[lane] - to.base);
    for (unsigned k = 0; k < i.count; ++k) {
      const auto value = static_cast<Element>(w.lanes<Register>(slots[k])[lane]);
      std::memcpy(at + k * sizeof value, &value, sizeof value);
    }
  }
  return true;
}

// detail: Space; detail2: how; bytes, count: of an element, how many.
template <class Element, class Register>
void run_load(Warp& w, const Instruction& i, Lanes mask) {
  const auto space = static_cast<Space>(i.detail);
  const bool strong = (i.detail2 & kStrongAccess) != 0;
  Address addresses[kLanes];
  gather_addresses(w, i, addresses);
  measure(w, i, mask, space, addresses, u32{i.bytes} * i.count, i.detail2);
  if (!strong && load_all<Element, Register>(w, i, mask, addresses)) return;
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    const Address address = addresses[lane];
    const std::byte* from = locate(w, i, lane, space, address, u32{i.bytes} * i.count, i.detail2);
    for (unsigned k = 0; k < i.count; ++k) {
      if (slots[k] == kNone) continue;
      const Element value =
          from != nullptr ? element_at<Element>(from, k) : static_cast<Element>(~Element{0});
      w.lanes<Register>(slots[k])[lane] = static_cast<Register>(value);
    }
    if (strong) hand_on(w, lane, space, address, i.detail2);
  }
}

template <class Element, class Register>
void run_store(Warp& w, const Instruction& i, Lanes mask) {
  const auto space = static_cast<Space>(i.detail);
  const bool strong = (i.detail2 & kStrongAccess) != 0;
  Address addresses[kLanes];
  gather_addresses(w, i, addresses);
  measure(w, i, mask, space, addresses, u32{i.bytes} * i.count, i.detail2);
  if (!strong && store_all<Element, Register>(w, i, mask, addresses)) return;
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    const Address address = addresses[lane];
    std::byte* to = locate(w, i, lane, space, address, u32{i.bytes} * i.count, i.detail2);
    for (unsigned k = 0; k < i.count && to != nullptr; ++k) {
      const auto value = static_cast<Element>(w.lanes<Register>(slots[k])[lane]);
      std::memcpy(to + k * sizeof value, &value, sizeof value);
    }
    if (strong) hand_on(w, lane, space, address, i.detail2);
  }
}

// Parameters of a kernel by name: every lane's are the same.
template <class Element, class Register>
void run_load_uniform(Warp& w, const Instruction& i, Lanes mask) {
  const u32* slots = w.frame->function->lists.data() + i.list;
  for (unsigned k = 0; k < i.count; ++k) {
    if (slots[k] == kNone) continue;
    Element value;
    std::memcpy(&value, w.block->grid->parameters.data() + i.imm + k * sizeof value, sizeof value);
    Register* to = w.lanes<Register>(slots[k]);
    for_lanes(mask, [&](int lane) { to[lane] = static_cast<Register>(value); });
  }
}

enum class Move : std::uint8_t { load, uniform, store };

template <class Element, class Register>
Execute run_of(Move move) {
  switch (move) {
    case Move::load:
      return run_load<Element, Register>;
    case Move::uniform:
      return run_load_uniform<Element, Register>;
    case Move::store:
      break;
  }
  return run_store<Element, Register>;
}

template <class Element>
Execute run_of(Move move, unsigned bytes) {
  if (bytes == 2) return run_of<Element, u16>(move);
  if (bytes == 4) return run_of<Element, u32>(move);
  return run_of<Element, u64>(move);
}

Execute run_of(Move move, std::string_view type, unsigned bytes) {
  const bool with_sign = type[0] == 's' && move != Move::store;
  switch (type_bytes(type)) {
    case 1:
      return with_sign ? run_of<s8>(move, bytes) : run_of<u8>(move, bytes);
    case 2:
      return with_sign ? run_of<s16>(move, bytes) : run_of<u16>(move, bytes);
    case 4:
      return with_sign ? run_of<s32>(move, bytes) : run_of<u32>(move, bytes);
    default:
      return run_of<u64>(move, bytes);
  }
}

bool of_kernel(Decoder& decoder, const Operand& address) {
  const ParamName* param = decoder.param(address.name);
  return param != nullptr ? param->of_kernel : true;  // through a register: a kernel's
}

Space space_of(Decoder& decoder, const Statement& s, const Operand& address) {
  for (const std::string_view word : s.words) {
    if (word == "global" || word == "const") return Space::global;
    if (word.substr(0, 6) == "shared") return Space::shared;
    if (word == "local") return Space::local;
    if (word.substr(0, 5) == "param") {
      return of_kernel(decoder, address) ? Space::kernel_params : Space::params;
    }
  }
  return Space::generic;
}

unsigned how_of(const Statement& s, unsigned how) {
  const bool acquires = s.has("acquire"), releases = s.has("release");
  if (acquires || releases || s.has("relaxed") || s.has("volatile") || s.has("mmio")) {
    how |= kStrongAccess;
  }
  if (acquires) how |= kAcquires;
  if (releases) how |= kReleases;
  return s.has("cta") ? how : how | kWide;
}

const std::vector<Operand>& parts_of(const Operand& operand, std::vector<Operand>& one) {
  if (operand.type == Operand::Type::list) return operand.parts;
  one.push_back(operand);
  return one;
}

// All the elements' registers have one size, which may be more than the type's.
void elements(Decoder& decoder, const Statement& s, const Operand& data, Instruction& i,
              Move move) {
  std::vector<Operand> one;
  const std::vector<Operand>& parts = parts_of(data, one);
  const bool vector = s.has("v2") || s.has("v4") || s.has("v8");
  const std::size_t wanted = s.has("v2") ? 2 : s.has("v4") ? 4 : s.has("v8") ? 8 : 1;
  if (parts.size() != wanted || vector != (data.type == Operand::Type::list)) {
    decoder.fail("not as many registers as the vector has");
  }
  const unsigned type = type_bytes(s.type());
  if (type == kNoType || type == kPredicate) decoder.fail("no such type");
  i.bytes = static_cast<std::uint8_t>(type);
  unsigned bytes = 0;
  for (const Operand& part : parts) {
    if (part.type == Operand::Type::number || part.name == "_") continue;
    bytes = move == Move::store ? decoder.source_of_any_size(part, std::max(type, 2u)).bytes
                                : decoder.target_of_any_size(part).bytes;
  }
  if (bytes == 0) bytes = std::max(type, 2u);
  if (bytes < type) decoder.fail("a register smaller than its type");
  decoder.vector(parts, i, bytes, move != Move::store);
  i.run = run_of(move, s.type(), bytes);
}

template <class T>
void run_copy(Warp& w, const Instruction& i, Lanes mask) {
  T* to = w.lanes<T>(i.reg[0]);
  const T* from = w.lanes<T>(i.reg[1]);
  for_lanes(mask, [&](int lane) { to[lane] = from[lane]; });
}

void run_copy_predicate(Warp& w, const Instruction& i, Lanes mask) {
  Lanes& to = w.bits(i.reg[0]);
  const Lanes from = i.detail2 != 0 ? ~w.bits(i.reg[1]) : w.bits(i.reg[1]);
  to = (to & ~mask) | (from & mask);
}

// mov of a register into parts or back: the first part is the lowest.
template <class Whole, class Part, bool Pack>
void run_parts(Warp& w, const Instruction& i, Lanes mask) {
  const u32* slots = w.frame->function->lists.data() + i.list;
  Whole* whole = w.lanes<Whole>(i.reg[0]);
  for_lanes(mask, [&](int lane) {
    Whole value = Pack ? 0 : whole[lane];
    for (unsigned k = 0; k < i.count; ++k) {
      const unsigned shift = 8 * sizeof(Part) * k;
      if (Pack) {
        value = static_cast<Whole>(value | Whole{w.lanes<Part>(slots[k])[lane]} << shift);
      } else if (slots[k] != kNone) {
        w.lanes<Part>(slots[k])[lane] = static_cast<Part>(value >> shift);
      }
    }
    if (Pack) whole[lane] = value;
  });
}

void decode_parts(Decoder& decoder, const Statement& s, Instruction& i) {
  const bool pack = s.operands[1].type == Operand::Type::list;
  const std::vector<Operand>& parts = s.operands[pack ? 1 : 0].parts;
  const unsigned whole = type_bytes(s.type());
  const unsigned part = parts.empty() ? 0 : whole / static_cast<unsigned>(parts.size());
  decoder.vector(parts, i, part, !pack);
  i.reg[0] = pack ? decoder.target(s.operands[0], whole) : decoder.source(s.operands[1], whole);
  if (whole == 4 && part == 2)
    i.run = pack ? run_parts<u32, u16, true> : run_parts<u32, u16, false>;
  if (whole == 8 && part == 4)
    i.run = pack ? run_parts<u64, u32, true> : run_parts<u64, u32, false>;
  if (whole == 8 && part == 2)
    i.run = pack ? run_parts<u64, u16, true> : run_parts<u64, u16, false>;
  if (i.run == nullptr) decoder.fail("no such form of mov");
}

// %clock and its kin: instructions that this launch has done, which never go back.
template <class T>
void run_clock(Warp& w, const Instruction& i, Lanes mask) {
  const auto now = static_cast<T>(w.block->grid->instructions);
  T* to = w.lanes<T>(i.reg[0]);
  for_lanes(mask, [&](int lane) { to[lane] = now; });
}

bool is_clock(std::string_view name) {
  return name == "%clock" || name == "%clock64" || name == "%clock_hi" || name == "%globaltimer" ||
         name == "%globaltimer_lo" || name == "%globaltimer_hi";
}

Address window_of(const Statement& s) {
  if (s.has("shared") || s.has("shared::cta")) return kSharedWindow;
  if (s.has("local")) return kLocalWindow;
  return s.has("param") || s.has("param::entry") ? kParamWindow : 0;
}

void run_add_window(Warp& w, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int lane) {
    const u64 from = i.detail == 4 ? w.lanes<u32>(i.reg[1])[lane] : w.lanes<u64>(i.reg[1])[lane];
    w.lanes<u64>(i.reg[0])[lane] = from + static_cast<u64>(i.imm);
  });
}

void run_isspacep(Warp& w, const Instruction& i, Lanes mask) {
  const u64* from = w.lanes<u64>(i.reg[1]);
  const auto window = static_cast<Address>(i.imm);
  Lanes result = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool is = window != 0 ? from[lane] - window < kWindowBytes
                                : from[lane] >= Address{1} << kMachineShift;
    result |= Lanes{is} << lane;
  }
  Lanes& to = w.bits(i.reg[0]);
  to = (to & ~mask) | (result & mask);
}

}  // namespace

void decode_ld(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 2) decoder.fail("ld needs a register and an address");
  const Operand& address = s.operands[1];
  const Space space = space_of(decoder, s, address);
  i.detail = static_cast<std::uint8_t>(space);
  i.detail2 = static_cast<std::uint8_t>(how_of(s, kReads));
  const ParamName* param = space == Space::kernel_params ? decoder.param(address.name) : nullptr;
  elements(decoder, s, s.operands[0], i, param != nullptr ? Move::uniform : Move::load);
  if (param == nullptr) return decoder.address(address, i, 0);
  i.imm = address.offset + param->slice.offset;
  if (address.offset < 0 || address.offset + i.bytes * i.count > param->slice.bytes) {
    decoder.fail("a read behind the parameter's end");
  }
}

void decode_st(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 2) decoder.fail("st needs an address and a register");
  i.detail = static_cast<std::uint8_t>(space_of(decoder, s, s.operands[0]));
  i.detail2 = static_cast<std::uint8_t>(how_of(s, kWrites));
  elements(decoder, s, s.operands[1], i, Move::store);
  decoder.address(s.operands[0], i, 0);
}

void decode_mov(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.words.size() != 2 || s.operands.size() != 2) decoder.fail("no such form of mov");
  if (s.operands[0].type == Operand::Type::list || s.operands[1].type == Operand::Type::list) {
    return decode_parts(decoder, s, i);
  }
  const unsigned bytes = type_bytes(s.type());
  if (bytes == kNoType || bytes == 1 || bytes > 8) decoder.fail("no such type");
  i.reg[0] = decoder.target(s.operands[0], bytes);
  if (is_clock(s.operands[1].name)) {
    i.run = bytes == 8 ? run_clock<u64> : run_clock<u32>;
    return;
  }
  i.reg[1] = decoder.source(s.operands[1], bytes);
  i.detail2 = s.operands[1].negated;
  i.run = bytes == kPredicate ? run_copy_predicate
          : bytes == 2        ? run_copy<u16>
          : bytes == 4        ? run_copy<u32>
                              : run_copy<u64>;
}

void decode_cvta(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 2 || s.type() != "u64") decoder.fail("no such form of cvta");
  const Address window = window_of(s);
  i.imm = static_cast<s64>(s.has("to") ? 0 - window : window);
  const Register from = decoder.source_of_any_size(s.operands[1], 8);
  i.reg[1] = from.slot;
  i.detail = static_cast<std::uint8_t>(from.bytes);
  i.reg[0] = decoder.target(s.operands[0], 8);
  i.run = i.imm == 0 && from.bytes == 8 ? run_copy<u64> : run_add_window;
}

void decode_isspacep(Decoder& decoder, const Statement& s, Instruction& i) {
  if (s.operands.size() != 2) decoder.fail("no such form of isspacep");
  i.reg[1] = decoder.source(s.operands[1], 8);
  i.reg[0] = decoder.target(s.operands[0], kPredicate);
  i.imm = static_cast<s64>(window_of(s));
  i.run = run_isspacep;
}

}  // namespace dsv32::ptxemu
