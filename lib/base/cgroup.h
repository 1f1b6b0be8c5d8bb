// What this process's control groups leave it.
#ifndef DSV32_LIB_BASE_CGROUP_H_
#define DSV32_LIB_BASE_CGROUP_H_

#include <cstddef>
#include <filesystem>
#include <optional>

namespace dsv32 {

// Where the kernel says which groups we are in, and where they are mounted.
struct CgroupFiles {
  std::filesystem::path self = "/proc/self/cgroup";
  std::filesystem::path mount = "/sys/fs/cgroup";
};

// Processors' worth of time in a period: the least quota of our group and those above it, of
// version 1 and version 2. Infinity if there is none.
double cgroup_cpus(const CgroupFiles& files = {});

// Bytes that the least limit of these groups leaves: what files only cache counts as free. None if
// there is no limit.
std::optional<std::size_t> cgroup_memory(const CgroupFiles& files = {});

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_CGROUP_H_
