#include "benchmarks/linear.h"

#include <algorithm>
#include <random>

#include "kernels/numbers.h"

namespace dsv32::bench {
namespace {

constexpr std::int64_t kBlock = kernels::kBlock;

std::int64_t blocks(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

TensorView view(const std::shared_ptr<void>& memory, DType dtype, std::int64_t rows,
                std::int64_t cols) {
  return {.data = static_cast<std::byte*>(memory.get()),
          .dtype = dtype,
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

}  // namespace

Rows::Rows(Backend& backend, std::int64_t rows, std::int64_t cols, bool pow2) {
  const auto count = static_cast<std::size_t>(rows * cols);
  const auto scales = static_cast<std::size_t>(rows * blocks(cols));
  dense_ = backend.allocate(2 * count);
  fp8_ = backend.allocate(count);
  scale_ = backend.allocate(4 * scales);
  std::mt19937 engine(7);
  std::normal_distribution<float> normal;
  auto* dense = static_cast<std::byte*>(dense_.get());
  for (std::size_t i = 0; i < count; ++i) {
    kernels::store_value(dense, kernels::ValueType::bf16, static_cast<std::int64_t>(i),
                         normal(engine));
  }
  fill_codes({static_cast<std::byte*>(fp8_.get()), count}, 3);
  std::fill_n(static_cast<float*>(scale_.get()), scales, pow2 ? 0.0078125f : 0.0071f);
  activation_ = {.dense = view(dense_, DType::bf16, rows, cols),
                 .fp8 = view(fp8_, DType::f8_e4m3, rows, cols),
                 .scale = view(scale_, DType::f32, rows, blocks(cols)),
                 .pow2_scales = pow2};
}

LinearPool::LinearPool(Bench& bench, Backend& backend, std::span<const Shape> shapes, int rows,
                       bool pow2)
    : backend_(backend), num_rows_(rows) {
  const std::span<const std::byte> codes = bench.codes();
  std::int64_t most_scales = 0, most_out = 0;
  for (const Shape& shape : shapes) {
    most_scales = std::max(most_scales, blocks(shape.out) * blocks(shape.in));
    most_out = std::max(most_out, shape.out);
    rows_.emplace_back(backend, rows, shape.in, pow2);
  }
  scales_.resize(static_cast<std::size_t>(most_scales));
  for (std::size_t i = 0; i < scales_.size(); ++i) {
    scales_[i] = pow2 ? (i % 3 == 0 ? 0.5f : 0.25f) : 0.3f + 0.001f * static_cast<float>(i % 100);
  }
  out_ = backend.allocate(static_cast<std::size_t>(rows * most_out) * 2);
  std::size_t used = 0;
  for (std::size_t i = 0;; ++i) {
    const std::size_t which = i % shapes.size();
    const Shape& shape = shapes[which];
    const auto bytes = static_cast<std::size_t>(shape.out * shape.in);
    if (used + bytes > codes.size()) break;
    // Weights are only ever read.
    auto* data = const_cast<std::byte*>(codes.data()) + used;
    weights_.push_back({.weight = {.data = data,
                                   .dtype = DType::f8_e4m3,
                                   .rows = shape.out,
                                   .cols = shape.in,
                                   .stride = shape.in},
                        .scale = {.data = reinterpret_cast<std::byte*>(scales_.data()),
                                  .dtype = DType::f32,
                                  .rows = blocks(shape.out),
                                  .cols = blocks(shape.in),
                                  .stride = blocks(shape.in)},
                        .format = pow2 ? WeightFormat::fp8_pow2 : WeightFormat::fp8});
    shape_of_.push_back(which);
    used += bytes;
  }
}

Work LinearPool::next() {
  const std::size_t i = next_;
  // Far apart, so that no matrix is still in a cache or next to the last one.
  next_ = (next_ + 37) % weights_.size();
  const Linear& w = weights_[i];
  backend_.linear(w, rows_[shape_of_[i]].activation(),
                  view(out_, DType::bf16, num_rows_, w.weight.rows));
  const auto elements = static_cast<double>(w.weight.rows * w.weight.cols);
  return {.bytes = elements, .operations = 2 * elements * static_cast<double>(num_rows_)};
}

}  // namespace dsv32::bench
