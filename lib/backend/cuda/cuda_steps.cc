// The steps of topics dense, gemm and moe.
#include "lib/backend/cuda/cuda_backend.h"
#include "lib/backend/views.h"

#include "kernels/cuda/launch.h"

namespace dsv32::cuda {

using kernels::cuda::launch_of;

namespace {

// An FP8 form as kernels write and read it: without gaps.
kernels::cuda::Fp8Rows fp8_rows(const Activation& a, const char* step) {
  if (a.fp8.data == nullptr) return {};
  check_shape(a.fp8.stride == a.fp8.cols && a.scale.stride == a.scale.cols &&
                  a.fp8.rows == a.dense.rows && a.scale.rows == a.dense.rows,
              step);
  return {data_as<std::uint8_t>(a.fp8), data_as<float>(a.scale)};
}

kernels::cuda::RowsIn rows_in(const Activation& x, const char* step) {
  return {.dense = x.dense.data,
          .fp8 = fp8_rows(x, step),
          .stride = x.dense.stride,
          .type = value_type(x.dense.dtype)};
}

}  // namespace

void CudaBackend::embed(const BatchView& b, const BoundWeight& table, TensorView out) {
  check_shape(table.cols == out.cols && b.tokens.cols == out.rows && out.stride == out.cols,
              "embed");
  const kernels::cuda::EmbedArguments args{.tokens = data_as<std::int32_t>(b.tokens),
                                           .table = matrix_of(table),
                                           .out = out.data,
                                           .type = value_type(out.dtype),
                                           .num_rows = static_cast<int>(out.rows),
                                           .cols = static_cast<int>(out.cols)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                               const Activation& out) {
  check_shape(x.cols == gain.cols && x.cols == out.dense.cols && x.rows == out.dense.rows,
              "add_rms_norm");
  const kernels::cuda::NormArguments args{.x = x.data,
                                          .residual = residual.data,
                                          .gain = data_as<float>(gain),
                                          .out = out.dense.data,
                                          .fp8 = fp8_rows(out, "add_rms_norm"),
                                          .x_stride = x.stride,
                                          .residual_stride = residual.stride,
                                          .out_stride = out.dense.stride,
                                          .eps = eps,
                                          .x_type = value_type(x.dtype),
                                          .type = value_type(out.dense.dtype),
                                          .pow2 = out.pow2_scales,
                                          .num_rows = static_cast<int>(x.rows),
                                          .cols = static_cast<int>(x.cols)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::silu_mul(TensorView gate, TensorView up, const Activation& out) {
  check_shape(gate.rows == up.rows && gate.cols == up.cols && gate.rows == out.dense.rows &&
                  gate.stride == gate.cols && up.stride == up.cols && out.dense.stride == gate.cols,
              "silu_mul");
  const kernels::cuda::SiluMulArguments args{.gate = gate.data,
                                             .up = up.data,
                                             .out = out.dense.data,
                                             .fp8 = fp8_rows(out, "silu_mul"),
                                             .type = value_type(gate.dtype),
                                             .pow2 = out.pow2_scales,
                                             .num_rows = static_cast<int>(gate.rows),
                                             .cols = static_cast<int>(gate.cols)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::copy_rows(TensorView from, TensorView from_rows, TensorView to,
                            TensorView to_rows) {
  const bool listed = from_rows.data != nullptr, placed = to_rows.data != nullptr;
  const std::int64_t count = listed ? from_rows.cols : placed ? to_rows.cols : to.rows;
  check_shape(from.cols == to.cols && from.dtype == to.dtype &&
                  (!placed || to_rows.cols == count) && (listed || from.rows >= count) &&
                  (placed || to.rows >= count),
              "copy_rows");
  const std::int64_t size = dtype_size(from.dtype);
  const kernels::cuda::CopyRowsArguments args{.from = from.data,
                                              .from_rows = data_as<std::int32_t>(from_rows),
                                              .to = to.data,
                                              .to_rows = data_as<std::int32_t>(to_rows),
                                              .from_stride = from.stride * size,
                                              .to_stride = to.stride * size,
                                              .row_bytes = static_cast<int>(from.cols * size),
                                              .count = static_cast<int>(count)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::linear(const BoundWeight& w, const Activation& x, TensorView out) {
  check_shape(w.cols == x.dense.cols && w.rows == out.cols && x.dense.rows == out.rows, "linear");
  const kernels::cuda::LinearArguments args{.w = matrix_of(w),
                                            .x = rows_in(x, "linear"),
                                            .out = out.data,
                                            .out_stride = out.stride,
                                            .type = value_type(out.dtype),
                                            .num_rows = static_cast<int>(out.rows),
                                            .cols = static_cast<int>(w.cols),
                                            .outs = static_cast<int>(w.rows)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::grouped_linear(const BoundExperts& experts, const Activation& x,
                                 TensorView offsets, TensorView out) {
  check_shape(offsets.cols == experts.count + 1 && experts.cols == x.dense.cols &&
                  experts.rows == out.cols && x.dense.rows == out.rows,
              "grouped_linear");
  const auto& bound = static_cast<const CudaExperts&>(experts);
  kernels::cuda::GroupedLinearArguments args{.w = bound.matrices(),
                                             .offsets = data_as<std::int32_t>(offsets),
                                             .x = rows_in(x, "grouped_linear"),
                                             .out = out.data,
                                             .out_stride = out.stride,
                                             .type = value_type(out.dtype),
                                             .mma = false,
                                             .split = false,
                                             .num_rows = static_cast<int>(out.rows),
                                             .experts = static_cast<int>(experts.count),
                                             .cols = static_cast<int>(experts.cols),
                                             .outs = static_cast<int>(experts.rows)};
  // An expert's kernel is that of its kind, whatever stands beside it.
  const bool bf16 = args.x.type == kernels::ValueType::bf16;
  const auto [exact, others] = bound.kinds();
  args.split = bf16 && exact && others;
  for (const bool mma : {true, false}) {
    if (mma ? !(bf16 && exact) : bf16 && !others) continue;
    args.mma = mma;
    stream_.launch(launch_of(args), args);
  }
}

void CudaBackend::moe_gate(TensorView scores, TensorView bias, const GateParams& gate,
                           TensorView ids, TensorView weights) {
  check_shape(scores.cols == bias.cols && ids.rows == scores.rows && weights.rows == scores.rows,
              "moe_gate");
  const kernels::cuda::MoeGateArguments args{.scores = data_as<float>(scores),
                                             .bias = data_as<float>(bias),
                                             .ids = data_as<std::int32_t>(ids),
                                             .weights = data_as<float>(weights),
                                             .num_tokens = static_cast<int>(scores.rows),
                                             .num_experts = static_cast<int>(scores.cols),
                                             .n_group = gate.n_group,
                                             .topk_group = gate.topk_group,
                                             .top = static_cast<int>(ids.cols),
                                             .routed_scaling_factor = gate.routed_scaling_factor,
                                             .norm_topk_prob = gate.norm_topk_prob};
  stream_.launch(launch_of(args), args);
}

// Row i of `from` to each of its places in `to`.
void CudaBackend::spread_rows(TensorView from, TensorView to, TensorView rows) {
  check_shape(from.cols == to.cols && from.dtype == to.dtype, "moe_dispatch");
  const std::int64_t size = dtype_size(from.dtype);
  const kernels::cuda::CopyRowsArguments args{.from = from.data,
                                              .from_rows = nullptr,
                                              .to = to.data,
                                              .to_rows = data_as<std::int32_t>(rows),
                                              .from_stride = from.stride * size,
                                              .to_stride = to.stride * size,
                                              .row_bytes = static_cast<int>(from.cols * size),
                                              .count = static_cast<int>(rows.rows * rows.cols),
                                              .copies = static_cast<int>(rows.cols)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                               const Activation& out, TensorView offsets, TensorView rows) {
  const std::int64_t copies = ids.rows * ids.cols;
  check_shape(out.dense.rows == copies && rows.rows == ids.rows && rows.cols == ids.cols,
              "moe_dispatch");
  const kernels::cuda::MoeDispatchArguments args{.ids = data_as<std::int32_t>(ids),
                                                 .offsets = data_as<std::int32_t>(offsets),
                                                 .rows = data_as<std::int32_t>(rows),
                                                 .first_expert = first_expert,
                                                 .copies = static_cast<int>(copies),
                                                 .experts = static_cast<int>(offsets.cols - 1)};
  stream_.launch(kernels::cuda::launch_of_count(args), args);
  stream_.launch(kernels::cuda::launch_of_place(args), args);
  if (x.dense.data != nullptr) spread_rows(x.dense, out.dense, rows);
  if (x.fp8.data == nullptr) return;
  spread_rows(x.fp8, out.fp8, rows);
  spread_rows(x.scale, out.scale, rows);
}

void CudaBackend::moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                              TensorView out) {
  const bool adds = shared.data != nullptr;
  check_shape(x.cols == out.cols && rows.rows == out.rows &&
                  (!adds || (shared.cols == out.cols && shared.dtype == x.dtype)),
              "moe_combine");
  const kernels::cuda::MoeCombineArguments args{.x = x.data,
                                                .rows = data_as<std::int32_t>(rows),
                                                .weights = data_as<float>(weights),
                                                .shared = shared.data,
                                                .out = out.data,
                                                .type = value_type(x.dtype),
                                                .out_type = value_type(out.dtype),
                                                .num_tokens = static_cast<int>(out.rows),
                                                .top = static_cast<int>(rows.cols),
                                                .cols = static_cast<int>(out.cols)};
  stream_.launch(launch_of(args), args);
}

}  // namespace dsv32::cuda
