// The list of backends, alone in its file: a test's program brings its own.
#include <array>

#include "lib/backend/backend_kind.h"

namespace dsv32 {

std::span<const BackendKind* const> backend_kinds() {
  static constexpr std::array<const BackendKind*, 2> kKinds = {&cpu_backend_kind,
                                                               &cuda_backend_kind};
  return kKinds;
}

}  // namespace dsv32
