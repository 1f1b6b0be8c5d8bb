// The CUDA driver's functions that we use, found at run time: there is no CUDA runtime, and nothing
// is linked.
#ifndef DSV32_LIB_BACKEND_CUDA_DRIVER_H_
#define DSV32_LIB_BACKEND_CUDA_DRIVER_H_

#include <cuda.h>

namespace dsv32::cuda {

// Names as libcuda.so.1 has them.
#define DSV32_CUDA_DRIVER(X)      \
  X(cuInit)                       \
  X(cuDriverGetVersion)           \
  X(cuGetErrorName)               \
  X(cuGetErrorString)             \
  X(cuDeviceGetCount)             \
  X(cuDeviceGet)                  \
  X(cuDeviceGetName)              \
  X(cuDeviceTotalMem_v2)          \
  X(cuDeviceGetAttribute)         \
  X(cuDevicePrimaryCtxRetain)     \
  X(cuDevicePrimaryCtxRelease_v2) \
  X(cuCtxPushCurrent_v2)          \
  X(cuCtxPopCurrent_v2)           \
  X(cuMemGetInfo_v2)              \
  X(cuMemAlloc_v2)                \
  X(cuMemFree_v2)                 \
  X(cuMemHostAlloc)               \
  X(cuMemFreeHost)                \
  X(cuMemcpyHtoDAsync_v2)         \
  X(cuMemcpyDtoHAsync_v2)         \
  X(cuMemcpyDtoDAsync_v2)         \
  X(cuStreamCreate)               \
  X(cuStreamDestroy_v2)           \
  X(cuStreamSynchronize)          \
  X(cuEventCreate)                \
  X(cuEventRecord)                \
  X(cuEventSynchronize)           \
  X(cuEventDestroy_v2)            \
  X(cuModuleLoadDataEx)           \
  X(cuModuleUnload)               \
  X(cuModuleGetFunction)          \
  X(cuFuncSetAttribute)           \
  X(cuLaunchKernel)               \
  X(cuStreamBeginCapture_v2)      \
  X(cuStreamEndCapture)           \
  X(cuGraphInstantiateWithFlags)  \
  X(cuGraphLaunch)                \
  X(cuGraphExecDestroy)           \
  X(cuGraphDestroy)

struct Driver {
#define DSV32_CUDA_MEMBER(name) \
  decltype(&::name) name = nullptr;  // NOLINT(bugprone-macro-parentheses)
  DSV32_CUDA_DRIVER(DSV32_CUDA_MEMBER)
#undef DSV32_CUDA_MEMBER
};

// Opens libcuda.so.1, which stays open as every driver does, and starts it; cheap the second time.
// Throws unsupported: no driver, a toolkit's stub, one older than R580, one that does not start, or
// one that sees no GPU.
Driver open_driver();

// Throws unless `result` is success: out_of_memory; unsupported for code that this driver does not
// take; device for all else. `what` names the call.
void check(const Driver& driver, CUresult result, const char* what);

// The driver's name for a result: "CUDA_ERROR_ILLEGAL_ADDRESS".
const char* name_of(const Driver& driver, CUresult result);

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_DRIVER_H_
