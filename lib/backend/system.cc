// What this machine is, and available_backends().
#include "lib/backend/system.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "dsv32/backend.h"

#include "lib/backend/backend_kind.h"
#include "lib/base/cgroup.h"
#include "lib/base/check.h"

#include "kernels/cpu/table.h"

namespace dsv32 {
namespace {

// The text behind "`key`: " or "`key` : " in a file of /proc; empty if there is none.
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t:", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::size_t meminfo_bytes(std::string_view key) {
  std::size_t kib = 0;
  for (const char c : proc_value("/proc/meminfo", key)) {
    if (c < '0' || c > '9') break;
    kib = kib * 10 + static_cast<std::size_t>(c - '0');
  }
  return kib * 1024;
}

}  // namespace

Executor::~Executor() = default;

bool Executor::run_one() {
  has_run_one_.store(false, std::memory_order_relaxed);
  return false;
}

std::size_t available_memory() { return std::min(meminfo_bytes("MemAvailable"), cgroup_memory()); }

BackendInfo cpu_info() {
  BackendInfo cpu;
  cpu.device = Device::cpu;
  cpu.name = proc_value("/proc/cpuinfo", "model name");
  if (cpu.name.empty()) cpu.name = "CPU";
  cpu.memory_bytes = meminfo_bytes("MemTotal");
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  for (int i = 0; i < tables.count; ++i) cpu.kernel_sets.emplace_back(tables.tables[i]->name);
  return cpu;
}

std::vector<BackendInfo> available_backends() {
  std::vector<BackendInfo> all;
  for (const BackendKind* kind : backend_kinds()) {
    for (BackendInfo& info : kind->devices()) all.push_back(std::move(info));
  }
  return all;
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
