// The kernels as nvcc made them, inside this plug-in: of each file of kernels/cuda/smxx a cubin for
// every architecture of the build, and PTX for those that come later.
#ifndef DSV32_LIB_BACKEND_CUDA_KERNEL_IMAGES_H_
#define DSV32_LIB_BACKEND_CUDA_KERNEL_IMAGES_H_

#include <cstddef>
#include <span>

namespace dsv32::cuda {

struct KernelImage {
  const char* file;  // "dense"
  int arch;          // 90: a cubin for compute capability 9.0; 0: PTX, a string
  const std::byte* data;
};

std::span<const KernelImage> kernel_images();  // CMake writes its source (cmake/cuda.cmake)

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_KERNEL_IMAGES_H_
