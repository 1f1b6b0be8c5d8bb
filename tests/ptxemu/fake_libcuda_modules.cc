// The driver's calls for modules, functions and launches. Images are PTX text: machine code is
// looked at as far as a driver does before it refuses it.
#include <algorithm>
#include <cstring>
#include <string>

#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {
namespace {

constexpr int kLastJitOption = 40;  // CUjit_option has fewer

struct JitLog {
  char* error = nullptr;
  std::size_t error_bytes = 0;
  void** error_size_out = nullptr;
  char* info = nullptr;
  void** info_size_out = nullptr;
};

// Values of options are pointers, or numbers in pointers; sizes are replaced by what was written.
Result read_options(unsigned count, const int* options, void** values, JitLog& log) {
  if (count > 0 && (options == nullptr || values == nullptr)) return invalid_value;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] < 0 || options[i] > kLastJitOption) return invalid_value;
    if (options[i] == error_log) log.error = static_cast<char*>(values[i]);
    if (options[i] == info_log) log.info = static_cast<char*>(values[i]);
    if (options[i] == info_log_bytes) log.info_size_out = &values[i];
    if (options[i] == error_log_bytes) {
      log.error_bytes = reinterpret_cast<std::uintptr_t>(values[i]);
      log.error_size_out = &values[i];
    }
  }
  return success;
}

void write_log(const JitLog& log, const std::string& text) {
  std::size_t written = 0;
  if (log.error != nullptr && log.error_bytes > 0) {
    written = std::min(text.size(), log.error_bytes - 1);
    std::memcpy(log.error, text.data(), written);
    log.error[written] = '\0';
  }
  if (log.error_size_out != nullptr) *log.error_size_out = reinterpret_cast<void*>(written);
  if (log.info_size_out != nullptr) *log.info_size_out = nullptr;
}

// Of an ELF file of machine code, 64 bits: the sm_ number in e_flags, whose place is another from
// ABI version 8 (CUDA 13) on.
long long cubin_target(const unsigned char* image) {
  const unsigned char abi = image[8];
  std::uint32_t flags = 0;
  std::memcpy(&flags, image + 48, sizeof flags);
  return abi >= 8 ? flags >> 8 & 0xff : flags & 0xff;
}

Result refuse_machine_code(Driver& driver, const unsigned char* image) {
  const long long wants = cubin_target(image);
  const Settings& settings = driver.settings;
  const bool fits = wants / 10 == settings.major && wants % 10 <= settings.minor;
  if (fits) {
    driver.finding("machine code for sm_" + std::to_string(wants) +
                   " fits this device, but the emulator runs PTX: let it be one that nobody has "
                   "machine code for");
  }
  return no_binary_for_gpu;
}

// PTX is for a capability and all above; but "sm_90a" is for 9.0 alone, "sm_100f" for its family.
bool target_fits(const std::string& target, const Settings& settings) {
  const std::size_t digits = target.find_first_of("0123456789");
  if (digits == std::string::npos) return false;
  const long long wants = std::stoll(target.substr(digits));
  const long long has = settings.major * 10 + settings.minor;
  if (target.back() == 'a') return wants == has;
  if (target.back() == 'f') return wants / 10 == settings.major && wants <= has;
  return wants <= has;
}

// ISA versions that a driver's compiler knows: 9.0 with CUDA 13.0, one more with each minor one.
bool version_fits(int ptx_version, long long driver) {
  const long long major = driver / 1000, minor = driver % 1000 / 10;
  const long long newest = major >= 13   ? 90 + 10 * (major - 13) + minor
                           : major == 12 ? std::min(80 + minor, 88LL)
                                         : 78;
  return ptx_version <= newest;
}

Result load(Driver& driver, Handle* out, const void* image, const JitLog& log) {
  std::shared_ptr<Context> context;
  FAKECUDA_TRY(driver.current(context));
  if (out == nullptr || image == nullptr) return invalid_value;
  FAKECUDA_TRY(driver.refuse_in_capture(*context));
  write_log(log, "");
  const unsigned char* bytes = static_cast<const unsigned char*>(image);
  if (std::memcmp(bytes,
                  "\x7f"
                  "ELF",
                  4) == 0)
    return refuse_machine_code(driver, bytes);
  if (std::memcmp(bytes, "\x50\xed\x55\xba", 4) == 0) {
    driver.finding("a fat binary: the emulator takes the PTX in it alone");
    return no_binary_for_gpu;
  }
  ptxemu::ParseResult parsed = ptxemu::parse(static_cast<const char*>(image));
  if (!parsed.ok) {
    const std::string text = "line " + std::to_string(parsed.line) + ": " + parsed.error;
    write_log(log, "ptxas application ptx input, " + text);
    driver.finding("PTX that cannot be loaded, " + text);
    return invalid_ptx;
  }
  if (!version_fits(parsed.module.version(), driver.settings.version)) {
    return unsupported_ptx_version;
  }
  if (!target_fits(parsed.module.target(), driver.settings)) return no_binary_for_gpu;
  const auto module = std::make_shared<Module>(context);
  module->code = parsed.module;
  module->loaded = context->machine().load(parsed.module);
  if (module->loaded == 0) return out_of_memory;
  *out = driver.add(module);
  return success;
}

