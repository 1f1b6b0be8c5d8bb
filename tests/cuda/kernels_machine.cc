#include "tests/cuda/kernels_machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>

#include "tests/ptxemu/machine.h"

namespace dsv32::test {
namespace {

// Where nvcc's PTX lies; the mutation suite has copies with mistakes in them.
std::string ptx_folder() {
  const char* other = std::getenv("DSV32_TEST_PTX");
  return other != nullptr ? other : DSV32_PTX_DIR;
}

// Every file of kernels, decoded once.
const std::map<std::string, ptxemu::Module>& kernel_files() {
  static const auto files = [] {
    std::map<std::string, ptxemu::Module> all;
    for (const cuda::KernelName& name : cuda::kKernelNames) {
      if (all.contains(name.file)) continue;
      const std::string path = ptx_folder() + "/" + name.file + ".ptx";
      std::ifstream file(path);
      INFO(path);
      REQUIRE(file);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      const ptxemu::ParseResult parsed = ptxemu::parse(text);
      INFO(parsed.line << ": " << parsed.error);
      REQUIRE(parsed.ok);
      all.emplace(name.file, parsed.module);
    }
    return all;
  }();
  return files;
}

ptxemu::Address address_of(const void* pointer) {
  return reinterpret_cast<ptxemu::Address>(pointer);
}

// What the fake driver's variables say, so that all of a program runs on another schedule.
std::uint64_t number_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : 0;
}

}  // namespace

struct KernelMachine::State {
  ptxemu::Machine machine;
  std::vector<ptxemu::Machine::Loaded> loaded;  // as the files of kernel_files()
  std::vector<ptxemu::Address> allocations;
  std::uint64_t seed = 0;
  ptxemu::Meter* meter = nullptr;
};

KernelMachine::KernelMachine(std::uint64_t seed) : state_(std::make_unique<State>()) {
  state_->seed = seed;
  for (const auto& [name, module] : kernel_files())
    state_->loaded.push_back(state_->machine.load(module));
}
KernelMachine::~KernelMachine() = default;

void* KernelMachine::allocate(std::size_t bytes) {
  const ptxemu::Address at = state_->machine.allocate(std::max<std::size_t>(bytes, 1));
  REQUIRE(at != 0);
  state_->allocations.push_back(at);
  return reinterpret_cast<void*>(at);
}

void* KernelMachine::put_bytes(const void* from, std::size_t bytes) {
  void* at = allocate(bytes);
  if (bytes > 0) REQUIRE(state_->machine.write(address_of(at), from, bytes).empty());
  return at;
}

std::byte* KernelMachine::put_at(const Bytes& values, std::size_t gap) {
  auto* at = static_cast<std::byte*>(allocate(values.size() + gap)) + gap;
  if (!values.empty())
    REQUIRE(state_->machine.write(address_of(at), values.data(), values.size()).empty());
  return at;
}

void KernelMachine::get_bytes(void* to, const void* from, std::size_t bytes) {
  REQUIRE(state_->machine.never_written(address_of(from), bytes) == 0);
  REQUIRE(state_->machine.read(to, address_of(from), bytes).empty());
  note_result(function_, to, bytes);
}

void KernelMachine::measure(ptxemu::Meter* meter) { state_->meter = meter; }

void KernelMachine::run(const cuda::Launch& launch, std::span<const std::byte> arguments) {
  if (launch.empty()) return;
  const cuda::KernelName& name = cuda::kKernelNames[static_cast<int>(launch.kernel)];
  function_ = name.function;
  const auto file = kernel_files().find(name.file);
  const auto number = static_cast<std::size_t>(std::distance(kernel_files().begin(), file));
  const bool counts = state_->meter != nullptr;
  const ptxemu::Report report =
      state_->machine.run(state_->loaded[number], name.function,
                          {.grid = {launch.grid_x, launch.grid_y, launch.grid_z},
                           .block = {launch.threads, 1, 1},
                           .dynamic_shared = launch.shared,
                           .parameters = arguments},
                          // With each of the environment's seeds the tensor cores of another GPU.
                          {.mode = static_cast<ptxemu::Mode>(number_of("FAKECUDA_SEED") % 4),
                           .seed = state_->seed + number_of("FAKECUDA_SEED"),
                           .order = counts ? ptxemu::Order::forward : ptxemu::Order::random,
                           .eager = number_of("FAKECUDA_EAGER") != 0,
                           .detect = !counts,
                           .meter = state_->meter});
  INFO(name.function << ": " << report.text());
  REQUIRE(report.clean());
  instructions_ += report.instructions;
}

std::optional<double> KernelMachine::time(const cuda::Launch&, std::span<const std::byte>) {
  return {};
}

void KernelMachine::clear() {
  for (const ptxemu::Address at : state_->allocations) state_->machine.release(at);
  state_->allocations.clear();
}

}  // namespace dsv32::test
