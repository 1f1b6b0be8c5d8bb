#include "lib/backend/cuda/driver.h"

#include <dlfcn.h>

#include "lib/base/check.h"

namespace dsv32::cuda {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";
constexpr int kOldest = 13000;  // R580: what our PTX and cubins, of CUDA 13.0, need

void* library() {
  void* opened = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (opened != nullptr) return opened;
  const char* reason = dlerror();
  throw Error(ErrorCode::unsupported,
              formatted("CUDA: there is no NVIDIA driver: {}", quote(reason ? reason : kLibrary)));
}

template <class Function>
void find(void* opened, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(opened, name));
  DSV32_CHECK(function != nullptr, unsupported,
              "CUDA: the NVIDIA driver is too old: it has no {}; R580 or newer is needed", name);
}

void check_stub(CUresult result) {
  DSV32_CHECK(result != CUDA_ERROR_STUB_LIBRARY, unsupported,
              "CUDA: {} is a stub, for linking only: a CUDA toolkit's folder lies before the "
              "NVIDIA driver's",
              kLibrary);
}

}  // namespace

Driver open_driver() {
  void* opened = library();
  Driver driver;
  // The version first: an old driver lacks some of the rest, and says best what it is.
  find(opened, "cuDriverGetVersion", driver.cuDriverGetVersion);
  int version = 0;
  check_stub(driver.cuDriverGetVersion(&version));
  DSV32_CHECK(
      version >= kOldest, unsupported,
      "CUDA: the NVIDIA driver is too old: it is for CUDA {}.{}, R580 (CUDA {}.{}) or newer "
      "is needed",
      version / 1000, version % 1000 / 10, kOldest / 1000, kOldest % 1000 / 10);
#define DSV32_CUDA_FIND(name) find(opened, #name, driver.name);
  DSV32_CUDA_DRIVER(DSV32_CUDA_FIND)
#undef DSV32_CUDA_FIND
  const CUresult started = driver.cuInit(0);
  check_stub(started);
  DSV32_CHECK(started != CUDA_ERROR_NO_DEVICE, unsupported, "CUDA: there is no NVIDIA GPU");
  DSV32_CHECK(started == CUDA_SUCCESS, unsupported, "CUDA: the NVIDIA driver does not start: {}",
              name_of(driver, started));
  return driver;
}

const char* name_of(const Driver& driver, CUresult result) {
  const char* name = nullptr;
  if (driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr)
    return "an error without a name";
  return name;
}

void check(const Driver& driver, CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  if (driver.cuGetErrorString(result, &text) != CUDA_SUCCESS || text == nullptr) text = "";
  ErrorCode code = ErrorCode::device;
  switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      code = ErrorCode::out_of_memory;
      break;
    case CUDA_ERROR_INVALID_IMAGE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
    case CUDA_ERROR_JIT_COMPILATION_DISABLED:
      code = ErrorCode::unsupported;
      break;
    default:
      break;
  }
  throw Error(code, formatted("CUDA: {}: {} ({})", what, text, name_of(driver, result)));
}

}  // namespace dsv32::cuda
