// Failures that the fake driver is told to have, and those that kernels cause.
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/ptxemu/fake_world.h"

namespace dsv32::fakecuda::test {

TEST_CASE("fake driver: the n-th call of a name fails once") {
  World world;
  DevicePointer p = 0;
  CHECK(api().fail("cuMemAlloc_v2", 2, out_of_memory) == 0);
  CHECK(api().fail("no such call", 1, 2) == -1);
  CHECK(api().fail("cuInit", 0, 2) == -1);
  const DevicePointer first = world.allocate(4);
  CHECK(api().cuMemAlloc_v2(&p, 4) == out_of_memory);
  CHECK(p == 0);
  CHECK(world.allocate(4) != first);
  // Allocations of both kinds, counted together.
  void* host = nullptr;
  CHECK(api().fail("allocation", 2, out_of_memory) == 0);
  world.allocate(4);
  CHECK(api().cuMemHostAlloc(&host, 4, 0) == out_of_memory);
  world.pin({1});
  CHECK(api().live("allocation") == 4);
}

TEST_CASE("fake driver: an error that no context survives stays until its last release") {
  World world;
  const DevicePointer p = world.make_words({1});
  Handle again = nullptr;
  CHECK(api().fail("cuLaunchKernel", 1, launch_failed) == 0);
  CHECK(world.add(p, 1, 1) == launch_failed);
  CHECK(api().cuStreamSynchronize(world.stream) == launch_failed);
  CHECK(api().cuMemFree_v2(p) == launch_failed);
  CHECK(api().cuModuleUnload(world.module) == launch_failed);
  CHECK(api().live("device") == 4);
  // Another user of the device retains the same context: it is as broken for it.
  CHECK(api().cuDevicePrimaryCtxRetain(&again, 0) == success);
  CHECK(again == world.context);
  CHECK(api().cuStreamSynchronize(world.stream) == launch_failed);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == success);
  CHECK(api().live("device") == 4);
  // The other device is as it was.
  Handle other = nullptr;
  DevicePointer elsewhere = 0;
  CHECK(api().cuDevicePrimaryCtxRetain(&other, 1) == success);
  CHECK(api().cuCtxPushCurrent_v2(other) == success);
  CHECK(api().cuMemAlloc_v2(&elsewhere, 4) == success);
  CHECK(api().cuMemFree_v2(elsewhere) == success);
  CHECK(api().cuCtxPopCurrent_v2(&other) == success);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(1) == success);
  world.expect_broken();
}

TEST_CASE("fake driver: after a broken context's end the device works again") {
  {
    World world;
    world.expect_broken();
    api().fail("cuStreamSynchronize", 1, 719);
    CHECK(api().cuStreamSynchronize(world.stream) == launch_failed);
  }
  Handle context = nullptr;
  DevicePointer p = 0;
  CHECK(api().cuDevicePrimaryCtxRetain(&context, 0) == success);
  CHECK(api().cuCtxPushCurrent_v2(context) == success);
  CHECK(api().cuMemAlloc_v2(&p, 4) == success);
  CHECK(api().cuMemFree_v2(p) == success);
  CHECK(api().cuCtxPopCurrent_v2(&context) == success);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == success);
}

TEST_CASE("fake driver: a kernel fails when it runs, in a graph's second launch, too") {
  World world;
  const DevicePointer p = world.make_words({1});
  Handle graph = nullptr, executable = nullptr;
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  CHECK(world.add(p, 1, 1) == success);
  CHECK(world.multiply(p, 2, 1) == success);
  REQUIRE(api().cuStreamEndCapture(world.stream, &graph) == success);
  REQUIRE(api().cuGraphInstantiateWithFlags(&executable, graph, 0) == success);
  CHECK(api().fail("kernel", 4, launch_failed) == 0);
  CHECK(api().cuGraphLaunch(executable, world.stream) == success);
  CHECK(api().cuStreamSynchronize(world.stream) == success);
  CHECK(world.read(p, 1) == Words{4});
  CHECK(api().cuGraphLaunch(executable, world.stream) == success);  // says nothing yet
  CHECK(api().cuStreamSynchronize(world.stream) == launch_failed);
  CHECK(api().cuGraphLaunch(executable, world.stream) == launch_failed);
  world.expect_broken();
}

TEST_CASE("fake driver: what the emulator finds breaks the context") {
  {
    World world;
    const DevicePointer p = world.make_words({1, 2});
    CHECK(world.add(p, 1, 3) == success);
    CHECK(api().cuStreamSynchronize(world.stream) == illegal_address);
    world.expect_findings("kernel add");
    world.expect_broken();
  }
  World world;  // values alone
  api().set("strict", 0);
  const DevicePointer p = world.make_words({1, 2});
  CHECK(world.add(p, 1, 3) == success);
  CHECK(world.read(p, 2) == Words{2, 3});
  world.expect_findings("kernel add");
}

TEST_CASE("fake driver: one device's address means nothing on the other") {
  World world;
  Handle other = nullptr;
  CHECK(api().cuDevicePrimaryCtxRetain(&other, 1) == success);
  CHECK(api().cuCtxPushCurrent_v2(other) == success);
  DevicePointer theirs = 0;
  CHECK(api().cuMemAlloc_v2(&theirs, 4) == success);
  CHECK(api().cuCtxPopCurrent_v2(&other) == success);
  Words word{1};
  CHECK(api().cuMemcpyHtoDAsync_v2(theirs, word.data(), 4, world.stream) == invalid_value);
  world.expect_findings("not all of one allocation");
  CHECK(api().cuMemFree_v2(theirs) == invalid_value);
  CHECK(world.add(theirs, 1, 1) == success);
  CHECK(api().cuStreamSynchronize(world.stream) == illegal_address);
  world.expect_findings("kernel add");
  world.expect_broken();
  CHECK(api().cuCtxPushCurrent_v2(other) == success);
  CHECK(api().cuMemFree_v2(theirs) == success);
  CHECK(api().cuCtxPopCurrent_v2(&other) == success);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(1) == success);
}

TEST_CASE("fake driver: it vanishes, and only texts are left") {
  World world;
  const DevicePointer p = world.make_words({1});
  const char* text = nullptr;
  api().vanish(2, unknown);
  CHECK(world.add(p, 1, 1) == success);
  CHECK(world.add(p, 1, 1) == unknown);
  CHECK(api().cuStreamSynchronize(world.stream) == unknown);
  CHECK(api().cuMemFree_v2(p) == unknown);
  CHECK(api().cuInit(0) == unknown);
  CHECK(api().cuGetErrorString(unknown, &text) == success);
  CHECK(std::string(text) == "unknown error");
  api().vanish(0, success);
}

TEST_CASE("fake driver: a forked child may not call it") {
  World world;
  const pid_t child = fork();
  if (child == 0) {
    std::size_t bytes = 0;
    api().cuMemGetInfo_v2(&bytes, &bytes);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 70);
}

}  // namespace dsv32::fakecuda::test
