// What this machine is.
#ifndef DSV32_LIB_BACKEND_SYSTEM_H_
#define DSV32_LIB_BACKEND_SYSTEM_H_

#include <cstddef>
#include <filesystem>
#include <optional>

#include "dsv32/backend.h"

#include "lib/base/cgroup.h"

namespace dsv32 {

// Where the system says what it is and has.
struct SystemFiles {
  std::filesystem::path memory = "/proc/meminfo";
  CgroupFiles cgroup{};
};

// Memory that this process could still take: MemAvailable, and what its cgroup leaves; the smaller.
// None if neither is to be found out, as where /proc is not mounted.
std::optional<std::size_t> available_memory(const SystemFiles& files = {});

BackendInfo cpu_info();

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_SYSTEM_H_
