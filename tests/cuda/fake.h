// The fake driver as a test reaches it, and models on its GPUs.
#ifndef DSV32_TESTS_CUDA_FAKE_H_
#define DSV32_TESTS_CUDA_FAKE_H_

#include <cstddef>
#include <string>

#include "dsv32/model.h"

#include "tests/model/sessions.h"

namespace dsv32::test {

// Everything as at the start, before and after each test that has one.
class Fake {
 public:
  Fake();
  ~Fake();
  Fake(const Fake&) = delete;
  Fake& operator=(const Fake&) = delete;

  unsigned long long calls(const char* name = nullptr) const;  // null: of all
  void reset_calls() const;
  unsigned long long count(const char* what) const;
  unsigned long long live(const char* kind) const;
  void fail(const char* name, int nth, int result) const;
  void vanish(int nth, int result) const;
  void set(const char* what, long long value) const;
  void reset() const;
  std::string findings() const;  // empty: none
};

// Results of the driver, as cuda.h numbers them.
inline constexpr int kNoMemory = 2, kUnknown = 999, kIllegalAddress = 700, kLaunchFailed = 719;

inline constexpr int kTop = 16;  // index_topk of the golden models

inline BackendOptions on_gpu(int index = 0) {
  return {.device = Device::cuda, .device_index = index, .module_path = DSV32_CUDA_MODULE};
}

inline LoadOptions small(const BackendOptions& backend, Numerics numerics = Numerics::native) {
  LoadOptions options;
  options.backend = backend;
  options.numerics = numerics;
  options.kv_cache_tokens = 512;
  options.max_batch_tokens = 32;
  options.max_sequences = 4;
  return options;
}

inline Model load_on_gpu(Numerics numerics = Numerics::native, const std::string& name = "fp8") {
  return Model::load(golden(name), small(on_gpu(), numerics));
}

// Nothing of a model is left on any GPU, and the fake has nothing to say.
void check_clean(const Fake& fake);
void check_nothing_lives(const Fake& fake);

}  // namespace dsv32::test

#endif  // DSV32_TESTS_CUDA_FAKE_H_
