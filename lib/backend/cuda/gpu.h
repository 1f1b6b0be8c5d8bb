// One GPU: what it is, its primary context, and memory in it.
#ifndef DSV32_LIB_BACKEND_CUDA_GPU_H_
#define DSV32_LIB_BACKEND_CUDA_GPU_H_

#include <cstddef>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

#include "dsv32/backend.h"

#include "lib/backend/cuda/driver.h"

namespace dsv32::cuda {

inline constexpr const char* kKernelSet = "smxx";

struct DeviceFacts {
  CUdevice handle = 0;
  int arch = 0;          // 90: compute capability 9.0
  int block_shared = 0;  // bytes of shared memory that a block may ask for
  BackendInfo info;
};

// Every GPU that can run our kernels, those of compute capability 8.0 and newer.
std::vector<DeviceFacts> usable_devices(const Driver& driver);

// The one with the CUDA ordinal `index`. Throws invalid_argument if there is none, unsupported if
// it is too old.
DeviceFacts device_facts(const Driver& driver, int index);

// Holds the primary context, which all models of a process on this GPU share with whoever else uses
// it in this process. A sticky error breaks it for all of them; when the last has gone the driver
// makes a new one. In a child of fork() nothing here calls the driver.
class Gpu {
 public:
  Gpu(const Driver& driver, int index);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceFacts& facts() const { return facts_; }
  bool is_own_process() const noexcept;

  // Makes the context the calling thread's, and gives back what was there before.
  void enter() const;
  void leave() const noexcept;

  // The one stream that works on this object's memory: nothing is freed before it has done so.
  void set_stream(CUstream stream) { stream_ = stream; }
  CUstream stream() const { return stream_; }

  std::size_t free_bytes() const;
  void check(CUresult result, const char* what) const { cuda::check(driver_, result, what); }

 private:
  Driver driver_;
  DeviceFacts facts_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  pid_t owner_;
};

// The context for a scope.
class Entered {
 public:
  explicit Entered(const Gpu& device) : device_(device) { device.enter(); }
  ~Entered() { device_.leave(); }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

 private:
  const Gpu& device_;
};

// Memory of the device, aligned to 256, or pinned memory of the host. Throws out_of_memory.
std::shared_ptr<void> device_memory(const std::shared_ptr<Gpu>& device, std::size_t bytes);
std::shared_ptr<std::byte> pinned_memory(const std::shared_ptr<Gpu>& device, std::size_t bytes);

inline CUdeviceptr address(const void* memory) { return reinterpret_cast<CUdeviceptr>(memory); }

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_GPU_H_
