// The backends that the tests of the seam run on, and data on its way there and back.
#ifndef DSV32_TESTS_BACKEND_BACKENDS_H_
#define DSV32_TESTS_BACKEND_BACKENDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/backend/backend.h"
#include "tests/kernels/data.h"

namespace dsv32::test {

struct OpenBackend {
  std::string name;
  std::unique_ptr<Backend> backend;

  Backend* operator->() const { return backend.get(); }
};

// Every backend of the list, ready for `limits`: one for each of the CPU's kernel sets, and so on.
std::vector<OpenBackend> open_backends(const BackendLimits& limits);
std::vector<OpenBackend> open_backends();  // not reserved: the program's list, in *_kinds.cc

// Limits that every test of a method keeps within.
BackendLimits test_limits(Numerics numerics = Numerics::native);

// The double-precision table, which tests call on the host.
const kernels::CpuKernels& reference_table();

inline constexpr auto kNoProgress = [](std::size_t) {};

inline DType dtype_of(ValueType type) {
  return type == ValueType::f32    ? DType::f32
         : type == ValueType::bf16 ? DType::bf16
         : type == ValueType::f16  ? DType::f16
                                   : DType::f8_e4m3;
}

// A BatchView of which a step needs only some parts.
struct BatchParts {
  TensorView tokens{}, positions{}, slots{}, seq_of_token{}, page_table{}, rope{};

  operator BatchView() const {
    return {.tokens = tokens,
            .positions = positions,
            .slots = slots,
            .seq_of_token = seq_of_token,
            .page_table = page_table,
            .rope = rope};
  }
};

// Values without scales, as a kernel takes them.
inline kernels::Matrix plain_matrix(const Bytes& data, ValueType type, std::int64_t stride) {
  return {.data = data.data(),
          .type = type,
          .stride = stride,
          .scale = nullptr,
          .scale_type = kernels::ScaleType::f32,
          .scale_stride = 0};
}

// A test's memory of one backend, as long as the test wants it.
class DeviceData {
 public:
  explicit DeviceData(Backend& backend) : backend_(backend) {}

  TensorView empty(DType dtype, std::int64_t rows, std::int64_t cols);  // poisoned
  TensorView put(const void* data, DType dtype, std::int64_t rows, std::int64_t cols);
  TensorView put(const Bytes& data, ValueType type, std::int64_t rows, std::int64_t cols);
  TensorView put(const std::vector<float>& data, std::int64_t rows, std::int64_t cols);
  TensorView put(const std::vector<std::int32_t>& list);  // [1, n]
  Activation activation(ValueType type, std::int64_t rows, std::int64_t cols, bool fp8);

  Bytes bytes(TensorView view);  // rows behind each other, whatever the stride
  std::vector<double> values(TensorView view);
  std::vector<std::int32_t> integers(TensorView view);

 private:
  Backend& backend_;
  std::vector<std::shared_ptr<void>> memory_;
};

// The FP8 form of `a` is that of its dense one, code by code.
void check_fp8_form(DeviceData& device, const Activation& a);

}  // namespace dsv32::test

#endif  // DSV32_TESTS_BACKEND_BACKENDS_H_
