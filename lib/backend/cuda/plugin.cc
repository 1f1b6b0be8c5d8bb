// What libdsv32_cuda.so shows: its build, and the kind of backend that it makes.
#include "lib/backend/plugin.h"

#include <memory>
#include <optional>
#include <vector>

#include "lib/backend/cuda/cuda_backend.h"
#include "lib/base/check.h"

namespace dsv32::cuda {
namespace {

std::vector<BackendInfo> devices(const BackendOptions&) {
  std::vector<BackendInfo> all;
  for (const DeviceFacts& facts : usable_devices(open_driver())) all.push_back(facts.info);
  return all;
}

void check_kernel_set(const BackendOptions& options) {
  DSV32_CHECK(options.kernel_set.empty() || options.kernel_set == kKernelSet, unsupported,
              "there is no kernel set {} for CUDA in this build; those that run here: {}",
              quote(options.kernel_set), kKernelSet);
}

std::unique_ptr<Backend> open(const BackendOptions& options) {
  check_kernel_set(options);
  return std::make_unique<CudaBackend>(std::make_shared<Gpu>(open_driver(), options.device_index));
}

StepShapes shapes(const BackendOptions& options) {
  check_kernel_set(options);
  static_cast<void>(device_facts(open_driver(), options.device_index));
  return kCudaShapes;
}

std::size_t scratch_bytes(const BackendLimits& limits, const BackendOptions&) {
  return CudaScratch(limits).bytes();
}

std::optional<std::size_t> free_memory(const BackendOptions& options) {
  return Gpu(open_driver(), options.device_index).free_bytes();
}

constinit const BackendKind kind = {.device = Device::cuda,
                                    .devices = devices,
                                    .open = open,
                                    .shapes = shapes,
                                    .scratch_bytes = scratch_bytes,
                                    .available_memory = free_memory,
                                    .staging_bytes = kCudaStagingBytes};

}  // namespace
}  // namespace dsv32::cuda

extern "C"
    __attribute__((visibility("default"))) constinit const dsv32::PluginEntry dsv32_cuda_plugin = {
        DSV32_BUILD_ID, &dsv32::cuda::kind};
