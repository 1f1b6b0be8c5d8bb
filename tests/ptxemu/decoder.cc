#include "tests/ptxemu/decoder.h"

#include <algorithm>
#include <cstring>

namespace dsv32::ptxemu {
namespace {

constexpr std::uint32_t kSlotAlignment = 32;
constexpr std::uint32_t kPoison = 0x7ff7dead;  // no number as f32, nor twice as f64
constexpr std::uint32_t kPredicatePoison = 0x5a5a5a5a;

std::uint32_t register_bytes(unsigned bytes) {
  return bytes == kPredicate ? sizeof(Lanes) : bytes * kLanes;
}

std::uint32_t aligned(std::uint32_t offset, std::uint32_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

void put_lanes(std::byte* to, std::uint64_t bits, unsigned bytes) {
  for (int lane = 0; lane < kLanes; ++lane) std::memcpy(to + lane * bytes, &bits, bytes);
}

struct SpecialName {
  std::string_view name;
  Special what;
  unsigned bytes;
};
constexpr SpecialName kSpecials[] = {
    {"%tid.x", Special::tid_x, 4},
    {"%tid.y", Special::tid_y, 4},
    {"%tid.z", Special::tid_z, 4},
    {"%ntid.x", Special::ntid_x, 4},
    {"%ntid.y", Special::ntid_y, 4},
    {"%ntid.z", Special::ntid_z, 4},
    {"%ctaid.x", Special::ctaid_x, 4},
    {"%ctaid.y", Special::ctaid_y, 4},
    {"%ctaid.z", Special::ctaid_z, 4},
    {"%nctaid.x", Special::nctaid_x, 4},
    {"%nctaid.y", Special::nctaid_y, 4},
    {"%nctaid.z", Special::nctaid_z, 4},
    {"%laneid", Special::laneid, 4},
    {"%warpid", Special::warpid, 4},
    {"%nwarpid", Special::nwarpid, 4},
    {"%lanemask_eq", Special::lanemask_eq, 4},
    {"%lanemask_le", Special::lanemask_le, 4},
    {"%lanemask_lt", Special::lanemask_lt, 4},
    {"%lanemask_ge", Special::lanemask_ge, 4},
    {"%lanemask_gt", Special::lanemask_gt, 4},
    {"%smid", Special::smid, 4},
    {"%nsmid", Special::nsmid, 4},
    {"%gridid", Special::gridid, 8},
    {"%total_smem_size", Special::total_shared, 4},
    {"%dynamic_smem_size", Special::dynamic_shared, 4},
};

}  // namespace

unsigned type_bytes(std::string_view type) {
  if (type == "pred") return kPredicate;
  static constexpr std::pair<std::string_view, unsigned> kTypes[] = {
      {"b8", 1},    {"u8", 1},     {"s8", 1},     {"b16", 2},  {"u16", 2}, {"s16", 2},
      {"f16", 2},   {"bf16", 2},   {"b32", 4},    {"u32", 4},  {"s32", 4}, {"f32", 4},
      {"f16x2", 4}, {"tf32", 4},   {"bf16x2", 4}, {"b64", 8},  {"u64", 8}, {"s64", 8},
      {"f64", 8},   {"e4m3x2", 2}, {"e5m2x2", 2}, {"b128", 16}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == type) return bytes;
  }
  return kNoType;
}

Decoder::Decoder(Code& code, Function& function) : code_(code), function_(function) {
  function_.image.assign(kSlotAlignment, std::byte{0});  // kCarry
}

void Decoder::open() {
  Scope scope;
  scope.parent = scope_;
  scope_ = static_cast<int>(scopes_.size());
  scopes_.push_back(std::move(scope));
}

void Decoder::close() { scope_ = scopes_[static_cast<std::size_t>(scope_)].parent; }

Register Decoder::new_register(unsigned bytes) {
  if (bytes == 1) bytes = 2;
  if (bytes > 8) fail("registers of 128 bits are not known here");
  const auto slot = static_cast<std::uint32_t>(function_.image.size());
  const std::uint32_t size = register_bytes(bytes);
  function_.image.resize(aligned(slot + size, kSlotAlignment));
  for (std::uint32_t at = 0; at < size; at += sizeof kPoison) {
    const std::uint32_t poison = bytes == kPredicate ? kPredicatePoison : kPoison;
    std::memcpy(&function_.image[slot + at], &poison, sizeof poison);
  }
  return {slot, bytes};
}

void Decoder::declare_register(const std::string& name, unsigned bytes) {
  function_.registers += bytes == 8 ? 2 : bytes == kPredicate ? 0 : 1;
  scopes_[static_cast<std::size_t>(scope_)].registers[name] = new_register(bytes);
}

void Decoder::declare_range(const std::string& prefix, unsigned bytes) {
  scopes_[static_cast<std::size_t>(scope_)].ranges[prefix] = bytes;
}

void Decoder::declare_param(const std::string& name, std::uint32_t bytes, std::uint32_t alignment) {
  const std::uint32_t offset = aligned(function_.param_bytes, alignment);
  function_.param_bytes = aligned(offset + bytes, 16);
  params_[name] = {{offset, bytes}, false};
}

void Decoder::declare_kernel_param(const std::string& name, Slice slice) {
  params_[name] = {slice, true};
}

void Decoder::declare_local(const std::string& name, std::uint32_t bytes, std::uint32_t alignment) {
  const std::uint32_t offset = aligned(function_.local_bytes, alignment);
  function_.local_bytes = aligned(offset + bytes, 16);
  locals_[name] = offset;
}

void Decoder::label(const std::string& name, int line) {
  auto& labels = scopes_[static_cast<std::size_t>(scope_)].labels;
  if (!labels.emplace(name, static_cast<std::uint32_t>(function_.code.size())).second) {
    syntax_error(line, "a label twice: " + name);
  }
}

void Decoder::table(const std::string& name, std::vector<std::string> labels) {
  scopes_[static_cast<std::size_t>(scope_)].tables[name] = std::move(labels);
}

const ParamName* Decoder::param(std::string_view name) const {
  const auto found = params_.find(std::string(name));
  return found == params_.end() ? nullptr : &found->second;
}

// A register that was declared by name, or one of a range, which takes room when it is first used.
Register Decoder::lookup(std::string_view name) {
  const std::string text(name);
  const std::size_t end = text.find_last_not_of("0123456789") + 1;
  for (int at = scope_; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
    Scope& scope = scopes_[static_cast<std::size_t>(at)];
    const auto found = scope.registers.find(text);
    if (found != scope.registers.end()) return found->second;
    const auto range =
        end < text.size() ? scope.ranges.find(text.substr(0, end)) : scope.ranges.end();
    if (range == scope.ranges.end()) continue;
    function_.registers += range->second == 8 ? 2 : range->second == kPredicate ? 0 : 1;
    return scope.registers[text] = new_register(range->second);
  }
  return {};
}

std::uint32_t Decoder::constant(std::uint64_t bits, unsigned bytes) {
  if (bytes == kPredicate) {  // any bit set is true, in all lanes
    bits = bits != 0 ? kAllLanes : 0;
  } else if (bytes < 8) {
    bits &= (std::uint64_t{1} << (8 * bytes)) - 1;
  }
  const auto [at, fresh] = constants_.try_emplace({bits, bytes}, kNone);
  if (!fresh) return at->second;
  at->second = new_register(bytes).slot;
  if (bytes == kPredicate) {
    std::memcpy(&function_.image[at->second], &bits, sizeof(Lanes));
  } else {
    put_lanes(&function_.image[at->second], bits, bytes);
  }
  return at->second;
}

std::uint32_t Decoder::fill(Special what, unsigned bytes, std::uint32_t index,
                            std::int64_t offset) {
  const std::string key = std::to_string(static_cast<int>(what)) + "/" + std::to_string(bytes) +
                          "/" + std::to_string(index) + "/" + std::to_string(offset);
  const auto [at, fresh] = fills_.try_emplace(key, kNone);
  if (!fresh) return at->second;
  at->second = new_register(bytes).slot;
  function_.fills.push_back({what, static_cast<std::uint8_t>(bytes), at->second, index, offset});
  return at->second;
}

Register Decoder::special(std::string_view name) {
  for (const SpecialName& special : kSpecials) {
    if (special.name == name) {
      return {fill(special.what, special.bytes, 0, 0), special.bytes};
    }
  }
  return {};
}

// The address of a variable or a function, in a register of the size that is wanted.
Register Decoder::named(const Operand& operand, unsigned bytes) {
  const std::string name(operand.name);
  if (const ParamName* found = param(name)) {
    return {constant(found->slice.offset + static_cast<std::uint64_t>(operand.offset), bytes),
            bytes};
  }
  const auto local = locals_.find(name);
  if (local != locals_.end()) {
    return {fill(Special::local_variable, bytes, local->second, operand.offset), bytes};
  }
  const auto index_in = [&](const auto& list, auto name_of) {
    for (std::uint32_t k = 0; k < list.size(); ++k) {
      if (name_of(list[k]) == name) return k;
    }
    return kNone;
  };
  const auto plain = [](const auto& item) -> const std::string& { return item.name; };
  for (auto k = static_cast<std::uint32_t>(code_.shared.size()); k-- > 0;) {  // the latest first
    if (code_.shared[k].name != name) continue;
    return {fill(Special::shared_variable, bytes, k, operand.offset), bytes};
  }
  std::uint32_t index = index_in(
      code_.variables, [](const Variable& v) -> const std::string& { return v.symbol.name; });
  if (index != kNone) return {fill(Special::variable, bytes, index, operand.offset), bytes};
  index = index_in(code_.functions, plain);
  if (index != kNone) return {fill(Special::function_address, bytes, index, 0), bytes};
  fail("unknown name: " + name);
}

std::uint32_t Decoder::source(const Operand& operand, unsigned bytes) {
  if (operand.type == Operand::Type::number) {
    if (bytes == kPredicate && operand.written == 'i') return constant(operand.bits, bytes);
    const unsigned written = operand.written == 'f' ? 4 : operand.written == 'd' ? 8 : bytes;
    if (written != bytes) fail("a constant of another type");
    return constant(operand.bits, bytes);
  }
  const Register found = source_of_any_size(operand, bytes);
  if (found.bytes != bytes) fail("a register of another size: " + std::string(operand.name));
  return found.slot;
}

Register Decoder::source_of_any_size(const Operand& operand, unsigned bytes_of_number) {
  if (operand.type == Operand::Type::number) {
    return {source(operand, bytes_of_number), bytes_of_number};
  }
  if (operand.type != Operand::Type::name) fail("an operand of another form");
  if (const Register found = lookup(operand.name); found.slot != kNone) {
    if (operand.negated && found.bytes != kPredicate) fail("a negation of a number");
    return found;
  }
  if (const Register found = special(operand.name); found.slot != kNone) return found;
  return named(operand, bytes_of_number);
}

std::uint32_t Decoder::target(const Operand& operand, unsigned bytes) {
  if (operand.name == "_") return kNone;
  const Register found = target_of_any_size(operand);
  if (found.bytes != bytes) fail("a register of another size: " + std::string(operand.name));
  return found.slot;
}

Register Decoder::target_of_any_size(const Operand& operand) {
  if (operand.type != Operand::Type::name || operand.negated) fail("a result of another form");
  const Register found = lookup(operand.name);
  if (found.slot == kNone) fail("unknown register: " + std::string(operand.name));
  return found;
}

void Decoder::address(const Operand& operand, Instruction& i, int reg) {
  if (operand.type != Operand::Type::address) fail("an address in [] is needed");
  i.wide = true;
  i.imm = 0;
  if (operand.name.empty()) {
    i.reg[reg] = constant(operand.bits, 8);
    return;
  }
  const Register found = lookup(operand.name);
  if (found.slot == kNone) {
    i.reg[reg] =
        named({Operand::Type::name, operand.name, 0, 'i', operand.offset, false, {}}, 8).slot;
    return;
  }
  if (found.bytes != 4 && found.bytes != 8) fail("an address of 32 or 64 bits is needed");
  i.wide = found.bytes == 8;
  i.imm = operand.offset;
  i.reg[reg] = found.slot;
}

void Decoder::vector(const std::vector<Operand>& parts, Instruction& i, unsigned bytes,
                     bool targets) {
  i.list = static_cast<std::uint32_t>(function_.lists.size());
  i.count = 0;
  for (const Operand& part : parts) {
    add_to_list(i, targets ? target(part, bytes) : source(part, bytes));
    ++i.count;
  }
}

void Decoder::add_to_list(Instruction&, std::uint32_t slot) { function_.lists.push_back(slot); }

void Decoder::instruction(const Statement& statement) {
  line_ = statement.line;
  Instruction i;
  i.line = statement.line;
  if (!statement.guard.empty()) {
    const Register guard = lookup(statement.guard);
    if (guard.slot == kNone || guard.bytes != kPredicate) fail("a guard that is no predicate");
    i.predicate = guard.slot;
    i.negated = statement.guard_negated;
  }
  const Decode decode = decode_of(statement.words[0]);
  if (decode == nullptr) fail("unknown instruction: " + std::string(statement.mnemonic));
  try {
    decode(*this, statement, i);
  } catch (SyntaxError& error) {
    error.text = std::string(statement.mnemonic) + ": " + error.text;
    throw;
  }
  function_.code.push_back(i);
}

void Decoder::branch_to(std::string_view name) {
  jumps_.push_back({function_.code.size(), kNone, 0, scope_, line_, std::string(name)});
}

std::uint32_t Decoder::branch_table(std::string_view name) {
  for (int at = scope_; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
    const Scope& scope = scopes_[static_cast<std::size_t>(at)];
    const auto found = scope.tables.find(std::string(name));
    if (found == scope.tables.end()) continue;
    const std::size_t table = function_.tables.size();
    function_.tables.emplace_back(found->second.size(), 0);
    for (std::size_t k = 0; k < found->second.size(); ++k) {
      jumps_.push_back({function_.code.size(), table, k, at, line_, found->second[k]});
    }
    return static_cast<std::uint32_t>(table);
  }
  fail("no such list of branch targets");
}

std::uint32_t Decoder::call(Call call) {
  call.line = line_;
  function_.calls.push_back(std::move(call));
  return static_cast<std::uint32_t>(function_.calls.size() - 1);
}

std::uint32_t Decoder::target_pc(const Jump& jump) const {
  for (int at = jump.scope; at >= 0; at = scopes_[static_cast<std::size_t>(at)].parent) {
    const auto& labels = scopes_[static_cast<std::size_t>(at)].labels;
    const auto found = labels.find(jump.label);
    if (found != labels.end()) return found->second;
  }
  syntax_error(jump.line, "no such label: " + jump.label);
}

void Decoder::finish() {
  Instruction last;
  last.flow = Flow::leave;
  last.line = line_;
  function_.code.push_back(last);  // a body may end without ret
  for (const Jump& jump : jumps_) {
    const std::uint32_t pc = target_pc(jump);
    if (jump.table == kNone) {
      function_.code[jump.instruction].target = pc;
    } else {
      function_.tables[jump.table][jump.entry] = pc;
    }
  }
}

}  // namespace dsv32::ptxemu
