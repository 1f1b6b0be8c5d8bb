// What a backend in a shared object of its own shows to the library: one symbol.
#ifndef DSV32_LIB_BACKEND_PLUGIN_H_
#define DSV32_LIB_BACKEND_PLUGIN_H_

#include "lib/backend/backend_kind.h"

namespace dsv32 {

// Classes cross between the two, so both must have been compiled from the same headers by the same
// compiler: DSV32_BUILD_ID, which CMake makes of them. It is read before anything else.
struct PluginEntry {
  const char* build_id;
  const BackendKind* kind;
};

// Pinned memory of the host through which all goes that crosses.
inline constexpr std::size_t kCudaStagingBytes = std::size_t{48} << 20;

inline constexpr const char* kCudaPluginFile = "libdsv32_cuda.so";
inline constexpr const char* kCudaPluginSymbol = "dsv32_cuda_plugin";  // a PluginEntry

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_PLUGIN_H_
