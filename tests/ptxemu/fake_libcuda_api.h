// The part of the CUDA driver API (13.0) that the fake driver has, under the names that
// libcuda.so.1 exports. NVIDIA's cuda.h is not needed; where it is there, fake_libcuda_abi_test.cc
// compares.
#ifndef DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_API_H_
#define DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_API_H_

#include <cstddef>
#include <cstdint>

namespace dsv32::fakecuda {

using DevicePointer = std::uint64_t;
using Handle = void*;  // of a context, stream, event, module, function, graph or executable graph

// CUresult
enum Result : int {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  stub_library = 34,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  ecc_uncorrectable = 214,
  invalid_ptx = 218,
  unsupported_ptx_version = 222,
  invalid_handle = 400,
  illegal_state = 401,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  launch_out_of_resources = 701,
  launch_timeout = 702,
  context_is_destroyed = 709,
  misaligned_address = 716,
  invalid_address_space = 717,
  invalid_pc = 718,
  launch_failed = 719,
  not_supported = 801,
  capture_unsupported = 900,
  capture_invalidated = 901,
  capture_merge = 902,
  capture_unmatched = 903,
  capture_unjoined = 904,
  capture_isolation = 905,
  capture_implicit = 906,
  captured_event = 907,
  capture_wrong_thread = 908,
  unknown = 999,
};

// CUdevice_attribute
enum DeviceAttribute : int {
  max_threads_per_block = 1,
  max_block_x = 2,
  max_block_y = 3,
  max_block_z = 4,
  max_grid_x = 5,
  max_grid_y = 6,
  max_grid_z = 7,
  shared_per_block = 8,
  warp_size = 10,
  registers_per_block = 12,
  clock_khz = 13,
  multiprocessors = 16,
  integrated = 18,
  can_map_host = 19,
  compute_mode = 20,
  concurrent_kernels = 31,
  memory_clock_khz = 36,
  memory_bus_bits = 37,
  l2_bytes = 38,
  async_engines = 40,
  unified_addressing = 41,
  capability_major = 75,
  capability_minor = 76,
  shared_per_multiprocessor = 81,
  cooperative_launch = 95,
  shared_per_block_optin = 97,
};

// CUfunction_attribute
enum FunctionAttribute : int {
  function_max_threads = 0,
  function_static_shared = 1,
  function_const_bytes = 2,
  function_local_bytes = 3,
  function_registers = 4,
  function_ptx_version = 5,
  function_binary_version = 6,
  function_max_dynamic_shared = 8,
  function_shared_carveout = 9,
};

enum JitOption : int { info_log = 3, info_log_bytes = 4, error_log = 5, error_log_bytes = 6 };
enum CaptureMode : int { capture_global = 0, capture_thread_local = 1, capture_relaxed = 2 };
enum StreamFlag : unsigned { stream_default = 0, stream_non_blocking = 1 };
enum EventFlag : unsigned { event_default = 0, event_blocking_sync = 1, event_no_timing = 2 };

// Keys of cuLaunchKernel's `extra`.
inline constexpr std::uintptr_t kExtraEnd = 0, kExtraBuffer = 1, kExtraBufferBytes = 2;

struct Uuid {
  char bytes[16];
};

struct LaunchConfig {  // CUlaunchConfig
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared;
  Handle stream;
  void* attributes;
  unsigned attribute_count;
};

// X(name, parameters): every function of the driver that is here.
#define FAKECUDA_CALLS(X)                                                                         \
  X(cuInit, (unsigned flags))                                                                     \
  X(cuDriverGetVersion, (int* version))                                                           \
  X(cuGetErrorName, (Result error, const char** text))                                            \
  X(cuGetErrorString, (Result error, const char** text))                                          \
  X(cuGetProcAddress_v2,                                                                          \
    (const char* symbol, void** function, int version, std::uint64_t flags, int* status))         \
  X(cuDeviceGetCount, (int* count))                                                               \
  X(cuDeviceGet, (int* device, int ordinal))                                                      \
  X(cuDeviceGetName, (char* name, int bytes, int device))                                         \
  X(cuDeviceGetUuid_v2, (Uuid * uuid, int device))                                                \
  X(cuDeviceTotalMem_v2, (std::size_t * bytes, int device))                                       \
  X(cuDeviceGetAttribute, (int* value, int attribute, int device))                                \
  X(cuDevicePrimaryCtxRetain, (Handle * context, int device))                                     \
  X(cuDevicePrimaryCtxRelease_v2, (int device))                                                   \
  X(cuDevicePrimaryCtxReset_v2, (int device))                                                     \
  X(cuDevicePrimaryCtxGetState, (int device, unsigned* flags, int* active))                       \
  X(cuCtxPushCurrent_v2, (Handle context))                                                        \
  X(cuCtxPopCurrent_v2, (Handle * context))                                                       \
  X(cuCtxSetCurrent, (Handle context))                                                            \
  X(cuCtxGetCurrent, (Handle * context))                                                          \
  X(cuCtxGetDevice, (int* device))                                                                \
  X(cuCtxSynchronize, ())                                                                         \
  X(cuMemGetInfo_v2, (std::size_t * free, std::size_t * total))                                   \
  X(cuMemAlloc_v2, (DevicePointer * address, std::size_t bytes))                                  \
  X(cuMemFree_v2, (DevicePointer address))                                                        \
  X(cuMemHostAlloc, (void** address, std::size_t bytes, unsigned flags))                          \
  X(cuMemFreeHost, (void* address))                                                               \
  X(cuMemcpyHtoD_v2, (DevicePointer to, const void* from, std::size_t bytes))                     \
  X(cuMemcpyDtoH_v2, (void* to, DevicePointer from, std::size_t bytes))                           \
  X(cuMemcpyDtoD_v2, (DevicePointer to, DevicePointer from, std::size_t bytes))                   \
  X(cuMemcpyHtoDAsync_v2, (DevicePointer to, const void* from, std::size_t bytes, Handle stream)) \
  X(cuMemcpyDtoHAsync_v2, (void* to, DevicePointer from, std::size_t bytes, Handle stream))       \
  X(cuMemcpyDtoDAsync_v2,                                                                         \
    (DevicePointer to, DevicePointer from, std::size_t bytes, Handle stream))                     \
  X(cuMemsetD8Async, (DevicePointer to, unsigned char value, std::size_t count, Handle stream))   \
  X(cuMemsetD32Async, (DevicePointer to, unsigned value, std::size_t count, Handle stream))       \
  X(cuStreamCreate, (Handle * stream, unsigned flags))                                            \
  X(cuStreamDestroy_v2, (Handle stream))                                                          \
  X(cuStreamSynchronize, (Handle stream))                                                         \
  X(cuStreamQuery, (Handle stream))                                                               \
  X(cuStreamWaitEvent, (Handle stream, Handle event, unsigned flags))                             \
  X(cuStreamBeginCapture_v2, (Handle stream, int mode))                                           \
  X(cuStreamEndCapture, (Handle stream, Handle * graph))                                          \
  X(cuStreamIsCapturing, (Handle stream, int* status))                                            \
  X(cuEventCreate, (Handle * event, unsigned flags))                                              \
  X(cuEventRecord, (Handle event, Handle stream))                                                 \
  X(cuEventQuery, (Handle event))                                                                 \
  X(cuEventSynchronize, (Handle event))                                                           \
  X(cuEventElapsedTime, (float* milliseconds, Handle begin, Handle end))                          \
  X(cuEventElapsedTime_v2, (float* milliseconds, Handle begin, Handle end))                       \
  X(cuEventDestroy_v2, (Handle event))                                                            \
  X(cuModuleLoadData, (Handle * module, const void* image))                                       \
  X(cuModuleLoadDataEx,                                                                           \
    (Handle * module, const void* image, unsigned count, int* options, void** values))            \
  X(cuModuleUnload, (Handle module))                                                              \
  X(cuModuleGetFunction, (Handle * function, Handle module, const char* name))                    \
  X(cuModuleGetGlobal_v2,                                                                         \
    (DevicePointer * address, std::size_t * bytes, Handle module, const char* name))              \
  X(cuFuncGetAttribute, (int* value, int attribute, Handle function))                             \
  X(cuFuncSetAttribute, (Handle function, int attribute, int value))                              \
  X(cuLaunchKernel, (Handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,          \
                     unsigned block_x, unsigned block_y, unsigned block_z,                        \
                     unsigned dynamic_shared, Handle stream, void** parameters, void** extra))    \
  X(cuLaunchKernelEx,                                                                             \
    (const LaunchConfig* config, Handle function, void** parameters, void** extra))               \
  X(cuGraphInstantiateWithFlags, (Handle * executable, Handle graph, std::uint64_t flags))        \
  X(cuGraphGetNodes, (Handle graph, Handle * nodes, std::size_t * count))                         \
  X(cuGraphLaunch, (Handle executable, Handle stream))                                            \
  X(cuGraphExecDestroy, (Handle executable))                                                      \
  X(cuGraphDestroy, (Handle graph))

}  // namespace dsv32::fakecuda

#endif  // DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_API_H_
