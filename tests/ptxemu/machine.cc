#include "tests/ptxemu/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "tests/ptxemu/module_access.h"
#include "tests/ptxemu/run.h"

namespace dsv32::ptxemu {
namespace {

// What every device takes (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability"), of shared memory what sm_90 does.
constexpr unsigned kMaxShared = 227 * 1024;
constexpr unsigned kMaxBlock[3] = {1024, 1024, 64};
constexpr unsigned kMaxGrid[3] = {0x7fffffff, 65535, 65535};
constexpr Clock kTiredClock = 1u << 31;  // shadows are forgotten before clocks overflow

std::string outside(const Memory& memory, Address address, std::size_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%zu bytes at %#llx are not in one allocation: ", bytes,
                static_cast<unsigned long long>(address));
  return text + memory.describe(address);
}

unsigned threads_of(const Size3& size) { return size.x * size.y * size.z; }

// Empty, or why no device would start this.
std::string refusal(const Kernel& kernel, const Launch& launch) {
  const unsigned block[3] = {launch.block.x, launch.block.y, launch.block.z};
  const unsigned grid[3] = {launch.grid.x, launch.grid.y, launch.grid.z};
  for (int k = 0; k < 3; ++k) {
    if (block[k] == 0 || block[k] > kMaxBlock[k]) return "a CTA of such a size";
    if (grid[k] == 0 || grid[k] > kMaxGrid[k]) return "a grid of such a size";
  }
  const unsigned threads = threads_of(launch.block);
  if (threads > kMaxThreads) return std::to_string(threads) + " threads in a CTA";
  if (std::uint64_t{grid[0]} * grid[1] * grid[2] > kMaxCtas) {
    return "more CTAs than can be told apart here";
  }
  if (kernel.max_block.x != 0 && threads > threads_of(kernel.max_block)) {
    return std::to_string(threads) + " threads, more than .maxntid";
  }
  const Size3& required = kernel.required_block;
  if (required.x != 0 &&
      (required.x != block[0] || required.y != block[1] || required.z != block[2])) {
    return "a CTA that is not .reqntid";
  }
  if (kernel.static_shared + launch.dynamic_shared > kMaxShared) {
    return std::to_string(kernel.static_shared + launch.dynamic_shared) + " bytes of shared memory";
  }
  if (launch.parameters.size() != kernel.parameter_bytes) {
    return std::to_string(launch.parameters.size()) + " bytes of parameters instead of " +
           std::to_string(kernel.parameter_bytes);
  }
  return {};
}

}  // namespace

struct Machine::State {
  struct LoadedModule {
    std::shared_ptr<const Code> code;
    std::vector<Address> variables;
  };

  explicit State(std::size_t bytes) : memory(bytes) {}

  Memory memory;
  std::map<Loaded, LoadedModule> modules;
  Loaded next_module = 1;
  Clock clock = 1;
};

Machine::Machine(std::size_t memory_bytes) : state_(std::make_unique<State>(memory_bytes)) {}
Machine::~Machine() = default;

Address Machine::allocate(std::size_t bytes, std::string_view name) {
  return state_->memory.allocate(bytes, name);
}
bool Machine::release(Address address) { return state_->memory.release(address); }
std::size_t Machine::bytes_used() const { return state_->memory.used(); }
std::size_t Machine::bytes_total() const { return state_->memory.total(); }

std::size_t Machine::room(Address address) const {
  const Buffer* buffer = state_->memory.find(address);
  return buffer == nullptr ? 0 : buffer->bytes - (address - buffer->base);
}

Address Machine::begin_of(Address address) const {
  const Buffer* buffer = state_->memory.find(address);
  return buffer == nullptr ? 0 : buffer->base;
}

std::string Machine::write(Address to, const void* from, std::size_t bytes) {
  if (bytes == 0) return {};
  if (room(to) < bytes) return outside(state_->memory, to, bytes);
  Buffer& buffer = *state_->memory.find(to);
  std::memcpy(buffer.data.get() + (to - buffer.base), from, bytes);
  buffer.mark(to - buffer.base, bytes, true);
  return {};
}

std::string Machine::read(void* to, Address from, std::size_t bytes) const {
  if (bytes == 0) return {};
  if (room(from) < bytes) return outside(state_->memory, from, bytes);
  const Buffer& buffer = *state_->memory.find(from);
  std::memcpy(to, buffer.data.get() + (from - buffer.base), bytes);
  return {};
}

std::string Machine::fill(Address to, std::uint8_t value, std::size_t bytes) {
  if (bytes == 0) return {};
  if (room(to) < bytes) return outside(state_->memory, to, bytes);
  Buffer& buffer = *state_->memory.find(to);
  std::memset(buffer.data.get() + (to - buffer.base), value, bytes);
  buffer.mark(to - buffer.base, bytes, true);
  return {};
}

