// A pool of matrices of a few shapes that lie in Bench::codes(), and rows that go through them:
// the product's own path, Backend::linear, so that packing and dispatch count, too.
#ifndef DSV32_BENCHMARKS_LINEAR_H_
#define DSV32_BENCHMARKS_LINEAR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "benchmarks/harness.h"
#include "lib/base/tensor.h"

namespace dsv32::bench {

// Activations [rows, cols] of both forms, with values of a normal spread.
class Rows {
 public:
  Rows(Backend& backend, std::int64_t rows, std::int64_t cols, bool pow2);
  const Activation& activation() const { return activation_; }

 private:
  std::shared_ptr<void> dense_, fp8_, scale_;
  Activation activation_;
};

class LinearPool {
 public:
  struct Shape {
    std::int64_t out, in;
  };
  // fp8_pow2: scales of weights and rows are powers of two. int4 has `group` columns a scale.
  LinearPool(Bench& bench, Backend& backend, std::span<const Shape> shapes, int rows,
             WeightFormat format, int group = kernels::kBlock);

  Work next();  // one product with the next matrix

 private:
  Linear place(const Shape& shape, std::byte* data);

  Backend& backend_;
  WeightFormat format_;
  std::int64_t group_;
  std::vector<Linear> weights_;
  std::vector<WeightHandle> handles_;  // to them
  std::shared_ptr<std::byte> scales_;  // their own for each matrix: DRAM has to bring them, too
  std::size_t scales_used_ = 0;
  std::vector<Rows> rows_;             // [shapes]
  std::vector<std::size_t> shape_of_;  // [weights]
  std::shared_ptr<void> out_;
  std::int64_t num_rows_;
  std::size_t next_ = 0;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_LINEAR_H_
