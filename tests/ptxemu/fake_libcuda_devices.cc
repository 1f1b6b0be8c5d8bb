// The driver's calls for itself, its devices and their primary contexts.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>

#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {

// What a block may take if it asks ("CUDA C++ Programming Guide", compute capabilities).
std::size_t shared_limit(const Settings& settings) {
  const long long capability = settings.major * 10 + settings.minor;
  if (capability < 80) return 64 * 1024;
  if (capability == 80 || capability == 87) return 163 * 1024;
  if (capability == 90 || settings.major == 10 || settings.major == 11) return 227 * 1024;
  return 99 * 1024;
}

namespace {

struct ErrorText {
  Result result;
  const char *name, *text;
};

// Names as cuda.h has them, texts as the driver has them.
constexpr Result code(int number) { return static_cast<Result>(number); }

constexpr ErrorText kErrors[] = {
    {success, "CUDA_SUCCESS", "no error"},
    {invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {stub_library, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {no_device, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {invalid_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {invalid_image, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {invalid_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {no_binary_for_gpu, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {ecc_uncorrectable, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {invalid_ptx, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {unsupported_ptx_version, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {invalid_handle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {illegal_state, "CUDA_ERROR_ILLEGAL_STATE",
     "the operation cannot be performed in the present state"},
    {not_found, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {not_ready, "CUDA_ERROR_NOT_READY", "device not ready"},
    {illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {launch_out_of_resources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {launch_timeout, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {context_is_destroyed, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {misaligned_address, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {invalid_address_space, "CUDA_ERROR_INVALID_ADDRESS_SPACE",
     "operation not supported on global/shared address space"},
    {invalid_pc, "CUDA_ERROR_INVALID_PC", "invalid program counter"},
    {launch_failed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {not_supported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {capture_unsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {capture_invalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {capture_merge, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {capture_unmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {capture_unjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {capture_isolation, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {capture_implicit, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {captured_event, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {capture_wrong_thread, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {unknown, "CUDA_ERROR_UNKNOWN", "unknown error"},
    // Of no use to the fake itself, but a test may tell it to fail so.
    {code(4), "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {code(46), "CUDA_ERROR_DEVICE_UNAVAILABLE",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {code(220), "CUDA_ERROR_NVLINK_UNCORRECTABLE",
     "uncorrectable NVLink error detected during the execution"},
    {code(221), "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {code(223), "CUDA_ERROR_JIT_COMPILATION_DISABLED", "PTX JIT compilation was disabled"},
    {code(304), "CUDA_ERROR_OPERATING_SYSTEM",
     "OS call failed or operation not supported on this OS"},
    {code(710), "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {code(714), "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"},
    {code(715), "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {code(802), "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {code(803), "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {code(804), "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
     "forward compatibility was attempted on non supported HW"},
    {code(909), "CUDA_ERROR_TIMEOUT", "wait operation timed out"},
};

Result error_text(Result error, const char** text, const char* ErrorText::*which) {
  if (text == nullptr) return invalid_value;
  *text = nullptr;
  for (const ErrorText& known : kErrors) {
    if (known.result == error) *text = known.*which;
  }
  return *text != nullptr ? success : invalid_value;
}

std::map<int, long long> attributes(const Settings& settings) {
  const auto optin = static_cast<long long>(shared_limit(settings));
  return {{max_threads_per_block, 1024},
          {max_block_x, 1024},
          {max_block_y, 1024},
          {max_block_z, 64},
          {max_grid_x, 2'147'483'647},
          {max_grid_y, 65'535},
          {max_grid_z, 65'535},
          {shared_per_block, 48 * 1024},
          {warp_size, 32},
          {registers_per_block, 65'536},
          {clock_khz, 1'000'000},
          {multiprocessors, 4},
          {integrated, 0},
          {can_map_host, 0},
          {compute_mode, 0},
          {concurrent_kernels, 1},
          {memory_clock_khz, 1'000'000},
          {memory_bus_bits, 256},
          {l2_bytes, 4 << 20},
          {async_engines, 2},
          {unified_addressing, 0},
          {capability_major, settings.major},
          {capability_minor, settings.minor},
          {shared_per_multiprocessor, optin + 1024},
          {cooperative_launch, 0},
          {shared_per_block_optin, optin}};
}

std::unordered_map<std::string, void*> symbols() {
  return {
#define FAKECUDA_SYMBOL(name, parameters) {#name, reinterpret_cast<void*>(&exported::name)},
      FAKECUDA_CALLS(FAKECUDA_SYMBOL)
#undef FAKECUDA_SYMBOL
  };
}

Result with_context(Driver& driver, int device, void* out, std::shared_ptr<Device>& found) {
  found = driver.device(device);
  if (found == nullptr) return invalid_device;
  return out != nullptr ? success : invalid_value;
}

}  // namespace

namespace exported {

FAKECUDA_API cuInit(unsigned flags) {
  return call(Call::cuInit, [&](Driver& driver) -> Result {
    if (flags != 0) return invalid_value;
    return driver.initialize();
  });
}

FAKECUDA_API cuDriverGetVersion(int* version) {
  return call(Call::cuDriverGetVersion, [&](Driver& driver) -> Result {
    if (version == nullptr) return invalid_value;
    *version = static_cast<int>(driver.settings.version);
    return success;
  });
}

FAKECUDA_API cuGetErrorName(Result error, const char** text) {
  return call(Call::cuGetErrorName,
              [&](Driver&) { return error_text(error, text, &ErrorText::name); });
}

FAKECUDA_API cuGetErrorString(Result error, const char** text) {
  return call(Call::cuGetErrorString,
              [&](Driver&) { return error_text(error, text, &ErrorText::text); });
}

// The newest form of a name, which is given without its version.
FAKECUDA_API cuGetProcAddress_v2(const char* symbol, void** function, int version, std::uint64_t,
                                 int* status) {
  return call(Call::cuGetProcAddress_v2, [&](Driver& driver) -> Result {
    if (symbol == nullptr || function == nullptr) return invalid_value;
    static const std::unordered_map<std::string, void*> known = symbols();
    *function = nullptr;
    const std::string name = symbol;
    for (const char* suffix : {"_v2", ""}) {
      const auto found = known.find(name + suffix);
      if (*function == nullptr && found != known.end()) *function = found->second;
    }
    const bool newer = version > driver.settings.version;
    if (newer) *function = nullptr;
    // CUdriverProcAddressQueryResult: found, no such symbol, another version has it.
    if (status != nullptr) *status = *function != nullptr ? 0 : newer ? 2 : 1;
    return *function != nullptr ? success : not_found;
  });
}

FAKECUDA_API cuDeviceGetCount(int* count) {
  return call(Call::cuDeviceGetCount, [&](Driver& driver) -> Result {
    if (count == nullptr) return invalid_value;
    *count = 0;
    while (driver.device(*count) != nullptr) ++*count;
    return success;
  });
}

FAKECUDA_API cuDeviceGet(int* device, int ordinal) {
  return call(Call::cuDeviceGet, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, ordinal, device, found));
    *device = ordinal;
    return success;
  });
}

FAKECUDA_API cuDeviceGetName(char* name, int bytes, int device) {
  return call(Call::cuDeviceGetName, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, device, name, found));
    if (bytes <= 0) return invalid_value;
    std::snprintf(name, static_cast<std::size_t>(bytes), "PTX emulator (sm_%lld%lld)",
                  driver.settings.major, driver.settings.minor);
    return success;
  });
}

FAKECUDA_API cuDeviceGetUuid_v2(Uuid* uuid, int device) {
  return call(Call::cuDeviceGetUuid_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, device, uuid, found));
    std::memset(uuid->bytes, 0x5a, sizeof uuid->bytes);
    uuid->bytes[15] = static_cast<char>(device);
    return success;
  });
}

FAKECUDA_API cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
  return call(Call::cuDeviceTotalMem_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, device, bytes, found));
    *bytes = found->machine.bytes_total();
    return success;
  });
}

FAKECUDA_API cuDeviceGetAttribute(int* value, int attribute, int device) {
  return call(Call::cuDeviceGetAttribute, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, device, value, found));
    const std::map<int, long long> all = attributes(driver.settings);
    const auto known = all.find(attribute);
    if (known == all.end()) {
      driver.finding("an attribute of devices that is not here: " + std::to_string(attribute));
      return invalid_value;
    }
    *value = static_cast<int>(known->second);
    return success;
  });
}

FAKECUDA_API cuDevicePrimaryCtxRetain(Handle* context, int device) {
  return call(Call::cuDevicePrimaryCtxRetain, [&](Driver& driver) -> Result {
    if (context == nullptr) return invalid_value;
    return driver.retain(device, *context);
  });
}

FAKECUDA_API cuDevicePrimaryCtxRelease_v2(int device) {
  return call(Call::cuDevicePrimaryCtxRelease_v2,
              [&](Driver& driver) { return driver.release(device, false); });
}

FAKECUDA_API cuDevicePrimaryCtxReset_v2(int device) {
  return call(Call::cuDevicePrimaryCtxReset_v2,
              [&](Driver& driver) { return driver.release(device, true); });
}

FAKECUDA_API cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  return call(Call::cuDevicePrimaryCtxGetState, [&](Driver& driver) -> Result {
    std::shared_ptr<Device> found;
    FAKECUDA_TRY(with_context(driver, device, active, found));
    if (flags != nullptr) *flags = 0;
    *active = found->primary != nullptr ? 1 : 0;
    return success;
  });
}

FAKECUDA_API cuCtxPushCurrent_v2(Handle context) {
  return call(Call::cuCtxPushCurrent_v2, [&](Driver& driver) -> Result {
    const std::shared_ptr<Context> found = driver.find_context(context);
    if (found == nullptr) return invalid_context;
    context_stack().push_back(found);
    return success;
  });
}

FAKECUDA_API cuCtxPopCurrent_v2(Handle* context) {
  return call(Call::cuCtxPopCurrent_v2, [&](Driver&) -> Result {
    if (context_stack().empty()) return invalid_context;
    const std::shared_ptr<Context> top = context_stack().back();
    context_stack().pop_back();
    if (context != nullptr) *context = top != nullptr ? top->handle : nullptr;
    return success;
  });
}

FAKECUDA_API cuCtxSetCurrent(Handle context) {
  return call(Call::cuCtxSetCurrent, [&](Driver& driver) -> Result {
    const std::shared_ptr<Context> found = driver.find_context(context);
    if (context != nullptr && found == nullptr) return invalid_context;
    if (context_stack().empty()) context_stack().emplace_back();
    context_stack().back() = found;
    return success;
  });
}

FAKECUDA_API cuCtxGetCurrent(Handle* context) {
  return call(Call::cuCtxGetCurrent, [&](Driver&) -> Result {
    if (context == nullptr) return invalid_value;
    const bool none = context_stack().empty() || context_stack().back() == nullptr;
    *context = none ? nullptr : context_stack().back()->handle;
    return success;
  });
}

FAKECUDA_API cuCtxGetDevice(int* device) {
  return call(Call::cuCtxGetDevice, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context, true));
    if (device == nullptr) return invalid_value;
    *device = context->ordinal;
    return success;
  });
}

FAKECUDA_API cuCtxSynchronize() {
  return call(Call::cuCtxSynchronize, [&](Driver& driver) -> Result {
    std::shared_ptr<Context> context;
    FAKECUDA_TRY(driver.current(context));
    FAKECUDA_TRY(driver.refuse_in_capture(*context));
    return driver.drain_context(*context, false);
  });
}

}  // namespace exported
}  // namespace dsv32::fakecuda
