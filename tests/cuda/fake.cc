#include "tests/cuda/fake.h"

#include <array>
#include <dlfcn.h>

#include "tests/ptxemu/fake_libcuda.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

template <class Function>
Function* find(const char* name) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  INFO("these tests run through scripts/emulated.sh");
  REQUIRE(library != nullptr);
  auto* function = reinterpret_cast<Function*>(dlsym(library, name));
  REQUIRE(function != nullptr);
  return function;
}

#define FAKE(name) find<decltype(fakecuda_##name)>("fakecuda_" #name)

}  // namespace

Fake::Fake() { reset(); }
Fake::~Fake() { reset(); }

unsigned long long Fake::calls(const char* name) const { return FAKE(calls)(name); }
void Fake::reset_calls() const { FAKE(reset_calls)(); }
unsigned long long Fake::count(const char* what) const { return FAKE(count)(what); }
unsigned long long Fake::live(const char* kind) const { return FAKE(live)(kind); }
void Fake::fail(const char* name, int nth, int result) const {
  REQUIRE(FAKE(fail)(name, nth, result) == 0);
}
void Fake::vanish(int nth, int result) const { FAKE(vanish)(nth, result); }
void Fake::set(const char* what, long long value) const { REQUIRE(FAKE(set)(what, value) == 0); }
void Fake::reset() const { FAKE(reset)(); }

std::string Fake::findings() const {
  std::array<char, 4096> text{};
  if (FAKE(findings)(text.data(), text.size()) == 0) return {};
  return text.data();
}

void check_nothing_lives(const Fake& fake) {
  for (const char* kind :
       {"device", "host", "module", "stream", "event", "graph", "exec", "context"}) {
    INFO(kind);
    CHECK(fake.live(kind) == 0);
  }
}

void check_clean(const Fake& fake) {
  check_nothing_lives(fake);
  const std::string findings = fake.findings();
  INFO(findings);
  CHECK(findings.empty());
}

}  // namespace dsv32::test
