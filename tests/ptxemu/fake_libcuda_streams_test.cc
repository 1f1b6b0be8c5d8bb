// The fake driver's order of work: streams, events, captures, graphs.
#include <cstring>
#include <functional>
#include <set>
#include <thread>

#include "tests/ptxemu/fake_world.h"

namespace dsv32::fakecuda::test {

TEST_CASE("fake driver: work waits until somebody waits for it, pinned memory until it runs") {
  World world;
  std::uint32_t* const from = world.pin({1, 2});
  std::uint32_t* const to = world.pin({0, 0});
  const DevicePointer p = world.allocate(8);
  CHECK(api().cuMemcpyHtoDAsync_v2(p, from, 8, world.stream) == success);
  from[1] = 20;  // too early on any machine; here it is certain to show
  CHECK(world.add(p, 1, 2) == success);
  CHECK(api().cuMemcpyDtoHAsync_v2(to, p, 8, world.stream) == success);
  CHECK(to[0] == 0);
  CHECK(api().count("kernels") == 0);
  CHECK(api().cuStreamQuery(world.stream) == not_ready);
  CHECK(api().cuStreamSynchronize(world.stream) == success);
  CHECK(Words(to, to + 2) == Words{2, 21});
  CHECK(api().cuStreamQuery(world.stream) == success);
  // Pageable memory is read at the call, and written before it returns.
  Words pageable{5, 6};
  CHECK(api().cuMemcpyHtoDAsync_v2(p, pageable.data(), 8, world.stream) == success);
  pageable = {0, 0};
  CHECK(api().cuMemcpyDtoHAsync_v2(pageable.data(), p, 8, world.stream) == success);
  CHECK(pageable == Words{5, 6});
}

// p = (p + 1) * 3 in two streams: with the event always, without it only sometimes.
Words in_two_streams(long long seed, bool with_event) {
  World world;
  api().set("seed", seed);
  const Handle other = world.make_stream();
  const DevicePointer p = world.make_words({10});
  Handle event = nullptr;
  CHECK(api().cuEventCreate(&event, event_no_timing) == success);
  CHECK(world.add(p, 1, 1) == success);
  CHECK(api().cuEventRecord(event, world.stream) == success);
  if (with_event) CHECK(api().cuStreamWaitEvent(other, event, 0) == success);
  CHECK(world.launch(world.multiply_, p, 3, 1, other) == success);
  CHECK(api().cuStreamSynchronize(other) == success);
  CHECK(api().cuEventSynchronize(event) == success);
  CHECK(api().cuEventDestroy_v2(event) == success);
  return world.read(p, 1);
}

TEST_CASE("fake driver: streams run in any order that events allow") {
  std::set<Words> seen;
  for (long long seed = 1; seed <= 20; ++seed) {
    CHECK(in_two_streams(seed, true) == Words{33});
    seen.insert(in_two_streams(seed, false));
  }
  CHECK(seen == std::set<Words>{{31}, {33}});
}

TEST_CASE("fake driver: events tell what is done, and when it was") {
  World world;
  const DevicePointer p = world.make_words({1});
  Handle begin = nullptr, end = nullptr;
  CHECK(api().cuEventCreate(&begin, 0) == success);
  CHECK(api().cuEventCreate(&end, 0) == success);
  float milliseconds = -1;
  CHECK(api().cuEventElapsedTime_v2(&milliseconds, begin, end) == invalid_handle);
  CHECK(api().cuEventQuery(end) == success);  // never recorded
  CHECK(api().cuEventRecord(begin, world.stream) == success);
  CHECK(world.add(p, 1, 1) == success);
  CHECK(world.add(p, 1, 1) == success);
  CHECK(api().cuEventRecord(end, world.stream) == success);
  CHECK(api().cuEventElapsedTime_v2(&milliseconds, begin, end) == not_ready);
  int questions = 0;
  while (api().cuEventQuery(end) == not_ready && questions < 10) ++questions;
  CHECK(questions == 3);
  CHECK(api().cuEventElapsedTime_v2(&milliseconds, begin, end) == success);
  CHECK(milliseconds > 0);
  CHECK(api().cuEventDestroy_v2(begin) == success);
  CHECK(api().cuEventDestroy_v2(end) == success);
}

TEST_CASE("fake driver: a destroyed stream's work still runs") {
  World world;
  const DevicePointer p = world.make_words({1});
  Handle gone = nullptr;
  CHECK(api().cuStreamCreate(&gone, stream_non_blocking) == success);
  CHECK(world.launch(world.add_, p, 1, 1, gone) == success);
  CHECK(api().cuStreamDestroy_v2(gone) == success);
  CHECK(api().cuCtxSynchronize() == success);
  CHECK(world.read(p, 1) == Words{2});
}

TEST_CASE("fake driver: the legacy stream waits for those that block") {
  World world;
  const Handle blocking = world.make_stream(stream_default);
  const DevicePointer p = world.make_words({1});
  CHECK(world.launch(world.add_, p, 1, 1, blocking) == success);
  CHECK(world.launch(world.multiply_, p, 10, 1, nullptr) == success);
  CHECK(world.launch(world.add_, p, 5, 1, blocking) == success);
  CHECK(api().cuStreamSynchronize(blocking) == success);
  CHECK(world.read(p, 1) == Words{25});
}

// A capture of `record`, instantiated.
template <class Record>
Handle capture(World& world, Record&& record) {
  Handle graph = nullptr, executable = nullptr;
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  record();
  REQUIRE(api().cuStreamEndCapture(world.stream, &graph) == success);
  REQUIRE(api().cuGraphInstantiateWithFlags(&executable, graph, 0) == success);
  REQUIRE(api().cuGraphDestroy(graph) == success);  // an executable graph lives without it
  return executable;
}

TEST_CASE("fake driver: a graph runs what was captured, again and again") {
  World world;
  std::uint32_t* const from = world.pin({3});
  std::uint32_t* const to = world.pin({0});
  const DevicePointer p = world.allocate(4);
  const Handle executable = capture(world, [&] {
    CHECK(api().cuMemcpyHtoDAsync_v2(p, from, 4, world.stream) == success);
    CHECK(world.add(p, 1, 1) == success);
    CHECK(world.multiply(p, 10, 1) == success);
    CHECK(api().cuMemcpyDtoHAsync_v2(to, p, 4, world.stream) == success);
  });
  CHECK(api().count("kernels") == 0);
  for (std::uint32_t value = 3; value < 6; ++value) {
    *from = value;  // what a graph reads is read when it runs
    api().reset_calls();
    CHECK(api().cuGraphLaunch(executable, world.stream) == success);
    CHECK(api().cuStreamSynchronize(world.stream) == success);
    CHECK(*to == (value + 1) * 10);
    CHECK(api().calls(nullptr) == 2);
    CHECK(api().count("kernels") == 2);
    CHECK(api().count("copies") == 2);
    CHECK(api().count("allocations") == 0);
  }
  CHECK(api().cuGraphLaunch(executable, world.stream) == success);
  CHECK(api().cuGraphExecDestroy(executable) == success);  // with one on its way
  CHECK(api().cuStreamSynchronize(world.stream) == success);
  CHECK(api().live("exec") == 0);
}

TEST_CASE("fake driver: a capture goes over to streams by events, and comes back") {
  std::set<Words> seen;
  for (long long seed = 1; seed <= 12; ++seed) {
    World world;
    api().set("seed", seed);
    const Handle other = world.make_stream();
    const DevicePointer p = world.make_words({1}), q = world.make_words({1});
    Handle fork = nullptr, join = nullptr;
    CHECK(api().cuEventCreate(&fork, event_no_timing) == success);
    CHECK(api().cuEventCreate(&join, event_no_timing) == success);
    const Handle executable = capture(world, [&] {
      CHECK(world.add(p, 1, 1) == success);
      CHECK(api().cuEventRecord(fork, world.stream) == success);
      CHECK(api().cuStreamWaitEvent(other, fork, 0) == success);
      CHECK(world.launch(world.move_, q, p, 1, other) == success);  // with the next: a race
      CHECK(api().cuEventRecord(join, other) == success);
      CHECK(world.multiply(p, 10, 1) == success);
      CHECK(api().cuStreamWaitEvent(world.stream, join, 0) == success);
      CHECK(world.launch(world.move_, p, q, 1, world.stream) == success);
    });
    int status = -1;
    CHECK(api().cuStreamIsCapturing(other, &status) == success);
    CHECK(status == 0);
    CHECK(api().cuStreamWaitEvent(other, join, 0) == captured_event);
    CHECK(api().cuGraphLaunch(executable, world.stream) == success);
    CHECK(api().cuStreamSynchronize(world.stream) == success);
    seen.insert(world.read(p, 1));
    CHECK(api().cuGraphExecDestroy(executable) == success);
    CHECK(api().cuEventDestroy_v2(fork) == success);
    CHECK(api().cuEventDestroy_v2(join) == success);
  }
  CHECK(seen == std::set<Words>{{2}, {20}});
}

TEST_CASE("fake driver: what a capture does not take ends it") {
  World world;
  const DevicePointer p = world.make_words({1});
  Words pageable{1};
  std::uint32_t* const pinned = world.pin({1});
  DevicePointer address = 0;
  void* host = nullptr;
  Handle graph = nullptr, module = nullptr;
  const std::vector<std::pair<const char*, std::function<Result()>>> calls{
      {"allocation", [&] { return api().cuMemAlloc_v2(&address, 4); }},
      {"release", [&] { return api().cuMemFree_v2(p); }},
      {"pinning", [&] { return api().cuMemHostAlloc(&host, 4, 0); }},
      {"unpinning", [&] { return api().cuMemFreeHost(pinned); }},
      {"module", [&] { return api().cuModuleLoadData(&module, module_text().c_str()); }},
      {"wait", [&] { return api().cuStreamSynchronize(world.stream); }},
      {"wait for all", [&] { return api().cuCtxSynchronize(); }},
      {"question", [&] { return api().cuStreamQuery(world.stream); }},
      {"copy that waits", [&] { return api().cuMemcpyHtoD_v2(p, pageable.data(), 4); }},
      {"pageable to host",
       [&] { return api().cuMemcpyDtoHAsync_v2(pageable.data(), p, 4, world.stream); }}};
  for (const auto& [name, call] : calls) {
    INFO(name);
    REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
    CHECK(world.add(p, 1, 1) == success);
    CHECK(call() == capture_unsupported);
    CHECK(world.add(p, 1, 1) == capture_invalidated);
    CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_invalidated);
    CHECK(graph == nullptr);
    CHECK(world.add(p, 1, 1) == success);  // an ordinary stream again
  }
  // The legacy stream, beside a stream that blocks.
  const Handle blocking = world.make_stream(stream_default);
  REQUIRE(api().cuStreamBeginCapture_v2(blocking, capture_thread_local) == success);
  CHECK(world.launch(world.add_, p, 1, 1, nullptr) == capture_implicit);
  CHECK(api().cuStreamEndCapture(blocking, &graph) == capture_invalidated);
  // Pageable memory that a graph would read later.
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  CHECK(api().cuMemcpyHtoDAsync_v2(p, pageable.data(), 4, world.stream) == capture_unsupported);
  world.expect_findings("pageable");
  CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_invalidated);
  CHECK(api().cuStreamEndCapture(world.stream, &graph) == illegal_state);
  CHECK(world.read(p, 1) == Words{1 + static_cast<std::uint32_t>(calls.size())});
}

