// Quotas of both versions of control groups, from files as the kernel lays them out.
#include "lib/base/cgroup.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

// A made-up /proc/self/cgroup and /sys/fs/cgroup.
class Tree {
 public:
  Tree() {
    std::string name = std::filesystem::temp_directory_path() / "dsv32-cgroup-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    root_ = name;
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  double cpus() const { return cgroup_cpus({.self = root_ / "self", .mount = root_ / "sys"}); }

 private:
  std::filesystem::path root_;
};

TEST_CASE("no control groups, no quota") {
  const Tree tree;
  CHECK(std::isinf(tree.cpus()));
  tree.write("self", "0::/\nnonsense\n:\n");
  CHECK(std::isinf(tree.cpus()));
}

TEST_CASE("version 2: the least quota on the way up") {
  const Tree tree;
  tree.write("self", "0::/a/b\n");
  tree.write("sys/a/b/cpu.max", "max 100000\n");
  CHECK(std::isinf(tree.cpus()));
  tree.write("sys/a/cpu.max", "250000 100000\n");
  CHECK(tree.cpus() == 2.5);
  tree.write("sys/a/b/cpu.max", "50000 100000\n");
  CHECK(tree.cpus() == 0.5);
  tree.write("self", "0::/../elsewhere\n");  // outside our namespace: only the mount counts
  CHECK(std::isinf(tree.cpus()));
  tree.write("sys/cpu.max", "300000 100000\n");
  CHECK(tree.cpus() == 3.0);
  for (const char* broken : {"", "max", "-1 100000", "100000 0", "100000", "x y"}) {
    tree.write("sys/cpu.max", broken);
    CHECK(std::isinf(tree.cpus()));
  }
}

TEST_CASE("version 1: quota and period are two files, and controllers share a mount") {
  for (const std::string controllers : {"cpu", "cpu,cpuacct", "cpuacct,cpu"}) {
    const Tree tree;
    tree.write("self", "7:memory:/m\n4:" + controllers + ":/docker/1:2\n3:cpuset:/c\n");
    const std::string group = "sys/" + controllers + "/docker/1:2";
    tree.write(group + "/cpu.cfs_period_us", "100000\n");
    tree.write(group + "/cpu.cfs_quota_us", "-1\n");
    CHECK(std::isinf(tree.cpus()));
    tree.write(group + "/cpu.cfs_quota_us", "400000\n");
    CHECK(tree.cpus() == 4.0);
    tree.write("sys/" + controllers + "/cpu.cfs_period_us", "50000\n");
    tree.write("sys/" + controllers + "/cpu.cfs_quota_us", "75000\n");
    CHECK(tree.cpus() == 1.5);
  }
}

}  // namespace
}  // namespace dsv32::test
