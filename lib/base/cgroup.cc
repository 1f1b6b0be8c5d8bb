// A quota is `cpu.max` ("max 100000" or "150000 100000") in version 2, and two files in version 1.
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

// The least quota from `group` up to the mount. Inside a container the path may be the host's: then
// only the mount itself exists, and that is our group.
double least(const Path& mount, const Path& group, double (*quota)(const Path&)) {
  double cpus = quota(mount);
  Path at = mount;
  for (const Path& part : group.relative_path()) {
    if (part == "..") break;  // above the root of our namespace
    cpus = std::min(cpus, quota(at /= part));
  }
  return cpus;
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

double cgroup_cpus(const CgroupFiles& files) {
  std::ifstream self(files.self);
  double cpus = std::min(quota_v2(files.mount), quota_v2(files.mount / "unified"));
  // Lines are "id:controllers:path"; version 2 has no controllers.
  for (std::string line; std::getline(self, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const Path group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const Path& mount : {files.mount, files.mount / "unified"})
        cpus = std::min(cpus, least(mount, group, quota_v2));
    } else if (lists_cpu(controllers)) {
      for (const Path& mount : {files.mount / controllers, files.mount / "cpu"})
        cpus = std::min(cpus, least(mount, group, quota_v1));
    }
  }
  return cpus;
}

}  // namespace dsv32
