// What this machine is, and available_backends().
#include "lib/backend/system.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <sys/sysinfo.h>
#include <system_error>
#include <utility>

#include "dsv32/backend.h"

#include "lib/backend/backend_kind.h"
#include "lib/base/check.h"
#include "lib/base/float_state.h"

#include "kernels/cpu/table.h"

namespace dsv32 {
namespace {

// The text behind "`key`: " or "`key` : " in a file of /proc; empty if there is none.
std::string proc_value(const std::filesystem::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t:", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::optional<std::size_t> meminfo_bytes(const std::filesystem::path& file, std::string_view key) {
  const std::string text = proc_value(file, key);
  std::size_t kib = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), kib);
  if (error != std::errc()) return {};
  return kib * 1024;
}

// Without /proc, too.
std::size_t all_memory() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return 0;
  return std::size_t{info.totalram} * info.mem_unit;
}

}  // namespace

Executor::~Executor() = default;

bool Executor::run_one() {
  has_run_one_.store(false, std::memory_order_relaxed);
  return false;
}

std::optional<std::size_t> available_memory(const SystemFiles& files) {
  const std::optional<std::size_t> machine = meminfo_bytes(files.memory, "MemAvailable");
  const std::optional<std::size_t> group = cgroup_memory(files.cgroup);
  return machine && group ? std::min(machine, group) : machine ? machine : group;
}

BackendInfo cpu_info() {
  BackendInfo cpu;
  cpu.device = Device::cpu;
  cpu.name = proc_value("/proc/cpuinfo", "model name");
  if (cpu.name.empty()) cpu.name = "CPU";
  cpu.memory_bytes = all_memory();
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  for (int i = 0; i < tables.count; ++i) cpu.kernel_sets.emplace_back(tables.tables[i]->name);
  return cpu;
}

std::vector<BackendInfo> available_backends(const std::filesystem::path& module_path) {
  const FloatState ours;  // paths compute with floats when they grow
  std::vector<BackendInfo> all;
  for (const BackendKind* kind : backend_kinds()) {
    for (BackendInfo& info : kind->devices({.device = kind->device, .module_path = module_path}))
      all.push_back(std::move(info));
  }
  return all;
}

std::string unavailable_reason(Device device, const std::filesystem::path& module_path) {
  const FloatState ours;
  try {
    static_cast<void>(backend_kind(device).shapes({.device = device, .module_path = module_path}));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

const BackendKind& backend_kind(Device device) {
  for (const BackendKind* kind : backend_kinds()) {
    if (kind->device == device) return *kind;
  }
  throw Error(
      device == Device::cuda ? ErrorCode::unsupported : ErrorCode::invalid_argument,
      device == Device::cuda ? "this build has the CPU only, no CUDA" : "there is no such device");
}

}  // namespace dsv32
