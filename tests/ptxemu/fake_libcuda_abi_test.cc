// The fake's declarations against NVIDIA's, where those are: names, sizes of parameters, values.
#include <string>
#include <type_traits>
#include <utility>

#include "tests/ptxemu/fake_driver.h"  // before NVIDIA's, which makes macros of some names
#include "tests/support/catch.h"

#if __has_include(<cuda.h>)
#include <cuda.h>
#endif

#if defined(CUDA_VERSION) && CUDA_VERSION >= 13000

namespace dsv32::fakecuda::test {
namespace {

template <class Ours, class Theirs>
constexpr bool kSameType =
    sizeof(Ours) == sizeof(Theirs) &&
    std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>&& std::is_floating_point_v<Ours> ==
        std::is_floating_point_v<Theirs>;

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class Ours, class Theirs, class... OurTypes, class... TheirTypes>
requires(sizeof...(OurTypes) ==
         sizeof...(TheirTypes)) struct SameCall<Ours(OurTypes...), Theirs(TheirTypes...)>
    : std::bool_constant<(kSameType<OurTypes, TheirTypes> && ... && kSameType<Ours, Theirs>)> {
};

#define FAKECUDA_SAME(name, parameters) \
  static_assert(SameCall<Result parameters, decltype(::name)>::value, #name);
FAKECUDA_CALLS(FAKECUDA_SAME)
#undef FAKECUDA_SAME

static_assert(sizeof(LaunchConfig) == sizeof(CUlaunchConfig));
static_assert(offsetof(LaunchConfig, stream) == offsetof(CUlaunchConfig, hStream));
static_assert(offsetof(LaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));

struct Value {
  int ours, theirs;
};

}  // namespace

TEST_CASE("fake driver: its numbers are those of cuda.h") {
  const Value values[] = {
      {out_of_memory, CUDA_ERROR_OUT_OF_MEMORY},
      {not_initialized, CUDA_ERROR_NOT_INITIALIZED},
      {stub_library, CUDA_ERROR_STUB_LIBRARY},
      {no_device, CUDA_ERROR_NO_DEVICE},
      {invalid_device, CUDA_ERROR_INVALID_DEVICE},
      {invalid_image, CUDA_ERROR_INVALID_IMAGE},
      {invalid_context, CUDA_ERROR_INVALID_CONTEXT},
      {no_binary_for_gpu, CUDA_ERROR_NO_BINARY_FOR_GPU},
      {ecc_uncorrectable, CUDA_ERROR_ECC_UNCORRECTABLE},
      {invalid_ptx, CUDA_ERROR_INVALID_PTX},
      {unsupported_ptx_version, CUDA_ERROR_UNSUPPORTED_PTX_VERSION},
      {invalid_handle, CUDA_ERROR_INVALID_HANDLE},
      {illegal_state, CUDA_ERROR_ILLEGAL_STATE},
      {not_found, CUDA_ERROR_NOT_FOUND},
      {not_ready, CUDA_ERROR_NOT_READY},
      {illegal_address, CUDA_ERROR_ILLEGAL_ADDRESS},
      {launch_out_of_resources, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES},
      {launch_timeout, CUDA_ERROR_LAUNCH_TIMEOUT},
      {context_is_destroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED},
      {misaligned_address, CUDA_ERROR_MISALIGNED_ADDRESS},
      {launch_failed, CUDA_ERROR_LAUNCH_FAILED},
      {not_supported, CUDA_ERROR_NOT_SUPPORTED},
      {capture_unsupported, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED},
      {capture_unjoined, CUDA_ERROR_STREAM_CAPTURE_UNJOINED},
      {capture_isolation, CUDA_ERROR_STREAM_CAPTURE_ISOLATION},
      {captured_event, CUDA_ERROR_CAPTURED_EVENT},
      {capture_wrong_thread, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD},
      {unknown, CUDA_ERROR_UNKNOWN},
      {registers_per_block, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK},
      {multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
      {integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
      {can_map_host, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY},
      {compute_mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE},
      {concurrent_kernels, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS},
      {memory_clock_khz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE},
      {memory_bus_bits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
      {l2_bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
      {async_engines, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
      {unified_addressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING},
      {capability_major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
      {capability_minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
      {shared_per_multiprocessor, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
      {cooperative_launch, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH},
      {shared_per_block_optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
      {function_max_dynamic_shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES},
      {function_shared_carveout, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT},
      {info_log, CU_JIT_INFO_LOG_BUFFER},
      {info_log_bytes, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES},
      {error_log, CU_JIT_ERROR_LOG_BUFFER},
      {error_log_bytes, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES},
      {capture_thread_local, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL},
      {stream_non_blocking, CU_STREAM_NON_BLOCKING},
      {event_no_timing, CU_EVENT_DISABLE_TIMING}};
  for (const Value& value : values) CHECK(value.ours == value.theirs);
  CHECK(reinterpret_cast<std::uintptr_t>(CU_LAUNCH_PARAM_BUFFER_POINTER) == kExtraBuffer);
  CHECK(reinterpret_cast<std::uintptr_t>(CU_LAUNCH_PARAM_BUFFER_SIZE) == kExtraBufferBytes);
  CHECK(reinterpret_cast<std::uintptr_t>(CU_LAUNCH_PARAM_END) == kExtraEnd);
}

TEST_CASE("fake driver: its names of errors are those of cuda.h") {
#define FAKECUDA_ERROR(name) \
  { name, #name }
  const std::pair<CUresult, const char*> errors[] = {
      FAKECUDA_ERROR(CUDA_ERROR_INVALID_VALUE),
      FAKECUDA_ERROR(CUDA_ERROR_DEINITIALIZED),
      FAKECUDA_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE),
      FAKECUDA_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU),
      FAKECUDA_ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE),
      FAKECUDA_ERROR(CUDA_ERROR_JIT_COMPILER_NOT_FOUND),
      FAKECUDA_ERROR(CUDA_ERROR_JIT_COMPILATION_DISABLED),
      FAKECUDA_ERROR(CUDA_ERROR_OPERATING_SYSTEM),
      FAKECUDA_ERROR(CUDA_ERROR_ASSERT),
      FAKECUDA_ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR),
      FAKECUDA_ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION),
      FAKECUDA_ERROR(CUDA_ERROR_SYSTEM_NOT_READY),
      FAKECUDA_ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
      FAKECUDA_ERROR(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE),
      FAKECUDA_ERROR(CUDA_ERROR_TIMEOUT)};
#undef FAKECUDA_ERROR
  const FakeDriver driver(dlopen(DSV32_FAKE_LIBCUDA, RTLD_NOW | RTLD_LOCAL));
  REQUIRE(driver.missing.empty());
  driver.reset();
  for (const auto& [error, name] : errors) {
    const char* text = nullptr;
    CHECK(driver.cuGetErrorName(static_cast<Result>(error), &text) == success);
    CHECK(std::string(text) == name);
  }
}

}  // namespace dsv32::fakecuda::test

#endif
