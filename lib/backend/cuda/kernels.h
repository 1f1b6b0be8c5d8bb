// The kernels of smxx, loaded into a device's context.
#ifndef DSV32_LIB_BACKEND_CUDA_KERNELS_H_
#define DSV32_LIB_BACKEND_CUDA_KERNELS_H_

#include <array>
#include <iterator>
#include <memory>
#include <vector>

#include "lib/backend/cuda/gpu.h"

#include "kernels/cuda/launch.h"

namespace dsv32::cuda {

class Kernels {
 public:
  // Takes the cubins for exactly this GPU, or has the driver compile the PTX if there are none.
  // Throws unsupported, with the compiler's words, for code that the driver does not take.
  explicit Kernels(std::shared_ptr<Gpu> device);
  ~Kernels();
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  CUfunction operator[](kernels::cuda::Kernel kernel) const {
    return functions_[static_cast<std::size_t>(kernel)];
  }

 private:
  CUmodule load(const char* file);
  void unload() noexcept;

  std::shared_ptr<Gpu> device_;
  std::vector<CUmodule> modules_;
  std::array<CUfunction, std::size(kernels::cuda::kKernelNames)> functions_{};
};

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_KERNELS_H_
