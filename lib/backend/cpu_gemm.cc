// The CPU's Backend: topic gemm. One parallel region takes all experts that a few tokens chose, so
// that nobody waits between them.
#include <algorithm>
#include <array>

#include "lib/backend/cpu_backend.h"

namespace dsv32 {
namespace {

constexpr int kMaxSegments = 64;      // of one region
constexpr int kPiecesPerWorker = 16;  // so that a slow worker holds nobody up
constexpr int kManyRows = 32;         // of x: pieces are long, so that more weights share its copy
constexpr std::int64_t kPieceRows = 16;  // of weights; a multiple, so that kernels see whole tiles

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool uses_fp8(const Linear& w, const Activation& x) {
  return w.reads_fp8() && x.fp8.data != nullptr;
}

// Whether rows packed for one are what the other reads.
bool share_packed_rows(const Linear& a, const Linear& b) {
  return a.format == b.format && a.weight.dtype == b.weight.dtype;
}

}  // namespace

CpuMatrix::CpuMatrix(const Linear& linear) : w(linear), matrix(kernel_matrix(linear)) {}

void CpuBackend::linear(const BoundWeight& w, const Activation& x, TensorView out) {
  check_shape(w.cols == x.dense.cols && w.rows == out.cols && x.dense.rows == out.rows &&
                  x.dense.cols <= limits_.max_width,
              "linear");
  for (std::int64_t row = 0; row < out.rows; row += kernels::kLinearRows) {
    const Segment segment{&matrix_of(w), row,
                          std::min<std::int64_t>(kernels::kLinearRows, out.rows - row)};
    run_segments({&segment, 1}, x, out);
  }
}

void CpuBackend::grouped_linear(const BoundExperts& bound, const Activation& x, TensorView offsets,
                                TensorView out) {
  const std::span<const CpuMatrix> experts = static_cast<const CpuExperts&>(bound).matrices();
  check_shape(offsets.cols == bound.count + 1 && bound.cols == x.dense.cols &&
                  bound.rows == out.cols && x.dense.rows == out.rows &&
                  x.dense.cols <= limits_.max_width,
              "grouped_linear");
  const auto* offset = data_as<std::int32_t>(offsets);
  std::array<Segment, kMaxSegments> segments;
  std::size_t used = 0;
  std::int64_t rows = 0;
  const auto flush = [&] {
    run_segments({segments.data(), used}, x, out);
    used = 0;
    rows = 0;
  };
  for (std::size_t e = 0; e < experts.size(); ++e) {
    for (std::int64_t first = offset[e]; first < offset[e + 1];) {
      const auto count = std::min<std::int64_t>(kernels::kLinearRows, offset[e + 1] - first);
      const bool fits = used < segments.size() && rows + count <= kernels::kLinearRows;
      if (used > 0 && !(fits && share_packed_rows(segments[0].w->w, experts[e].w))) flush();
      segments[used++] = {&experts[e], first, count};
      rows += count;
      first += count;
    }
  }
  if (used > 0) flush();
}

// Packs x's rows one behind the other. All segments of a region share them.
void CpuBackend::pack_rows(const Linear& w, const Activation& x) {
  const bool fp8 = uses_fp8(w, x);
  const TensorView in = fp8 ? x.fp8 : x.dense;
  const std::int64_t row_bytes = kernels::packed_row_bytes(static_cast<int>(in.cols));
  ranges(in.rows, 4, [&](int first, int last, int) {
    const bool scaled = fp8 && w.format == WeightFormat::fp8_pow2;
    kernels_->pack({.x = in.slice(first, 0).data,
                    .scale = scaled ? data_as<float>(x.scale.slice(first, 0)) : nullptr,
                    .out = packed_ + first * row_bytes,
                    .x_stride = in.stride,
                    .type = value_type(in.dtype),
                    .w_type = value_type(w.weight.dtype),
                    .num_rows = last - first,
                    .cols = static_cast<int>(in.cols)});
  });
}

// Segments lie behind each other in x, at most kLinearRows rows in all.
void CpuBackend::run_segments(std::span<const Segment> segments, const Activation& x,
                              TensorView out) {
  const std::int64_t begin = segments.front().first;
  const std::int64_t rows = segments.back().first + segments.back().count - begin;
  const Activation in = x.slice(begin, rows);
  pack_rows(segments.front().w->w, in);
  const auto cols = static_cast<int>(x.dense.cols);
  const std::int64_t row_bytes = kernels::packed_row_bytes(cols);
  const auto count = static_cast<std::int64_t>(segments.size());
  const std::int64_t each = rows < kManyRows ? kPiecesPerWorker : kPiecesPerWorker / 2;
  const std::int64_t wanted =
      pool_.size() == 1 ? 1 : ceil_div(std::int64_t{pool_.size()} * each, count);
  const std::int64_t size = ceil_div(ceil_div(out.cols, wanted), kPieceRows) * kPieceRows;
  const std::int64_t pieces = ceil_div(out.cols, size);
  pool_.parallel_for(static_cast<int>(pieces * count), [&](int item, int worker) {
    const Segment& s = segments[static_cast<std::size_t>(item / pieces)];
    const std::int64_t first = item % pieces * size, last = std::min(first + size, out.cols);
    const bool fp8 = uses_fp8(s.w->w, x), blockwise = fp8 && s.w->w.format == WeightFormat::fp8;
    const TensorView to = out.slice(s.first, s.count);
    kernels_->linear({.w = s.w->matrix,
                      .x = packed_ + (s.first - begin) * row_bytes,
                      .x_type = value_type(fp8 ? x.fp8.dtype : x.dense.dtype),
                      .x_scale = blockwise ? data_as<float>(x.scale.slice(s.first, 0)) : nullptr,
                      .out = to.data,
                      .out_stride = to.stride,
                      .scratch = worker_scratch(worker),
                      .type = value_type(to.dtype),
                      .num_rows = static_cast<int>(s.count),
                      .cols = cols,
                      .first = static_cast<int>(first),
                      .last = static_cast<int>(last),
                      .then = static_cast<int>(std::min(size, out.cols - last))});
  });
}

}  // namespace dsv32
