// A GPU through its driver, with the cubins of the plug-in: the tests of kernels on hardware, or on
// the fake driver.
#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <vector>

#include "lib/backend/cuda/kernels.h"
#include "tests/cuda/kernels_machine.h"

namespace dsv32::test {
namespace {

// Those of the driver that the product does without.
struct Clock {
  decltype(&::cuEventElapsedTime) elapsed = nullptr;
  decltype(&::cuMemsetD8Async) fill = nullptr;

  Clock() {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(driver != nullptr);
    elapsed = reinterpret_cast<decltype(elapsed)>(dlsym(driver, "cuEventElapsedTime"));
    fill = reinterpret_cast<decltype(fill)>(dlsym(driver, "cuMemsetD8Async"));
    REQUIRE(elapsed != nullptr);
  }
};

}  // namespace

// One context and one load of the kernels for all tests.
struct Hardware {
  std::shared_ptr<dsv32::cuda::Gpu> gpu =
      std::make_shared<dsv32::cuda::Gpu>(dsv32::cuda::open_driver(), 0);
  dsv32::cuda::Kernels kernels{gpu};
  CUstream stream = nullptr;

  Hardware() {
    const dsv32::cuda::Entered in(*gpu);
    gpu->check(gpu->driver().cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }
  ~Hardware() {
    const dsv32::cuda::Entered in(*gpu);
    static_cast<void>(gpu->driver().cuStreamDestroy_v2(stream));
  }
  Hardware(const Hardware&) = delete;
  Hardware& operator=(const Hardware&) = delete;

  static Hardware& get() {
    static Hardware hardware;
    return hardware;
  }
};

struct KernelMachine::State {
  Hardware& hardware = Hardware::get();
  std::vector<std::shared_ptr<void>> allocations;

  const dsv32::cuda::Driver& driver() const { return hardware.gpu->driver(); }
  void check(CUresult result, const char* what) const { hardware.gpu->check(result, what); }
  CUstream stream() const { return hardware.stream; }
  void wait() const { check(driver().cuStreamSynchronize(stream()), "cuStreamSynchronize"); }
};

KernelMachine::KernelMachine(std::uint64_t) : state_(std::make_unique<State>()) {}
KernelMachine::~KernelMachine() = default;

void* KernelMachine::allocate(std::size_t bytes) {
  state_->allocations.push_back(
      dsv32::cuda::device_memory(state_->hardware.gpu, std::max<std::size_t>(bytes, 1)));
  return state_->allocations.back().get();
}

void* KernelMachine::put_bytes(const void* from, std::size_t bytes) {
  void* at = allocate(bytes);
  const dsv32::cuda::Entered in(*state_->hardware.gpu);
  if (bytes > 0) {
    state_->check(state_->driver().cuMemcpyHtoDAsync_v2(reinterpret_cast<CUdeviceptr>(at), from,
                                                        bytes, state_->stream()),
                  "cuMemcpyHtoDAsync");
    state_->wait();
  }
  return at;
}

std::byte* KernelMachine::put_at(const Bytes& values, std::size_t gap) {
  Bytes all(values.size() + gap);
  std::copy(values.begin(), values.end(), all.begin() + static_cast<std::ptrdiff_t>(gap));
  return static_cast<std::byte*>(put_bytes(all.data(), all.size())) + gap;
}

void KernelMachine::get_bytes(void* to, const void* from, std::size_t bytes) {
  const dsv32::cuda::Entered in(*state_->hardware.gpu);
  state_->check(state_->driver().cuMemcpyDtoHAsync_v2(to, reinterpret_cast<CUdeviceptr>(from),
                                                      bytes, state_->stream()),
                "cuMemcpyDtoHAsync");
  state_->wait();
  note_result(function_, to, bytes);
}

void KernelMachine::measure(ptxemu::Meter*) {}

namespace {

void launch_on(const Hardware& hardware, const cuda::Launch& l,
               std::span<const std::byte> arguments) {
  std::size_t bytes = arguments.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, const_cast<std::byte*>(arguments.data()),
                   CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  hardware.gpu->check(hardware.gpu->driver().cuLaunchKernel(
                          hardware.kernels[l.kernel], l.grid_x, l.grid_y, l.grid_z, l.threads, 1, 1,
                          l.shared, hardware.stream, nullptr, extra),
                      cuda::kKernelNames[static_cast<int>(l.kernel)].function);
}

}  // namespace

void KernelMachine::run(const cuda::Launch& launch, std::span<const std::byte> arguments) {
  if (launch.empty()) return;
  function_ = cuda::kKernelNames[static_cast<int>(launch.kernel)].function;
  const dsv32::cuda::Entered in(*state_->hardware.gpu);
  launch_on(state_->hardware, launch, arguments);
  state_->wait();
}

std::optional<double> KernelMachine::time(const cuda::Launch& launch,
                                          std::span<const std::byte> arguments) {
  constexpr std::size_t kCold = 256u << 20;  // more than any L2
  constexpr int kTimes = 11;
  static const Clock clock;
  const std::shared_ptr<void> cold =
      clock.fill != nullptr ? dsv32::cuda::device_memory(state_->hardware.gpu, kCold) : nullptr;
  const dsv32::cuda::Entered in(*state_->hardware.gpu);
  const dsv32::cuda::Driver& driver = state_->driver();
  CUevent begin = nullptr, end = nullptr;
  state_->check(driver.cuEventCreate(&begin, CU_EVENT_DEFAULT), "cuEventCreate");
  state_->check(driver.cuEventCreate(&end, CU_EVENT_DEFAULT), "cuEventCreate");
  std::vector<double> all;
  for (int i = 0; i <= kTimes; ++i) {
    if (cold)
      state_->check(
          clock.fill(reinterpret_cast<CUdeviceptr>(cold.get()), 1, kCold, state_->stream()),
          "cuMemsetD8Async");
    state_->check(driver.cuEventRecord(begin, state_->stream()), "cuEventRecord");
    launch_on(state_->hardware, launch, arguments);
    state_->check(driver.cuEventRecord(end, state_->stream()), "cuEventRecord");
    state_->wait();
    float milliseconds = 0;
    state_->check(clock.elapsed(&milliseconds, begin, end), "cuEventElapsedTime");
    if (i > 0) all.push_back(1000.0 * static_cast<double>(milliseconds));
  }
  static_cast<void>(driver.cuEventDestroy_v2(begin));
  static_cast<void>(driver.cuEventDestroy_v2(end));
  std::nth_element(all.begin(), all.begin() + kTimes / 2, all.end());
  return all[kTimes / 2];
}

void KernelMachine::clear() { state_->allocations.clear(); }

}  // namespace dsv32::test