TEST_CASE("fake driver: captures of other threads, branches left open") {
  World world;
  const Handle other = world.make_stream();
  const DevicePointer p = world.make_words({1});
  Handle graph = nullptr, event = nullptr;
  REQUIRE(api().cuEventCreate(&event, event_no_timing) == success);
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  CHECK(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == illegal_state);
  std::thread([&] {
    DevicePointer address = 0;
    CHECK(api().cuCtxPushCurrent_v2(world.context) == success);
    CHECK(api().cuMemAlloc_v2(&address, 4) == success);  // no business of the other thread's
    CHECK(api().cuMemFree_v2(address) == success);
    CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_wrong_thread);
  }).join();
  CHECK(world.add(p, 1, 1) == success);
  CHECK(api().cuEventRecord(event, world.stream) == success);
  CHECK(api().cuStreamWaitEvent(other, event, 0) == success);
  CHECK(world.launch(world.add_, p, 1, 1, other) == success);
  CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_unjoined);
  // A captured stream that waits for work of no capture.
  REQUIRE(api().cuEventRecord(event, other) == success);
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  CHECK(api().cuStreamWaitEvent(world.stream, event, 0) == capture_isolation);
  CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_invalidated);
  REQUIRE(api().cuStreamBeginCapture_v2(world.stream, capture_thread_local) == success);
  CHECK(api().cuEventRecord(event, world.stream) == success);
  CHECK(api().cuEventSynchronize(event) == captured_event);
  CHECK(api().cuStreamEndCapture(world.stream, &graph) == capture_invalidated);
  CHECK(api().cuEventDestroy_v2(event) == success);
}

