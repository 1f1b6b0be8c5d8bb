// Views: where rows and columns begin in bytes, for every dtype.
#include "lib/base/tensor.h"

#include <array>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

struct Size {
  DType dtype;
  std::int64_t of_eight;  // bytes of eight elements
};
constexpr Size kSizes[] = {{DType::f32, 32},    {DType::bf16, 16},   {DType::f16, 16},
                           {DType::f8_e4m3, 8}, {DType::f8_e8m0, 8}, {DType::i32, 32},
                           {DType::u8, 8},      {DType::i8, 8},      {DType::i4, 4}};

TEST_CASE("rows and columns of a view begin where their elements lie") {
  std::array<std::byte, 2048> memory{};
  for (const auto& [dtype, of_eight] : kSizes) {
    INFO(static_cast<int>(dtype));
    CHECK(bytes_of(dtype, 8) == of_eight);
    const TensorView view{
        .data = memory.data(), .dtype = dtype, .rows = 10, .cols = 21, .stride = 24};
    const TensorView rows = view.slice(3, 5);
    CHECK(rows.data - memory.data() == 3 * 24 / 8 * of_eight);
    CHECK((rows.rows == 5 && rows.cols == 21 && rows.stride == 24 && rows.dtype == dtype));
    const TensorView columns = view.columns(8, 13);
    CHECK(columns.data - memory.data() == of_eight);
    CHECK((columns.rows == 10 && columns.cols == 13 && columns.stride == 24));
    const TensorView both = view.slice(1, 1).columns(16, 5);
    CHECK(both.data - memory.data() == 5 * of_eight);
  }
}

TEST_CASE("half a byte is no place for a view to begin") {
  std::array<std::byte, 64> memory{};
  const TensorView view{
      .data = memory.data(), .dtype = DType::i4, .rows = 4, .cols = 9, .stride = 10};
  CHECK(view.columns(2, 7).data == memory.data() + 1);
  check_error(ErrorCode::internal, "half a byte", [&] { view.columns(3, 2); });
  const TensorView odd{
      .data = memory.data(), .dtype = DType::i4, .rows = 4, .cols = 9, .stride = 9};
  check_error(ErrorCode::internal, "half a byte", [&] { odd.slice(1, 1); });
  check_error(ErrorCode::internal, "half a byte", [&] { dtype_size(DType::i4); });
}

}  // namespace
}  // namespace dsv32::test
