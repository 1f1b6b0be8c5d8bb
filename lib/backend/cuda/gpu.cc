#include "lib/backend/cuda/gpu.h"

#include <algorithm>
#include <array>
#include <unistd.h>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/format.h"

namespace dsv32::cuda {
namespace {

constexpr int kOldestArch = 80;

DeviceFacts facts_of(const Driver& driver, int index) {
  DeviceFacts facts;
  check(driver, driver.cuDeviceGet(&facts.handle, index), "cuDeviceGet");
  std::array<char, 128> name{};
  check(driver,
        driver.cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, facts.handle),
        "cuDeviceGetName");
  std::size_t bytes = 0;
  check(driver, driver.cuDeviceTotalMem_v2(&bytes, facts.handle), "cuDeviceTotalMem");
  int major = 0, minor = 0;
  check(driver,
        driver.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                                    facts.handle),
        "cuDeviceGetAttribute");
  check(driver,
        driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                                    facts.handle),
        "cuDeviceGetAttribute");
  check(
      driver,
      driver.cuDeviceGetAttribute(
          &facts.block_shared, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, facts.handle),
      "cuDeviceGetAttribute");
  facts.arch = major * 10 + minor;
  facts.info = {.device = Device::cuda,
                .device_index = index,
                .name = name.data(),
                .memory_bytes = bytes,
                .kernel_sets = {kKernelSet}};
  return facts;
}

int device_count(const Driver& driver) {
  int count = 0;
  const CUresult result = driver.cuDeviceGetCount(&count);
  if (result != CUDA_ERROR_NO_DEVICE) check(driver, result, "cuDeviceGetCount");
  DSV32_CHECK(count > 0, unsupported, "CUDA: there is no NVIDIA GPU");
  return count;
}

}  // namespace

std::vector<DeviceFacts> usable_devices(const Driver& driver) {
  std::vector<DeviceFacts> all;
  for (int i = 0; i < device_count(driver); ++i) {
    DeviceFacts facts = facts_of(driver, i);
    if (facts.arch >= kOldestArch) all.push_back(std::move(facts));
  }
  return all;
}

DeviceFacts device_facts(const Driver& driver, int index) {
  const int count = device_count(driver);
  DSV32_CHECK(index >= 0 && index < count, invalid_argument,
              "device_index is {}, this machine's GPUs are 0..{}", index, count - 1);
  DeviceFacts facts = facts_of(driver, index);
  DSV32_CHECK(facts.arch >= kOldestArch, unsupported,
              "CUDA: {} has compute capability {}.{}, {}.{} or newer is needed",
              quote(facts.info.name), facts.arch / 10, facts.arch % 10, kOldestArch / 10,
              kOldestArch % 10);
  return facts;
}

Gpu::Gpu(const Driver& driver, int index)
    : driver_(driver), facts_(device_facts(driver, index)), owner_(getpid()) {
  check(driver_.cuDevicePrimaryCtxRetain(&context_, facts_.handle), "cuDevicePrimaryCtxRetain");
}

Gpu::~Gpu() {
  if (is_own_process()) static_cast<void>(driver_.cuDevicePrimaryCtxRelease_v2(facts_.handle));
}

bool Gpu::is_own_process() const noexcept { return getpid() == owner_; }

void Gpu::enter() const { check(driver_.cuCtxPushCurrent_v2(context_), "cuCtxPushCurrent"); }

void Gpu::leave() const noexcept {
  CUcontext left = nullptr;
  static_cast<void>(driver_.cuCtxPopCurrent_v2(&left));
}

std::size_t Gpu::free_bytes() const {
  const Entered in(*this);
  std::size_t free = 0, all = 0;
  check(driver_.cuMemGetInfo_v2(&free, &all), "cuMemGetInfo");
  return free;
}

namespace {

// What is freed when its last owner goes, on whatever thread; a context that is broken takes the
// memory with it.
template <class Free>
void give_back(const Gpu& device, Free&& free) noexcept {
  if (!device.is_own_process()) return;
  try {
    const Entered in(device);
    if (device.stream()) static_cast<void>(device.driver().cuStreamSynchronize(device.stream()));
    static_cast<void>(free(device.driver()));
  } catch (const Error&) {
  }
}

}  // namespace

std::shared_ptr<void> device_memory(const std::shared_ptr<Gpu>& device, std::size_t bytes) {
  const Entered in(*device);
  CUdeviceptr memory = 0;
  const CUresult result = device->driver().cuMemAlloc_v2(&memory, std::max<std::size_t>(bytes, 1));
  DSV32_CHECK(result != CUDA_ERROR_OUT_OF_MEMORY, out_of_memory, "could not allocate {} on GPU {}",
              human_bytes(bytes), device->facts().info.device_index);
  device->check(result, "cuMemAlloc");
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of the device is a number
  return {reinterpret_cast<void*>(memory), [device](void* p) {
            give_back(*device, [p](const Driver& d) { return d.cuMemFree_v2(address(p)); });
          }};
}

std::shared_ptr<std::byte> pinned_memory(const std::shared_ptr<Gpu>& device, std::size_t bytes) {
  const Entered in(*device);
  void* memory = nullptr;
  const CUresult result = device->driver().cuMemHostAlloc(&memory, bytes, CU_MEMHOSTALLOC_PORTABLE);
  DSV32_CHECK(result != CUDA_ERROR_OUT_OF_MEMORY, out_of_memory,
              "could not allocate {} of pinned memory", human_bytes(bytes));
  device->check(result, "cuMemHostAlloc");
  return {static_cast<std::byte*>(memory), [device](std::byte* p) {
            give_back(*device, [p](const Driver& d) { return d.cuMemFreeHost(p); });
          }};
}

}  // namespace dsv32::cuda