TEST_CASE("fake driver: what a graph holds must outlive its launches") {
  const auto broken_by = [](Result result, const std::string& finding, auto&& destroy) {
    World world;
    std::uint32_t* const to = world.pin({0});
    const DevicePointer p = world.make_words({1});
    const Handle executable = capture(world, [&] {
      CHECK(world.add(p, 1, 1) == success);
      CHECK(api().cuMemcpyDtoHAsync_v2(to, p, 4, world.stream) == success);
    });
    CHECK(api().cuGraphLaunch(executable, world.stream) == success);
    CHECK(api().cuStreamSynchronize(world.stream) == success);
    destroy(world, p, to);
    CHECK(api().cuGraphLaunch(executable, world.stream) == success);
    CHECK(api().cuStreamSynchronize(world.stream) == result);
    world.expect_findings(finding);
    world.expect_broken();
  };
  broken_by(illegal_address, "pinned memory that was freed",
            [](World& world, DevicePointer, std::uint32_t* to) { world.unpin(to); });
  broken_by(illegal_address, "kernel add", [](World& world, DevicePointer p, std::uint32_t*) {
    world.free(p);
    world.make_words({7});  // another's memory, at another address
  });
  broken_by(illegal_address, "after its module was unloaded",
            [](World& world, DevicePointer, std::uint32_t*) {
              CHECK(api().cuModuleUnload(world.module) == success);
            });
}

}  // namespace dsv32::fakecuda::test
