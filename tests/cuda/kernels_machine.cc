#include "tests/cuda/kernels_machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>

namespace dsv32::test {
namespace {

// Every file of kernels, decoded once.
const std::map<std::string, ptxemu::Module>& kernel_files() {
  static const auto files = [] {
    std::map<std::string, ptxemu::Module> all;
    for (const cuda::KernelName& name : cuda::kKernelNames) {
      if (all.contains(name.file)) continue;
      const std::string path = std::string(DSV32_PTX_DIR "/") + name.file + ".ptx";
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

KernelMachine::KernelMachine(std::uint64_t seed) : seed_(seed) {
  for (const auto& [name, module] : kernel_files()) loaded_.push_back(machine_.load(module));
}

void* KernelMachine::allocate(std::size_t bytes) {
  const ptxemu::Address at = machine_.allocate(std::max<std::size_t>(bytes, 1));
  REQUIRE(at != 0);
  allocations_.push_back(at);
  return reinterpret_cast<void*>(at);
}

void* KernelMachine::put_bytes(const void* from, std::size_t bytes) {
  void* at = allocate(bytes);
  if (bytes > 0) REQUIRE(machine_.write(address_of(at), from, bytes).empty());
  return at;
}

std::byte* KernelMachine::put_at(const Bytes& values, std::size_t gap) {
  auto* at = static_cast<std::byte*>(allocate(values.size() + gap)) + gap;
  if (!values.empty())
    REQUIRE(machine_.write(address_of(at), values.data(), values.size()).empty());
  return at;
}

void KernelMachine::get_bytes(void* to, const void* from, std::size_t bytes) {
  REQUIRE(machine_.never_written(address_of(from), bytes) == 0);
  REQUIRE(machine_.read(to, address_of(from), bytes).empty());
}

void KernelMachine::run(const cuda::Launch& launch, std::span<const std::byte> arguments) {
  if (launch.empty()) return;
  const cuda::KernelName& name = cuda::kKernelNames[static_cast<int>(launch.kernel)];
  const auto file = kernel_files().find(name.file);
  const auto number = static_cast<std::size_t>(std::distance(kernel_files().begin(), file));
  const ptxemu::Report report =
      machine_.run(loaded_[number], name.function,
                   {.grid = {launch.grid_x, launch.grid_y, launch.grid_z},
                    .block = {launch.threads, 1, 1},
                    .dynamic_shared = launch.shared,
                    .parameters = arguments},
                   // With each of the environment's seeds the tensor cores of another GPU.
                   {.mode = static_cast<ptxemu::Mode>(number_of("FAKECUDA_SEED") % 4),
                    .seed = seed_ + number_of("FAKECUDA_SEED"),
                    .eager = number_of("FAKECUDA_EAGER") != 0});
  INFO(name.function << ": " << report.text());
  REQUIRE(report.clean());
  instructions_ += report.instructions;
}

void KernelMachine::clear() {
  for (const ptxemu::Address at : allocations_) machine_.release(at);
  allocations_.clear();
}

const kernels::CpuKernels& reference_twins() {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  return *tables.tables[tables.count - 1];
}

}  // namespace dsv32::test
