// For tests of the fake driver: one device with its context, a stream, and a module of three
// kernels on words: p[i] += v, p[i] *= v, p[i] = q[i], for i below n.
#ifndef DSV32_TESTS_PTXEMU_FAKE_WORLD_H_
#define DSV32_TESTS_PTXEMU_FAKE_WORLD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/ptxemu/fake_driver.h"
#include "tests/support/catch.h"

namespace dsv32::fakecuda::test {

using Words = std::vector<std::uint32_t>;

const FakeDriver& api();           // the library that was built beside these tests
const std::string& module_text();  // PTX

class World {
 public:
  World();
  ~World();  // nothing is left behind, nothing was found
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Handle make_stream(unsigned flags = stream_non_blocking);
  DevicePointer make_words(const Words& values);  // copied through pageable memory
  DevicePointer allocate(std::size_t bytes);
  std::uint32_t* pin(const Words& values);
  void free(DevicePointer address);
  void unpin(std::uint32_t* address);
  Words read(DevicePointer address, std::size_t count);  // waits for `stream`
  Result launch(Handle function, DevicePointer p, std::uint64_t v_or_q, unsigned n, Handle into);
  Result add(DevicePointer p, unsigned value, unsigned n) {
    return launch(add_, p, value, n, stream);
  }
  Result multiply(DevicePointer p, unsigned value, unsigned n) {
    return launch(multiply_, p, value, n, stream);
  }
  // Afterwards the context is to be released by ~World() as it is, broken, with what is in it.
  void expect_broken() { broken_ = true; }
  void expect_findings(const std::string& part);

  Handle context = nullptr, stream = nullptr, module = nullptr;
  Handle add_ = nullptr, multiply_ = nullptr, move_ = nullptr;

 private:
  bool broken_ = false;
  std::vector<Handle> streams_;
  std::vector<DevicePointer> memory_;
  std::vector<std::uint32_t*> pinned_;
};

}  // namespace dsv32::fakecuda::test

#endif  // DSV32_TESTS_PTXEMU_FAKE_WORLD_H_
