// Inputs for kernel tests: deterministic, of any dtype, at odd widths.
#ifndef DSV32_TESTS_KERNELS_DATA_H_
#define DSV32_TESTS_KERNELS_DATA_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "lib/base/floats.h"
#include "tests/support/catch.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/worst.h"

#include "kernels/cpu/table.h"

namespace dsv32::test {

using kernels::ValueType;
using Bytes = std::vector<std::byte>;

class Data {
 public:
  explicit Data(unsigned seed) : engine_(seed) {}

  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  std::vector<float> floats(std::int64_t n, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& x : out) x = normal(engine_);
    return out;
  }
  Bytes values(std::int64_t n, ValueType type, float scale = 1.0f) {
    return stored(floats(n, scale), type);
  }
  static Bytes stored(const std::vector<float>& from, ValueType type);
  // Cosines, then sines, of `n` rows.
  std::vector<float> rope(int rows, int dim) {
    std::vector<float> out;
    for (int t = 0; t < rows; ++t) {
      std::vector<float> angle = floats(dim / 2, 2.0f);
      for (const float a : angle) out.push_back(std::cos(a));
      for (const float a : angle) out.push_back(std::sin(a));
    }
    return out;
  }

 private:
  std::mt19937 engine_;
};

inline int bytes_of(ValueType type) {
  return type == ValueType::f32 ? 4 : type == ValueType::e4m3 ? 1 : 2;
}

// Values as doubles.
std::vector<double> read(const Bytes& data, ValueType type);

// Largest |x - y| over the largest |y|: the measure of every tolerance here. Infinite where one is
// no number and the other is.
inline double deviation(const std::vector<double>& x, const std::vector<double>& y) {
  REQUIRE(x.size() == y.size());
  Worst worst;
  double size = 1e-30;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst.add(difference(x[i], y[i]));
    if (std::isfinite(y[i])) size = std::max(size, std::fabs(y[i]));
  }
  return worst.value() / size;
}

// Memory aligned to 64, poisoned: nobody may read what nobody wrote.
class Aligned {
 public:
  explicit Aligned(std::int64_t bytes) : memory_(static_cast<std::size_t>(bytes) + 64, kPoison) {}
  std::byte* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (64 - address % 64) % 64;
  }
  float* floats() { return reinterpret_cast<float*>(data()); }

 private:
  static constexpr std::byte kPoison{0xFF};  // NaN in every type
  Bytes memory_;
};

// Rows as `kernel` reads them, and one call of its linear.
struct LinearCall {
  kernels::Matrix w;
  const Bytes& x;
  ValueType x_type;
  const float* x_scale;  // e4m3
  bool blockwise;        // x_scale is linear's business, not pack's
  ValueType type;
  int first_row, rows, cols, first, last;
  std::int64_t out_stride;
};
Bytes run_linear(const kernels::CpuKernels& kernel, const LinearCall& call);

// Rounding of the last step, and the order of sums before it.
inline double tolerance(ValueType type) { return type == ValueType::f32 ? 2e-6 : 8e-3; }

// Runs `body(tested, reference)` for every table that this machine can run and tests go through.
template <class Body>
void for_tables(Body&& body) {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  const kernels::CpuKernels& reference = *tables.tables[tables.count - 1];
  REQUIRE(std::strcmp(reference.name, "reference") == 0);
  for (int i = 0; i + 1 < tables.count; ++i) {
    if (!is_tested(tables.tables[i]->name)) continue;
    INFO("table " << tables.tables[i]->name);
    body(*tables.tables[i], reference);
  }
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_KERNELS_DATA_H_