struct Shape {
  ptxemu::Size3 grid, block;
  unsigned dynamic_shared = 0;
};

bool in_range(unsigned value, unsigned most) { return value >= 1 && value <= most; }

Result check_shape(const Driver& driver, const Function& function, const Shape& shape) {
  const auto& [grid, block, dynamic_shared] = shape;
  const ptxemu::Kernel& kernel = *function.kernel;
  const bool grid_fits =
      in_range(grid.x, 2'147'483'647) && in_range(grid.y, 65'535) && in_range(grid.z, 65'535);
  const bool block_fits = in_range(block.x, 1024) && in_range(block.y, 1024) &&
                          in_range(block.z, 64) && block.x * block.y * block.z <= 1024;
  if (!grid_fits || !block_fits) return invalid_value;
  const ptxemu::Size3 most = kernel.max_block, exact = kernel.required_block;
  if (most.x != 0 && block.x * block.y * block.z > most.x * most.y * most.z) return invalid_value;
  if (exact.x != 0 && (block.x != exact.x || block.y != exact.y || block.z != exact.z)) {
    return invalid_value;
  }
  // Beyond 48 KiB a function has to be told first.
  if (dynamic_shared > function.max_dynamic_shared) return invalid_value;
  const std::size_t shared = kernel.static_shared + dynamic_shared;
  return shared <= shared_limit(driver.settings) ? success : invalid_value;
}

// The parameters as they lie in .param space: from a list of pointers, or as a buffer.
Result gather(const ptxemu::Kernel& kernel, void** parameters, void** extra, std::string& out) {
  if (parameters != nullptr && extra != nullptr) return invalid_value;
  out.assign(kernel.parameter_bytes, '\0');
  if (parameters != nullptr) {
    for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
      const ptxemu::Parameter& parameter = kernel.parameters[i];
      std::memcpy(out.data() + parameter.offset, parameters[i], parameter.bytes);
    }
    return success;
  }
  const char* buffer = nullptr;
  std::size_t bytes = 0;
  for (void** at = extra; at != nullptr && *at != nullptr; at += 2) {
    const std::uintptr_t key = reinterpret_cast<std::uintptr_t>(*at);
    if (key != kExtraBuffer && key != kExtraBufferBytes) return invalid_value;
    if (key == kExtraBuffer) buffer = static_cast<const char*>(at[1]);
    if (key == kExtraBufferBytes) bytes = *static_cast<const std::size_t*>(at[1]);
  }
  if (bytes != kernel.parameter_bytes || (bytes > 0 && buffer == nullptr)) return invalid_value;
  if (bytes > 0) out.assign(buffer, bytes);
  return success;
}

Result run_kernel(Driver& driver, const Function& function, const Shape& shape,
                  const std::string& parameters) {
  Module& module = *function.module;
  if (module.destroyed) {
    driver.finding("kernel " + function.kernel->name + " runs after its module was unloaded");
    return illegal_address;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(parameters.data());
  const ptxemu::Report report = module.context->machine().run(
      module.loaded, function.kernel->name,
      {shape.grid, shape.block, shape.dynamic_shared, {bytes, parameters.size()}},
      driver.run_options());
  driver.instructions += report.instructions;
  if (report.clean()) return success;
  driver.finding("kernel " + function.kernel->name + ": " + report.text());
  if (driver.settings.strict == 0) return success;
  if (report.has(ptxemu::Kind::bounds_global)) return illegal_address;
  return report.has(ptxemu::Kind::misaligned) ? misaligned_address : launch_failed;
}

Result launch(Driver& driver, Handle handle, const Shape& shape, Handle stream, void** parameters,
              void** extra) {
  std::shared_ptr<Function> function;
  FAKECUDA_TRY(driver.find(handle, function));
  FAKECUDA_TRY(check_shape(driver, *function, shape));
  std::string packed;
  FAKECUDA_TRY(gather(*function->kernel, parameters, extra, packed));
  return driver.submit(
      stream, {true, [=, &driver] { return run_kernel(driver, *function, shape, packed); }});
}

Result function_value(const Driver& driver, const Function& function, int attribute, int& value) {
  const ptxemu::Kernel& kernel = *function.kernel;
  const ptxemu::Size3 most = kernel.max_block;
  switch (attribute) {
    case function_max_threads:
      value = most.x == 0 ? 1024 : static_cast<int>(most.x * most.y * most.z);
      return success;
    case function_static_shared:
      value = static_cast<int>(kernel.static_shared);
      return success;
    case function_const_bytes:
      value = 0;
      return success;
    case function_local_bytes:
      value = static_cast<int>(kernel.local_bytes);
      return success;
    case function_registers:
      value = static_cast<int>(kernel.registers);
      return success;
    case function_ptx_version:
      value = function.module->code.version();
      return success;
    case function_binary_version:
      value = static_cast<int>(driver.settings.major * 10 + driver.settings.minor);
      return success;
    case function_max_dynamic_shared:
      value = static_cast<int>(function.max_dynamic_shared);
      return success;
    case function_shared_carveout:
      value = -1;
      return success;
    default:
      return invalid_value;
  }
}

}  // namespace

