#ifndef DSV32_TESTS_PTXEMU_MODULE_ACCESS_H_
#define DSV32_TESTS_PTXEMU_MODULE_ACCESS_H_

#include <memory>
#include <utility>

#include "tests/ptxemu/code.h"

namespace dsv32::ptxemu {

struct ModuleAccess {  // the door to what a Module holds, for the parser and the machine
  static void set(Module& module, std::shared_ptr<const Code> code) {
    module.code_ = std::move(code);
  }
  static const std::shared_ptr<const Code>& code(const Module& module) { return module.code_; }
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_MODULE_ACCESS_H_