std::string Machine::copy(Address to, Address from, std::size_t bytes) {
  if (bytes == 0) return {};
  if (room(to) < bytes) return outside(state_->memory, to, bytes);
  if (room(from) < bytes) return outside(state_->memory, from, bytes);
  Buffer& target = *state_->memory.find(to);
  const Buffer& source = *state_->memory.find(from);
  const std::size_t to_at = to - target.base, from_at = from - source.base;
  std::vector<bool> written(source.unwritten == 0 ? 0 : bytes);
  for (std::size_t k = 0; k < written.size(); ++k) written[k] = source.is_written(from_at + k, 1);
  std::memmove(target.data.get() + to_at, source.data.get() + from_at, bytes);
  if (written.empty()) target.mark(to_at, bytes, true);
  for (std::size_t k = 0; k < written.size(); ++k) target.mark(to_at + k, 1, written[k]);
  return {};
}

std::string Machine::protect(Address allocation, bool read_only) {
  Buffer* buffer = state_->memory.find(allocation);
  if (buffer == nullptr) return outside(state_->memory, allocation, 1);
  buffer->read_only = read_only;
  return {};
}

std::size_t Machine::never_written(Address from, std::size_t bytes) const {
  const Buffer* buffer = state_->memory.find(from);
  if (buffer == nullptr || buffer->unwritten == 0) return 0;
  std::size_t count = 0;
  for (std::size_t k = 0; k < std::min(bytes, room(from)); ++k) {
    count += buffer->is_written(from - buffer->base + k, 1) ? 0 : 1;
  }
  return count;
}

Machine::Loaded Machine::load(const Module& module) {
  State::LoadedModule loaded;
  loaded.code = ModuleAccess::code(module);
  if (!loaded.code) return 0;
  const std::vector<Variable>& variables = loaded.code->variables;
  for (const Variable& variable : variables) {
    const Address address =
        allocate(std::max<std::size_t>(variable.symbol.bytes, 1), variable.symbol.name);
    if (address == 0) {
      for (const Address taken : loaded.variables) release(taken);
      return 0;
    }
    loaded.variables.push_back(address);
    std::vector<std::byte> bytes = variable.first;
    bytes.resize(room(address));
    write(address, bytes.data(), bytes.size());
  }
  for (std::size_t k = 0; k < variables.size(); ++k) {
    for (const Relocation& relocation : variables[k].relocations) {
      Address value = 0;
      for (std::size_t m = 0; m < variables.size(); ++m) {
        if (variables[m].symbol.name == relocation.name) value = loaded.variables[m];
      }
      for (std::size_t m = 0; m < loaded.code->functions.size(); ++m) {
        if (loaded.code->functions[m].name != relocation.name) continue;
        value = kFunctionWindow + m * kFunctionStride;
      }
      value += static_cast<Address>(relocation.addend);
      write(loaded.variables[k] + relocation.offset, &value, sizeof value);
    }
    if (variables[k].symbol.constant) protect(loaded.variables[k], true);
  }
  state_->modules[state_->next_module] = std::move(loaded);
  return state_->next_module++;
}

void Machine::unload(Loaded loaded) {
  const auto found = state_->modules.find(loaded);
  if (found == state_->modules.end()) return;
  for (const Address address : found->second.variables) release(address);
  state_->modules.erase(found);
}

Address Machine::symbol(Loaded loaded, std::string_view name, std::size_t* bytes) const {
  const auto found = state_->modules.find(loaded);
  if (found == state_->modules.end()) return 0;
  const std::vector<Variable>& variables = found->second.code->variables;
  for (std::size_t k = 0; k < variables.size(); ++k) {
    if (variables[k].symbol.name != name) continue;
    if (bytes != nullptr) *bytes = variables[k].symbol.bytes;
    return found->second.variables[k];
  }
  return 0;
}

Report Machine::run(Loaded loaded, std::string_view kernel, const Launch& launch,
                    const Options& options) {
  Report report;
  Findings findings(options.ignored);
  const auto refuse = [&](const std::string& why) {
    findings.add(Kind::bad_launch, {}, std::string(kernel) + ": " + why);
    report.findings = findings.take();
    return report;
  };
  const auto found = state_->modules.find(loaded);
  if (found == state_->modules.end()) return refuse("no such module");
  const Code& code = *found->second.code;
  const auto at = std::find_if(code.kernels.begin(), code.kernels.end(),
                               [&](const Kernel& k) { return k.name == kernel; });
  if (at == code.kernels.end()) return refuse("no such kernel");
  const std::string why = refusal(*at, launch);
  if (!why.empty()) return refuse(why);
  const auto index = static_cast<std::size_t>(at - code.kernels.begin());
  if (state_->clock > kTiredClock) {
    state_->memory.forget_accesses();
    state_->clock = 1;
  }
  Grid grid;
  grid.code = &code;
  grid.function = &code.functions[code.kernel_functions[index]];
  grid.layout = &code.layouts[index];
  grid.memory = &state_->memory;
  grid.findings = &findings;
  grid.options = options;
  grid.grid = launch.grid;
  grid.block = launch.block;
  grid.dynamic_shared = launch.dynamic_shared;
  grid.parameters.assign(launch.parameters.begin(), launch.parameters.end());
  grid.variables = found->second.variables;
  grid.first = state_->clock;
  grid.random.seed(options.seed);
  grid.last_buffers.assign(static_cast<std::size_t>(code.last_line) + 1, nullptr);
  state_->clock = run_grid(grid);
  report.instructions = grid.instructions;
  report.findings = findings.take();
  return report;
}

}  // namespace dsv32::ptxemu
