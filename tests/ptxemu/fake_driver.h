// The fake driver as a test sees it: a table of what libcuda.so.1 exports.
#ifndef DSV32_TESTS_PTXEMU_FAKE_DRIVER_H_
#define DSV32_TESTS_PTXEMU_FAKE_DRIVER_H_

#include <dlfcn.h>
#include <string>

#include "tests/ptxemu/fake_libcuda.h"
#include "tests/ptxemu/fake_libcuda_api.h"

namespace dsv32::fakecuda {

struct FakeDriver {
#define FAKECUDA_MEMBER(name, parameters) Result(*name) parameters = nullptr;
  FAKECUDA_CALLS(FAKECUDA_MEMBER)
#undef FAKECUDA_MEMBER
  decltype(&fakecuda_calls) calls = nullptr;
  decltype(&fakecuda_reset_calls) reset_calls = nullptr;
  decltype(&fakecuda_count) count = nullptr;
  decltype(&fakecuda_live) live = nullptr;
  decltype(&fakecuda_fail) fail = nullptr;
  decltype(&fakecuda_vanish) vanish = nullptr;
  decltype(&fakecuda_set) set = nullptr;
  decltype(&fakecuda_reset) reset = nullptr;
  decltype(&fakecuda_findings) findings = nullptr;
  decltype(&fakecuda_clear_findings) clear_findings = nullptr;
  std::string missing;  // names that the library has not: it is no fake, or none is open

  explicit FakeDriver(void* library) {
#define FAKECUDA_LOOKUP(name, parameters) look_up(library, #name, name);
    FAKECUDA_CALLS(FAKECUDA_LOOKUP)
#undef FAKECUDA_LOOKUP
    look_up(library, "fakecuda_calls", calls);
    look_up(library, "fakecuda_reset_calls", reset_calls);
    look_up(library, "fakecuda_count", count);
    look_up(library, "fakecuda_live", live);
    look_up(library, "fakecuda_fail", fail);
    look_up(library, "fakecuda_vanish", vanish);
    look_up(library, "fakecuda_set", set);
    look_up(library, "fakecuda_reset", reset);
    look_up(library, "fakecuda_findings", findings);
    look_up(library, "fakecuda_clear_findings", clear_findings);
  }

  // The one that this process has open, or would open.
  static FakeDriver of_process() { return FakeDriver(dlopen("libcuda.so.1", RTLD_NOW)); }

  std::string findings_text() const {
    std::string text(64 * 1024, '\0');
    findings(text.data(), text.size());
    return text.c_str();
  }

 private:
  template <class Function>
  void look_up(void* library, const char* name, Function& out) {
    void* found = library != nullptr ? dlsym(library, name) : nullptr;
    if (found == nullptr) missing += std::string(missing.empty() ? "" : " ") + name;
    out = reinterpret_cast<Function>(found);
  }
};

}  // namespace dsv32::fakecuda

#endif  // DSV32_TESTS_PTXEMU_FAKE_DRIVER_H_
