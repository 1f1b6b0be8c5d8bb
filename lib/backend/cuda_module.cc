// Finds libdsv32_cuda.so and opens it. The plug-in alone knows of CUDA, and finds the driver
// itself.
#include <charconv>
#include <cstdint>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "lib/backend/backend_kind.h"
#include "lib/backend/plugin.h"
#include "lib/base/check.h"

namespace dsv32 {
namespace {

namespace fs = std::filesystem;

// The file of which this code is a part, as the kernel knows it: what dladdr() says of a program is
// how it was called. Empty where /proc does not say.
fs::path own_file() {
  const auto here = reinterpret_cast<std::uintptr_t>(&own_file);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    const char* last = line.data() + line.size();
    const auto dash = std::from_chars(line.data(), last, begin, 16);
    if (dash.ec != std::errc() || dash.ptr == last) continue;
    if (std::from_chars(dash.ptr + 1, last, end, 16).ec != std::errc()) continue;
    if (here < begin || here >= end) continue;
    const std::size_t path = line.find('/');
    return path == std::string::npos ? fs::path() : fs::path(line.substr(path));
  }
  return {};
}

// Where it may lie: never the current folder, nor one that the environment names.
std::vector<fs::path> places(const fs::path& module_path) {
  if (!module_path.empty()) return {fs::absolute(module_path)};
  std::vector<fs::path> all;
  if (const fs::path own = own_file(); !own.empty())
    all.push_back(own.parent_path() / kCudaPluginFile);
  const fs::path installed = fs::path(DSV32_LIBDIR) / kCudaPluginFile;
  if (installed.is_absolute() && (all.empty() || installed != all.front()))
    all.push_back(installed);
  return all;
}

fs::path found(const fs::path& module_path) {
  std::string looked;
  for (const fs::path& place : places(module_path)) {
    std::error_code error;
    if (fs::is_regular_file(place, error)) return place;
    looked += (looked.empty() ? "" : ", ") + quote_path(place.string());
  }
  throw Error(ErrorCode::unsupported,
              formatted("CUDA: there is no {} ({}); a build with DSV32_CUDA has it",
                        kCudaPluginFile, looked));
}

// Opened once more at each call, which counts; never closed, as the driver behind it is not, and so
// that what it threw outlives its backends.
const BackendKind& plugin(const fs::path& module_path) {
  const fs::path file = found(module_path);
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw Error(ErrorCode::unsupported,
                formatted("CUDA: {} cannot be opened: {}", quote_path(file.string()),
                          quote(reason == nullptr ? "" : reason)));
  }
  const auto* entry = static_cast<const PluginEntry*>(dlsym(library, kCudaPluginSymbol));
  DSV32_CHECK(entry != nullptr, mismatch, "CUDA: {} is no plug-in of this library",
              quote_path(file.string()));
  DSV32_CHECK(std::string_view(entry->build_id) == DSV32_BUILD_ID, mismatch,
              "CUDA: {} is of build {}, this library of build {}", quote_path(file.string()),
              quote(entry->build_id), DSV32_BUILD_ID);
  return *entry->kind;
}

std::vector<BackendInfo> devices(const BackendOptions& options) {
  try {
    return plugin(options.module_path).devices(options);
  } catch (const Error&) {  // unavailable_reason() has it
    return {};
  }
}

std::unique_ptr<Backend> open(const BackendOptions& options) {
  return plugin(options.module_path).open(options);
}

StepShapes shapes(const BackendOptions& options) {
  return plugin(options.module_path).shapes(options);
}

std::size_t scratch_bytes(const BackendLimits& limits, const BackendOptions& options) {
  return plugin(options.module_path).scratch_bytes(limits, options);
}

std::optional<std::size_t> memory(const BackendOptions& options) {
  return plugin(options.module_path).available_memory(options);
}

}  // namespace

constinit const BackendKind cuda_backend_kind = {.device = Device::cuda,
                                                 .devices = devices,
                                                 .open = open,
                                                 .shapes = shapes,
                                                 .scratch_bytes = scratch_bytes,
                                                 .available_memory = memory,
                                                 .staging_bytes = kCudaStagingBytes};

}  // namespace dsv32
