#include "tests/ptxemu/module_access.h"

namespace dsv32::ptxemu {
namespace {

const Code& none() {
  static const Code kNone;
  return kNone;
}

}  // namespace

const std::vector<Kernel>& Module::kernels() const { return (code_ ? *code_ : none()).kernels; }
const std::vector<Symbol>& Module::symbols() const { return (code_ ? *code_ : none()).symbols; }
const std::string& Module::target() const { return (code_ ? *code_ : none()).target; }
int Module::version() const { return (code_ ? *code_ : none()).version; }

const Kernel* Module::kernel(std::string_view name) const {
  for (const Kernel& kernel : kernels()) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

}  // namespace dsv32::ptxemu