namespace exported {

FAKECUDA_API cuModuleLoadData(Handle* module, const void* image) {
  return call(Call::cuModuleLoadData,
              [&](Driver& driver) { return load(driver, module, image, JitLog{}); });
}

FAKECUDA_API cuModuleLoadDataEx(Handle* module, const void* image, unsigned count, int* options,
                                void** values) {
  return call(Call::cuModuleLoadDataEx, [&](Driver& driver) -> Result {
    JitLog log;
    FAKECUDA_TRY(read_options(count, options, values, log));
    return load(driver, module, image, log);
  });
}

FAKECUDA_API cuModuleUnload(Handle module) {
  return call(Call::cuModuleUnload, [&](Driver& driver) -> Result {
    std::shared_ptr<Module> found;
    FAKECUDA_TRY(driver.find(module, found));
    FAKECUDA_TRY(driver.refuse_in_capture(*found->context));
    driver.destroy(module);
    return success;
  });
}

FAKECUDA_API cuModuleGetFunction(Handle* function, Handle module, const char* name) {
  return call(Call::cuModuleGetFunction, [&](Driver& driver) -> Result {
    std::shared_ptr<Module> found;
    FAKECUDA_TRY(driver.find(module, found));
    if (function == nullptr || name == nullptr) return invalid_value;
    const auto made = std::make_shared<Function>(found);
    made->kernel = found->code.kernel(name);
    if (made->kernel == nullptr) return not_found;
    *function = driver.add(made);
    return success;
  });
}

FAKECUDA_API cuModuleGetGlobal_v2(DevicePointer* address, std::size_t* bytes, Handle module,
                                  const char* name) {
  return call(Call::cuModuleGetGlobal_v2, [&](Driver& driver) -> Result {
    std::shared_ptr<Module> found;
    FAKECUDA_TRY(driver.find(module, found));
    if (name == nullptr) return invalid_value;
    std::size_t size = 0;
    const DevicePointer at = found->context->machine().symbol(found->loaded, name, &size);
    if (at == 0) return not_found;
    if (address != nullptr) *address = at;
    if (bytes != nullptr) *bytes = size;
    return success;
  });
}

FAKECUDA_API cuFuncGetAttribute(int* value, int attribute, Handle function) {
  return call(Call::cuFuncGetAttribute, [&](Driver& driver) -> Result {
    std::shared_ptr<Function> found;
    FAKECUDA_TRY(driver.find(function, found));
    if (value == nullptr) return invalid_value;
    return function_value(driver, *found, attribute, *value);
  });
}

FAKECUDA_API cuFuncSetAttribute(Handle function, int attribute, int value) {
  return call(Call::cuFuncSetAttribute, [&](Driver& driver) -> Result {
    std::shared_ptr<Function> found;
    FAKECUDA_TRY(driver.find(function, found));
    if (attribute == function_shared_carveout) {
      return value >= -1 && value <= 100 ? success : invalid_value;
    }
    if (attribute != function_max_dynamic_shared || value < 0) return invalid_value;
    const std::size_t wanted = static_cast<std::size_t>(value) + found->kernel->static_shared;
    if (wanted > shared_limit(driver.settings)) return invalid_value;
    found->max_dynamic_shared = static_cast<std::size_t>(value);
    return success;
  });
}

FAKECUDA_API cuLaunchKernel(Handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                            unsigned block_x, unsigned block_y, unsigned block_z,
                            unsigned dynamic_shared, Handle stream, void** parameters,
                            void** extra) {
  return call(Call::cuLaunchKernel, [&](Driver& driver) {
    const Shape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_shared};
    return launch(driver, function, shape, stream, parameters, extra);
  });
}

FAKECUDA_API cuLaunchKernelEx(const LaunchConfig* config, Handle function, void** parameters,
                              void** extra) {
  return call(Call::cuLaunchKernelEx, [&](Driver& driver) -> Result {
    if (config == nullptr) return invalid_value;
    if (config->attribute_count != 0) {
      driver.finding("a launch with attributes: none is here");
      return not_supported;
    }
    const Shape shape{{config->grid_x, config->grid_y, config->grid_z},
                      {config->block_x, config->block_y, config->block_z},
                      config->dynamic_shared};
    return launch(driver, function, shape, config->stream, parameters, extra);
  });
}

}  // namespace exported
}  // namespace dsv32::fakecuda
