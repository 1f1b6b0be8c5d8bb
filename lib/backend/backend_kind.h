// Which backends this build has: the model asks by device, and names none.
#ifndef DSV32_LIB_BACKEND_BACKEND_KIND_H_
#define DSV32_LIB_BACKEND_BACKEND_KIND_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dsv32/backend.h"

#include "lib/backend/backend.h"

namespace dsv32 {

// One kind of backend, and what it answers before one is open: for plans. The functions throw as
// open() would: invalid_argument for options out of range, unsupported for what is not there.
struct BackendKind {
  Device device;
  // Of this machine; of the options the module's path counts. None where open() would throw.
  std::vector<BackendInfo> (*devices)(const BackendOptions& options);
  std::unique_ptr<Backend> (*open)(const BackendOptions& options);
  StepShapes (*shapes)(const BackendOptions& options);
  std::size_t (*scratch_bytes)(const BackendLimits& limits, const BackendOptions& options);
  std::optional<std::size_t> (*available_memory)(
      const BackendOptions& options);  // bytes; or unknown
  // Of the host's memory, where the device has its own; else 0.
  std::size_t staging_bytes = 0;
};

// All of this build, the CPU first. A new backend is a line there (backend_kinds.cc).
std::span<const BackendKind* const> backend_kinds();

// Throws unsupported if this build has none for `device`.
const BackendKind& backend_kind(Device device);

extern const BackendKind cpu_backend_kind;
extern const BackendKind cuda_backend_kind;  // of libdsv32_cuda.so, if there is one

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_BACKEND_KIND_H_
