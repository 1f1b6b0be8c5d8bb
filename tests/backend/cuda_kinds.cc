// The backends of a program whose tests of the seam run on the emulated GPU.
#include "lib/backend/backend_kind.h"
#include "tests/backend/backends.h"

namespace dsv32::test {

std::vector<OpenBackend> open_backends() {
  std::vector<OpenBackend> all;
  all.push_back(
      {"cuda", cuda_backend_kind.open({.device = Device::cuda, .module_path = DSV32_CUDA_MODULE})});
  return all;
}

}  // namespace dsv32::test
