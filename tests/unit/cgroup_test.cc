// Quotas and limits of both versions of control groups, from files as the kernel lays them out.
#include "lib/base/cgroup.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
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
  double cpus() const { return cgroup_cpus(files()); }
  std::size_t memory() const {
    return cgroup_memory(files()).value_or(std::numeric_limits<std::size_t>::max());
  }

 private:
  CgroupFiles files() const { return {.self = root_ / "self", .mount = root_ / "sys"}; }

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

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

TEST_CASE("no control groups, no limit of memory") {
  const Tree tree;
  CHECK(tree.memory() == kUnlimited);
  tree.write("self", "0::/\n7:memory:/m\nnonsense\n");
  CHECK(tree.memory() == kUnlimited);
}

TEST_CASE("version 2: memory that the least limit on the way up leaves") {
  const Tree tree;
  tree.write("self", "0::/a/b\n");
  tree.write("sys/a/b/memory.max", "max\n");
  tree.write("sys/a/b/memory.current", "123\n");
  CHECK(tree.memory() == kUnlimited);
  tree.write("sys/a/memory.max", "8589934592\n");
  CHECK(tree.memory() == 8589934592u);
  tree.write("sys/a/memory.current", "4096\n");
  CHECK(tree.memory() == 8589930496u);
  tree.write("sys/a/b/memory.max", "1000\n");
  CHECK(tree.memory() == 877);
  tree.write("sys/a/b/memory.current", "1001\n");
  CHECK(tree.memory() == 0);
  // A model's file that an earlier run has read is not in the way of the next.
  tree.write("sys/a/b/memory.stat", "anon 301\nfile 700\ninactive_file 500\nactive_file 200\n");
  CHECK(tree.memory() == 699);
  tree.write("sys/a/b/memory.stat", "inactive_file 99999\n");
  CHECK(tree.memory() == 1000);
  for (const char* broken : {"", "-1", "x", "\n"}) {
    tree.write("sys/a/b/memory.max", broken);
    CHECK(tree.memory() == 8589930496u);
  }
}

TEST_CASE("version 1: a limit and what is used, of the memory controller alone") {
  const Tree tree;
  tree.write("self", "7:cpu:/c\n4:memory:/docker/1:2\n");
  tree.write("sys/memory/docker/1:2/memory.limit_in_bytes", "9223372036854771712\n");  // none
  tree.write("sys/memory/docker/1:2/memory.usage_in_bytes", "500\n");
  CHECK(tree.memory() > std::size_t{1} << 62);
  tree.write("sys/cpu/c/memory.limit_in_bytes", "1\n");  // not that controller's
  CHECK(tree.memory() > std::size_t{1} << 62);
  tree.write("sys/memory/docker/1:2/memory.limit_in_bytes", "3000\n");
  CHECK(tree.memory() == 2500);
  tree.write("sys/memory/docker/1:2/memory.stat",
             "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 50\n");
  CHECK(tree.memory() == 2650);
  tree.write("sys/memory/memory.limit_in_bytes", "2000\n");  // the mount, as a container sees it
  CHECK(tree.memory() == 2000);
}

TEST_CASE("both versions at once: the lesser counts") {
  const Tree tree;
  tree.write("self", "4:memory:/m\n5:cpu:/m\n0::/u\n");
  tree.write("sys/memory/m/memory.limit_in_bytes", "5000\n");
  tree.write("sys/unified/u/memory.max", "4000\n");
  tree.write("sys/cpu/m/cpu.cfs_quota_us", "300000\n");
  tree.write("sys/cpu/m/cpu.cfs_period_us", "100000\n");
  tree.write("sys/unified/u/cpu.max", "400000 100000\n");
  CHECK(tree.memory() == 4000);
  CHECK(tree.cpus() == 3.0);
}

}  // namespace
}  // namespace dsv32::test
