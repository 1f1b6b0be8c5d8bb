// The list of backends of a program whose models run on the deferring one, under the CPU's name.
#include <array>
#include <memory>

#include "lib/backend/backend_kind.h"
#include "tests/support/deferring_backend.h"

namespace dsv32 {
namespace {

std::unique_ptr<Backend> open_deferring(const BackendOptions& options) {
  return std::make_unique<test::DeferringBackend>(cpu_backend_kind.open(options));
}

StepShapes deferring_shapes(const BackendOptions& options) {
  cpu_backend_kind.shapes(options);  // refuses what the one inside would
  return test::DeferringBackend::wanted_shapes();
}

}  // namespace

std::span<const BackendKind* const> backend_kinds() {
  static const BackendKind kind = {.device = Device::cpu,
                                   .devices = cpu_backend_kind.devices,
                                   .open = open_deferring,
                                   .shapes = deferring_shapes,
                                   .scratch_bytes = cpu_backend_kind.scratch_bytes,
                                   .available_memory = cpu_backend_kind.available_memory};
  static const std::array<const BackendKind*, 1> kinds = {&kind};
  return kinds;
}

}  // namespace dsv32
