#include "lib/backend/cuda/kernels.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "lib/backend/cuda/kernel_images.h"
#include "lib/base/check.h"

namespace dsv32::cuda {
namespace {

const KernelImage& image_for(std::string_view file, int arch) {
  const KernelImage* ptx = nullptr;
  for (const KernelImage& image : kernel_images()) {
    if (image.file != file) continue;
    if (image.arch == arch) return image;
    if (image.arch == 0) ptx = &image;
  }
  DSV32_CHECK(ptx != nullptr, internal, "no code of kernels {}", file);
  return *ptx;
}

}  // namespace

Kernels::Kernels(std::shared_ptr<Gpu> device) : device_(std::move(device)) {
  const Entered in(*device_);
  const Driver& driver = device_->driver();
  try {
    std::map<std::string_view, CUmodule> by_file;
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      const kernels::cuda::KernelName name = kernels::cuda::kKernelNames[i];
      const auto [found, is_new] = by_file.try_emplace(name.file, nullptr);
      if (is_new) found->second = load(name.file);
      device_->check(driver.cuModuleGetFunction(&functions_[i], found->second, name.function),
                     name.function);
    }
    for (const kernels::cuda::SharedNeed& need : kernels::cuda::kSharedNeeds) {
      if (static_cast<int>(need.bytes) > device_->facts().block_shared) continue;  // never launched
      device_->check(driver.cuFuncSetAttribute((*this)[need.kernel],
                                               CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                               static_cast<int>(need.bytes)),
                     "cuFuncSetAttribute");
    }
  } catch (...) {
    unload();
    throw;
  }
}

CUmodule Kernels::load(const char* file) {
  const Driver& driver = device_->driver();
  const KernelImage& image = image_for(file, device_->facts().arch);
  std::array<char, 256> log{};
  std::array<CUjit_option, 2> options = {CU_JIT_ERROR_LOG_BUFFER,
                                         CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): so the driver wants it
  std::array<void*, 2> values = {log.data(), reinterpret_cast<void*>(std::uintptr_t{log.size()})};
  CUmodule module = nullptr;
  modules_.reserve(modules_.size() + 1);
  const CUresult result =
      driver.cuModuleLoadDataEx(&module, image.data, 2, options.data(), values.data());
  log.back() = '\0';
  const std::string what = formatted("loading kernels {} ({}){}{}", file,
                                     image.arch == 0 ? "PTX" : formatted("sm_{}", image.arch),
                                     log[0] ? ": " : "", log[0] ? quote(log.data()) : "");
  device_->check(result, what.c_str());
  modules_.push_back(module);
  return module;
}

Kernels::~Kernels() {
  if (!device_->is_own_process()) return;
  try {
    const Entered in(*device_);
    unload();
  } catch (const Error&) {  // a broken context takes its modules with it
  }
}

void Kernels::unload() noexcept {
  for (CUmodule module : modules_) static_cast<void>(device_->driver().cuModuleUnload(module));
  modules_.clear();
}

}  // namespace dsv32::cuda
