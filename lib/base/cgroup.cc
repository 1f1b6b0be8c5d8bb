// A quota is `cpu.max` ("max 100000" or "150000 100000") in version 2, and two files in version 1.
// A limit of memory is a file in both; beside it stand the bytes in use, caches of files included.
#include "lib/base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace dsv32 {
namespace {

using Path = std::filesystem::path;
constexpr double kNone = std::numeric_limits<double>::infinity();

// A file may be absent, hold "max", or -1: no limit.
std::optional<double> number(std::istream& in) {
  double value = 0;
  return in >> value && value > 0 ? std::optional(value) : std::nullopt;
}

double ratio(std::optional<double> quota, std::optional<double> period) {
  return quota && period ? *quota / *period : kNone;
}

double quota_v2(const Path& group) {
  std::ifstream file(group / "cpu.max");
  const auto quota = number(file), period = number(file);
  return ratio(quota, period);
}

double quota_v1(const Path& group) {
  std::ifstream quota(group / "cpu.cfs_quota_us"), period(group / "cpu.cfs_period_us");
  return ratio(number(quota), number(period));
}

// Bytes of files that the kernel drops before it refuses memory.
double cached(const Path& group, const std::string& prefix) {
  std::ifstream file(group / "memory.stat");
  double bytes = 0, value = 0;
  for (std::string name; file >> name >> value;) {
    if (name == prefix + "active_file" || name == prefix + "inactive_file") bytes += value;
  }
  return bytes;
}

double memory_left(const Path& group, const char* limit_file, const char* used_file,
                   const char* prefix) {
  std::ifstream limit_in(group / limit_file), used_in(group / used_file);
  const std::optional<double> limit = number(limit_in);
  if (!limit) return kNone;
  const double used = number(used_in).value_or(0) - cached(group, prefix);
  return std::max(0.0, *limit - std::max(0.0, used));
}

double memory_v2(const Path& group) {
  return memory_left(group, "memory.max", "memory.current", "");
}

double memory_v1(const Path& group) {  // its plain counts leave out groups below
  return memory_left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
}

// One controller: its name in version 1, and what a group leaves in either version.
struct Controller {
  const char* name;
  double (*v1)(const Path&);
  double (*v2)(const Path&);
};

// The least value from `group` up to the mount. Inside a container the path may be the host's: then
// only the mount itself exists, and that is our group.
double least(const Path& mount, const Path& group, double (*value)(const Path&)) {
  double out = value(mount);
  Path at = mount;
  for (const Path& part : group.relative_path()) {
    if (part == "..") break;  // above the root of our namespace
    out = std::min(out, value(at /= part));
  }
  return out;
}

bool lists(const std::string& controllers, const char* wanted) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == wanted) return true;
  }
  return false;
}

double least_of_all(const CgroupFiles& files, const Controller& controller) {
  std::ifstream self(files.self);
  double out = std::min(controller.v2(files.mount), controller.v2(files.mount / "unified"));
  // Lines are "id:controllers:path"; version 2 has no controllers.
  for (std::string line; std::getline(self, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const Path group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const Path& mount : {files.mount, files.mount / "unified"})
        out = std::min(out, least(mount, group, controller.v2));
    } else if (lists(controllers, controller.name)) {
      for (const Path& mount : {files.mount / controllers, files.mount / controller.name})
        out = std::min(out, least(mount, group, controller.v1));
    }
  }
  return out;
}

}  // namespace

double cgroup_cpus(const CgroupFiles& files) {
  return least_of_all(files, {"cpu", quota_v1, quota_v2});
}

std::optional<std::size_t> cgroup_memory(const CgroupFiles& files) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  const double bytes = least_of_all(files, {"memory", memory_v1, memory_v2});
  if (bytes >= static_cast<double>(kMost)) return {};
  return static_cast<std::size_t>(bytes);
}

}  // namespace dsv32
