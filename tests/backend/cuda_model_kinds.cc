// The list of backends of a program whose models run on the emulated GPU, under the CPU's name.
#include <algorithm>
#include <array>
#include <memory>

#include "lib/backend/backend_kind.h"

namespace dsv32 {
namespace {

BackendOptions on_gpu(const BackendOptions& options) {
  const BackendOptions gpu{.device = Device::cuda, .module_path = DSV32_CUDA_MODULE};
  const std::vector<BackendInfo> found = cuda_backend_kind.devices(gpu);
  const auto& sets = found.at(0).kernel_sets;
  if (std::ranges::find(sets, options.kernel_set) == sets.end())
    cpu_backend_kind.shapes(options);  // refuses what the CPU would
  return gpu;
}

std::vector<BackendInfo> devices(const BackendOptions& options) {
  std::vector<BackendInfo> found = cuda_backend_kind.devices(on_gpu(options));
  for (BackendInfo& one : found) one.device = Device::cpu;
  return found;
}

std::unique_ptr<Backend> open(const BackendOptions& options) {
  return cuda_backend_kind.open(on_gpu(options));
}
StepShapes shapes(const BackendOptions& options) {
  return cuda_backend_kind.shapes(on_gpu(options));
}
std::size_t scratch_bytes(const BackendLimits& limits, const BackendOptions& options) {
  return cuda_backend_kind.scratch_bytes(limits, on_gpu(options));
}

}  // namespace

std::span<const BackendKind* const> backend_kinds() {
  static const BackendKind kind = {.device = Device::cpu,
                                   .devices = devices,
                                   .open = open,
                                   .shapes = shapes,
                                   .scratch_bytes = scratch_bytes,
                                   .available_memory = cpu_backend_kind.available_memory,
                                   .staging_bytes = cuda_backend_kind.staging_bytes};
  static const std::array<const BackendKind*, 1> kinds = {&kind};
  return kinds;
}

}  // namespace dsv32
