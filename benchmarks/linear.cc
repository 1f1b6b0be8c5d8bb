#include "benchmarks/linear.h"

#include <algorithm>
#include <cstring>
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
                       WeightFormat format, int group)
    : backend_(backend), format_(format), group_(group), num_rows_(rows) {
  const std::span<const std::byte> codes = bench.codes();
  scales_ = huge_memory(codes.size() / 8);  // int4, f16, groups of 64: a sixteenth
  std::int64_t most_out = 0;
  for (const Shape& shape : shapes) {
    most_out = std::max(most_out, shape.out);
    rows_.emplace_back(backend, rows, shape.in, format != WeightFormat::fp8);
  }
  out_ = backend.allocate(static_cast<std::size_t>(rows * most_out) * 2);
  std::size_t used = 0;
  for (std::size_t i = 0;; ++i) {
    const std::size_t which = i % shapes.size();
    const auto elements = static_cast<std::size_t>(shapes[which].out * shapes[which].in);
    const std::size_t bytes = format == WeightFormat::int4 ? elements / 2 : elements;
    if (used + bytes > codes.size()) break;
    // Weights are only ever read.
    weights_.push_back(place(shapes[which], const_cast<std::byte*>(codes.data()) + used));
    handles_.push_back(backend.bind(weights_.back(), [](std::size_t) {}));
    shape_of_.push_back(which);
    used += bytes;
  }
}

// A matrix at `data` with scales of its own.
Linear LinearPool::place(const Shape& shape, std::byte* data) {
  const bool by_row = format_ == WeightFormat::int8 || format_ == WeightFormat::int4;
  const DType type = format_ == WeightFormat::int8   ? DType::i8
                     : format_ == WeightFormat::int4 ? DType::i4
                                                     : DType::f8_e4m3;
  const DType scale_type = format_ == WeightFormat::int4 ? DType::f16 : DType::f32;
  Linear w{.weight = {.data = data,
                      .dtype = type,
                      .rows = shape.out,
                      .cols = shape.in,
                      .stride = shape.in},
           .scale = {.data = scales_.get() + scales_used_,
                     .dtype = scale_type,
                     .rows = by_row ? shape.out : blocks(shape.out),
                     .cols = by_row ? shape.in / group_ : blocks(shape.in),
                     .stride = by_row ? shape.in / group_ : blocks(shape.in)},
           .format = format_};
  const std::int64_t count = w.scale.rows * w.scale.cols;
  for (std::int64_t i = 0; i < count; ++i) {
    const float scale = format_ == WeightFormat::fp8_pow2
                            ? (i % 3 == 0 ? 0x1p-8f : 0x1p-9f)
                            : 0.003f + 0.00001f * static_cast<float>(i % 100);
    if (scale_type == DType::f16) {
      const auto bits = static_cast<std::uint16_t>(0x1A25 + i % 100);  // from 0.003 on
      std::memcpy(w.scale.data + 2 * i, &bits, 2);
    } else {
      std::memcpy(w.scale.data + 4 * i, &scale, 4);
    }
  }
  scales_used_ += static_cast<std::size_t>((bytes_of(scale_type, count) + 63) / 64 * 64);
  return w;
}

Work LinearPool::next() {
  const std::size_t i = next_;
  // Far apart, so that no matrix is still in a cache or next to the last one.
  next_ = (next_ + 37) % weights_.size();
  const Linear& w = weights_[i];
  backend_.linear(*handles_[i], rows_[shape_of_[i]].activation(),
                  view(out_, DType::bf16, num_rows_, w.weight.rows));
  const auto elements = static_cast<double>(w.weight.rows * w.weight.cols);
  const auto scales = static_cast<double>(bytes_of(w.scale.dtype, w.scale.rows * w.scale.cols));
  const double bytes = format_ == WeightFormat::int4 ? elements / 2 : elements;
  return {.bytes = bytes + scales, .operations = 2 * elements * static_cast<double>(num_rows_)};
}

}  // namespace dsv32::bench
