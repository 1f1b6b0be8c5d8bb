// Three shared objects of the tests, by what is defined: a plug-in of another build, one of this
// build whose every function throws, and one that is none.
#include <new>

#include "lib/backend/plugin.h"
#include "lib/base/check.h"

namespace {

using namespace dsv32;

std::vector<BackendInfo> devices(const BackendOptions&) {
  throw Error(ErrorCode::device, "devices, from the plug-in");
}

std::unique_ptr<Backend> open(const BackendOptions& options) {
  DSV32_CHECK(options.device_index == 0, device, "open {}, from the plug-in", options.device_index);
  throw std::bad_alloc();
}

StepShapes shapes(const BackendOptions&) {
  throw Error(ErrorCode::unsupported, "shapes, from the plug-in");
}

std::size_t scratch_bytes(const BackendLimits&, const BackendOptions&) {
  throw Error(ErrorCode::internal, "scratch, from the plug-in");
}

std::optional<std::size_t> memory(const BackendOptions&) {
  throw Error(ErrorCode::out_of_memory, "memory, from the plug-in");
}

constinit const BackendKind kKind = {.device = Device::cuda,
                                     .devices = devices,
                                     .open = open,
                                     .shapes = shapes,
                                     .scratch_bytes = scratch_bytes,
                                     .available_memory = memory};

}  // namespace

#if defined(DSV32_TEST_NO_PLUGIN)
extern "C" __attribute__((visibility("default"))) const void* something_else() { return &kKind; }
#else
extern "C"
    __attribute__((visibility("default"))) constinit const dsv32::PluginEntry dsv32_cuda_plugin = {
        DSV32_BUILD_ID, &kKind};
#endif
