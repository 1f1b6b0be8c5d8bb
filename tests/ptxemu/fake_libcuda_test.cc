// The fake driver as a driver: devices, contexts, memory, modules, launches.
#include <algorithm>
#include <cstring>
#include <set>

#include "tests/ptxemu/fake_world.h"

namespace dsv32::fakecuda::test {

TEST_CASE("fake driver: nothing works before cuInit, devices are told afterwards") {
  api().reset();
  int number = -1;
  CHECK(api().cuDeviceGetCount(&number) == not_initialized);
  CHECK(api().cuDriverGetVersion(&number) == success);
  CHECK(number == 13'000);
  CHECK(api().cuInit(1) == invalid_value);
  REQUIRE(api().cuInit(0) == success);
  CHECK(api().cuDeviceGetCount(&number) == success);
  CHECK(number == 2);
  CHECK(api().cuDeviceGet(&number, 1) == success);
  CHECK(number == 1);
  CHECK(api().cuDeviceGet(&number, 2) == invalid_device);
  char name[64];
  CHECK(api().cuDeviceGetName(name, sizeof name, 0) == success);
  CHECK(std::string(name) == "PTX emulator (sm_87)");
  CHECK(api().cuDeviceGetName(name, 4, 0) == success);
  CHECK(std::string(name) == "PTX");
  std::size_t bytes = 0;
  CHECK(api().cuDeviceTotalMem_v2(&bytes, 1) == success);
  CHECK(bytes == std::size_t{8} << 30);
  CHECK(api().cuDeviceGetAttribute(&number, capability_minor, 0) == success);
  CHECK(number == 7);
  CHECK(api().cuDeviceGetAttribute(&number, shared_per_block_optin, 0) == success);
  CHECK(number == 163 * 1024);
  CHECK(api().cuDeviceGetAttribute(&number, 12'345, 0) == invalid_value);
  CHECK(api().findings(nullptr, 0) == 1);
  Uuid first, second;
  CHECK(api().cuDeviceGetUuid_v2(&first, 0) == success);
  CHECK(api().cuDeviceGetUuid_v2(&second, 1) == success);
  CHECK(std::memcmp(&first, &second, sizeof first) != 0);
}

TEST_CASE("fake driver: no device, a stub, an old driver, another chip") {
  api().reset();
  int number = 0;
  api().set("devices", 0);
  CHECK(api().cuInit(0) == no_device);
  CHECK(api().cuDeviceGetCount(&number) == not_initialized);
  api().set("devices", 1);
  api().set("major", 7);
  api().set("minor", 5);
  api().set("version", 12'080);
  api().set("memory", 1 << 20);
  CHECK(api().cuInit(0) == success);
  CHECK(api().cuDeviceGetCount(&number) == success);
  CHECK(number == 1);
  CHECK(api().cuDriverGetVersion(&number) == success);
  CHECK(number == 12'080);
  CHECK(api().cuDeviceGetAttribute(&number, capability_major, 0) == success);
  CHECK(number == 7);
  api().set("stub", 1);  // as the toolkit's stub: all of it, even texts of errors
  const char* text = "untouched";
  CHECK(api().cuInit(0) == stub_library);
  CHECK(api().cuDriverGetVersion(&number) == stub_library);
  CHECK(api().cuGetErrorName(stub_library, &text) == stub_library);
  CHECK(std::string(text) == "untouched");
  CHECK(api().set("no such thing", 1) == -1);
  api().reset();
  CHECK(api().cuGetErrorName(out_of_memory, &text) == success);
  CHECK(std::string(text) == "CUDA_ERROR_OUT_OF_MEMORY");
  CHECK(api().cuGetErrorString(launch_failed, &text) == success);
  CHECK(std::string(text) == "unspecified launch failure");
  CHECK(api().cuGetErrorString(static_cast<Result>(54'321), &text) == invalid_value);
}

TEST_CASE("fake driver: names are looked up without their version") {
  api().reset();
  void* function = nullptr;
  int status = -1;
  CHECK(api().cuGetProcAddress_v2("cuMemAlloc", &function, 13'000, 0, &status) == success);
  CHECK(function == reinterpret_cast<void*>(api().cuMemAlloc_v2));
  CHECK(status == 0);
  CHECK(api().cuGetProcAddress_v2("cuInit", &function, 13'000, 0, nullptr) == success);
  CHECK(api().cuGetProcAddress_v2("cuNoSuchThing", &function, 13'000, 0, &status) == not_found);
  CHECK(status == 1);
  CHECK(api().cuGetProcAddress_v2("cuInit", &function, 13'010, 0, &status) == not_found);
  CHECK(status == 2);
}

TEST_CASE("fake driver: a primary context lives as long as somebody retains it") {
  api().reset();
  REQUIRE(api().cuInit(0) == success);
  Handle first = nullptr, second = nullptr, other = nullptr, now = nullptr;
  DevicePointer address = 0;
  int number = -1;
  CHECK(api().cuMemAlloc_v2(&address, 4) == invalid_context);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == invalid_context);
  CHECK(api().cuDevicePrimaryCtxRetain(&first, 0) == success);
  CHECK(api().cuDevicePrimaryCtxRetain(&second, 0) == success);
  CHECK(api().cuDevicePrimaryCtxRetain(&other, 1) == success);
  CHECK(first == second);
  CHECK(first != other);
  CHECK(api().live("context") == 3);
  CHECK(api().cuCtxPushCurrent_v2(first) == success);
  CHECK(api().cuCtxPushCurrent_v2(other) == success);
  CHECK(api().cuCtxGetDevice(&number) == success);
  CHECK(number == 1);
  CHECK(api().cuCtxPopCurrent_v2(&now) == success);
  CHECK(now == other);
  CHECK(api().cuCtxGetCurrent(&now) == success);
  CHECK(now == first);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == success);
  CHECK(api().cuMemAlloc_v2(&address, 4) == success);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == success);
  CHECK(api().cuMemAlloc_v2(&address, 4) == context_is_destroyed);
  CHECK(api().findings_text().find("left behind") != std::string::npos);
  CHECK(api().live("device") == 0);
  CHECK(api().cuCtxPushCurrent_v2(first) == invalid_context);
  CHECK(api().cuCtxPopCurrent_v2(&now) == success);
  CHECK(api().cuCtxPopCurrent_v2(&now) == invalid_context);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(1) == success);
}

TEST_CASE("fake driver: memory has a limit, and is counted") {
  api().reset();
  World world;
  std::size_t free = 0, total = 0, before = 0;
  CHECK(api().cuMemGetInfo_v2(&before, &total) == success);
  CHECK(total == std::size_t{8} << 30);
  const DevicePointer small = world.allocate(1000);
  CHECK(small % 256 == 0);
  CHECK(api().cuMemGetInfo_v2(&free, &total) == success);
  CHECK(free <= before - 1000);
  CHECK(api().live("device") == 1000);
  DevicePointer large = 0;
  CHECK(api().cuMemAlloc_v2(&large, total) == out_of_memory);
  CHECK(api().cuMemAlloc_v2(&large, 0) == invalid_value);
  CHECK(api().cuMemFree_v2(small + 4) == invalid_value);
  world.free(small);
  CHECK(api().cuMemFree_v2(small) == invalid_value);
  CHECK(api().cuMemGetInfo_v2(&free, &total) == success);
  CHECK(free == before);
  CHECK(api().count("device_peak") >= 1000);
  void* pinned = nullptr;
  api().set("host_memory", 1 << 16);
  CHECK(api().cuMemHostAlloc(&pinned, (1 << 16) + 1, 0) == out_of_memory);
  CHECK(api().cuMemHostAlloc(&pinned, 1 << 16, 1) == success);
  CHECK(api().live("host") == 1 << 16);
  CHECK(api().cuMemFreeHost(static_cast<char*>(pinned) + 1) == invalid_value);
  CHECK(api().cuMemFreeHost(pinned) == success);
}

TEST_CASE("fake driver: copies and fills") {
  World world;
  const DevicePointer p = world.make_words({1, 2, 3, 4});
  const DevicePointer q = world.allocate(16);
  CHECK(api().cuMemcpyDtoDAsync_v2(q, p + 8, 8, world.stream) == success);
  CHECK(api().cuMemsetD32Async(q + 8, 7, 2, world.stream) == success);
  CHECK(world.read(q, 4) == Words{3, 4, 7, 7});
  CHECK(api().cuMemsetD8Async(q, 0xff, 5, world.stream) == success);
  CHECK(world.read(q, 2) == Words{0xffffffff, 0x000000ff});
  CHECK(api().cuMemcpyHtoDAsync_v2(q + 12, "12345678", 8, world.stream) == invalid_value);
  world.expect_findings("not all of one allocation");
  const DevicePointer raw = world.allocate(8);
  Words out(2);
  CHECK(api().cuMemcpyDtoHAsync_v2(out.data(), raw, 8, world.stream) == launch_failed);
  world.expect_findings("8 bytes that nobody has written");
  world.expect_broken();
}

TEST_CASE("fake driver: a kernel runs with its parameters, given either way") {
  World world;
  Words values(100, 5);
  const DevicePointer p = world.make_words(values);
  CHECK(world.add(p, 3, 100) == success);
  struct {
    DevicePointer p;
    std::uint64_t v;
    std::uint32_t n;
  } packed{p, 2, 99};
  std::size_t bytes = 20;  // without the struct's own padding
  void* extra[] = {reinterpret_cast<void*>(kExtraBuffer), &packed,
                   reinterpret_cast<void*>(kExtraBufferBytes), &bytes, nullptr};
  CHECK(api().cuLaunchKernel(world.multiply_, 2, 1, 1, 64, 1, 1, 0, world.stream, nullptr, extra) ==
        success);
  LaunchConfig config{2, 1, 1, 64, 1, 1, 0, world.stream, nullptr, 0};
  CHECK(api().cuLaunchKernelEx(&config, world.add_, nullptr, extra) == success);
  std::fill(values.begin(), values.end(), 18);
  values[99] = 8;
  CHECK(world.read(p, 100) == values);
  CHECK(api().count("kernels") == 3);
  bytes = 16;
  CHECK(api().cuLaunchKernelEx(&config, world.add_, nullptr, extra) == invalid_value);
  config.attribute_count = 1;
  CHECK(api().cuLaunchKernelEx(&config, world.add_, nullptr, extra) == not_supported);
  world.expect_findings("attributes");
}

TEST_CASE("fake driver: launches that no device takes") {
  World world;
  DevicePointer p = world.make_words({1});
  std::uint64_t v = 1;
  unsigned n = 1;
  void* parameters[] = {&p, &v, &n};
  const auto launch = [&](unsigned grid_x, unsigned grid_y, unsigned block, unsigned shared) {
    return api().cuLaunchKernel(world.add_, grid_x, grid_y, 1, block, 1, 1, shared, world.stream,
                                parameters, nullptr);
  };
  CHECK(launch(1, 1, 32, 0) == success);
  CHECK(launch(0, 1, 32, 0) == invalid_value);
  CHECK(launch(1, 65'536, 32, 0) == invalid_value);
  CHECK(launch(1, 1, 0, 0) == invalid_value);
  CHECK(launch(1, 1, 1025, 0) == invalid_value);
  CHECK(launch(1, 1, 32, 48 * 1024) == success);
  CHECK(launch(1, 1, 32, 48 * 1024 + 1) == invalid_value);
  CHECK(api().cuFuncSetAttribute(world.add_, function_max_dynamic_shared, 163 * 1024 + 1) ==
        invalid_value);
  CHECK(api().cuFuncSetAttribute(world.add_, function_max_dynamic_shared, 100'000) == success);
  CHECK(launch(1, 1, 32, 100'000) == success);
  int value = 0;
  CHECK(api().cuFuncGetAttribute(&value, function_max_dynamic_shared, world.add_) == success);
  CHECK(value == 100'000);
  CHECK(api().cuFuncGetAttribute(&value, function_max_threads, world.add_) == success);
  CHECK(value == 1024);
  CHECK(api().cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, world.stream, parameters, nullptr) ==
        invalid_handle);
  CHECK(world.read(p, 1) == Words{4});
}

TEST_CASE("fake driver: images that are refused, and why") {
  World world;
  Handle module = nullptr, function = nullptr;
  char log[400] = "";
  int options[] = {error_log, error_log_bytes};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  const std::string broken =
      ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry f() { nonsense; }\n";
  CHECK(api().cuModuleLoadDataEx(&module, broken.c_str(), 2, options, values) == invalid_ptx);
  CHECK(std::string(log).find("line 4") != std::string::npos);
  CHECK(reinterpret_cast<std::uintptr_t>(values[1]) == std::strlen(log));
  world.expect_findings("nonsense");
  std::string text = module_text();
  text.replace(text.find("sm_80"), 5, "sm_90");
  CHECK(api().cuModuleLoadData(&module, text.c_str()) == no_binary_for_gpu);
  text.replace(text.find("sm_90"), 5, "sm_80");
  text.replace(text.find("7.0"), 3, "9.1");
  CHECK(api().cuModuleLoadData(&module, text.c_str()) == unsupported_ptx_version);
  // Machine code, old and new place of its number: 8.6 does not run on 8.7's fake, nor does 9.0.
  unsigned char image[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0x41, 7};
  image[48] = 90;
  CHECK(api().cuModuleLoadData(&module, image) == no_binary_for_gpu);
  CHECK(api().findings(nullptr, 0) == 0);
  image[8] = 8;
  image[49] = 86;
  CHECK(api().cuModuleLoadData(&module, image) == no_binary_for_gpu);
  world.expect_findings("sm_86");  // a real 8.7 would have run it
  CHECK(api().cuModuleGetFunction(&function, world.module, "no_such") == not_found);
  DevicePointer address = 0;
  std::size_t bytes = 0;
  CHECK(api().cuModuleGetGlobal_v2(&address, &bytes, world.module, "table") == success);
  CHECK(bytes == 16);
  Words table(4);
  CHECK(api().cuModuleGetGlobal_v2(&address, &bytes, world.module, "no_such") == not_found);
}

TEST_CASE("fake driver: handles of another context, of another kind, of the past") {
  World world;
  Handle other = nullptr, event = nullptr;
  CHECK(api().cuStreamSynchronize(world.module) == invalid_handle);
  CHECK(api().cuEventCreate(&event, 0) == success);
  CHECK(api().cuEventDestroy_v2(event) == success);
  CHECK(api().cuEventDestroy_v2(event) == invalid_handle);
  CHECK(api().cuDevicePrimaryCtxRetain(&other, 1) == success);
  CHECK(api().cuCtxPushCurrent_v2(other) == success);
  CHECK(api().cuStreamSynchronize(world.stream) == invalid_handle);
  const DevicePointer p = [] {
    DevicePointer made = 0;
    CHECK(api().cuMemAlloc_v2(&made, 4) == success);
    return made;
  }();
  CHECK(api().cuMemFree_v2(p) == success);
  CHECK(api().cuCtxPopCurrent_v2(&other) == success);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(1) == success);
  // A function goes with its module.
  CHECK(api().cuModuleUnload(world.module) == success);
  world.module = nullptr;
  const DevicePointer q = world.make_words({1});
  CHECK(world.add(q, 1, 1) == invalid_handle);
}

TEST_CASE("fake driver: calls are counted by name") {
  World world;
  api().reset_calls();
  const DevicePointer p = world.make_words({1, 2});
  CHECK(world.add(p, 1, 2) == success);
  CHECK(world.add(p, 1, 2) == success);
  CHECK(api().cuStreamSynchronize(world.stream) == success);
  CHECK(api().calls("cuLaunchKernel") == 2);
  CHECK(api().calls("cuMemAlloc_v2") == 1);
  CHECK(api().calls("cuMemFree_v2") == 0);
  CHECK(api().calls(nullptr) == 5);
  CHECK(api().count("kernels") == 2);
  CHECK(api().count("copies") == 1);
  CHECK(api().count("allocations") == 1);
}

}  // namespace dsv32::fakecuda::test
