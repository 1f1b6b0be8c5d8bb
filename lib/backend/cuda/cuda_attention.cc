// The steps of topics mla and indexer.
#include <algorithm>

#include "lib/backend/cuda/cuda_backend.h"
#include "lib/backend/views.h"

#include "kernels/cuda/launch.h"

namespace dsv32::cuda {

using kernels::cuda::launch_of;

void CudaBackend::mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                            const PagedKv& kv) {
  check_shape(kv_a.cols == kv.layout.latent + kv.layout.rope && gain.cols == kv.layout.latent,
              "mla_store");
  const kernels::cuda::MlaStoreArguments args{.kv = kv_a.data,
                                              .gain = data_as<float>(gain),
                                              .rope = data_as<float>(b.rope),
                                              .slots = data_as<std::int32_t>(b.slots),
                                              .latent = kv.latent.data,
                                              .layout = kv.layout,
                                              .type = value_type(kv_a.dtype),
                                              .pow2 = kv.pow2_scales,
                                              .interleave = kv.rope_interleave,
                                              .num_tokens = static_cast<int>(kv_a.rows)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape,
                             TensorView q, TensorView q_latent) {
  check_shape(q.cols == shape.heads * (shape.nope + shape.rope) && kv_b.cols == shape.latent &&
                  q_latent.cols == shape.heads * (shape.latent + shape.rope),
              "mla_absorb");
  const kernels::cuda::MlaAbsorbArguments args{.kv_b = matrix_of(kv_b),
                                               .q = q.data,
                                               .rope = data_as<float>(b.rope),
                                               .q_latent = q_latent.data,
                                               .type = value_type(q.dtype),
                                               .interleave = shape.rope_interleave,
                                               .num_tokens = static_cast<int>(q.rows),
                                               .num_heads = shape.heads,
                                               .nope = shape.nope,
                                               .rope_dim = shape.rope,
                                               .v = shape.v,
                                               .latent = shape.latent};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                             TensorView indices, float scale, TensorView out_latent) {
  check_shape(q_latent.rows == indices.rows && out_latent.rows == indices.rows &&
                  out_latent.cols == shape.heads * shape.latent && indices.stride == indices.cols,
              "sparse_mla");
  const kernels::cuda::SparseMlaArguments args{
      .q = q_latent.data,
      .latent = kv.latent.data,
      .indices = data_as<std::int32_t>(indices),
      .out = out_latent.data,
      .layout = kv.layout,
      .type = value_type(q_latent.dtype),
      .num_tokens = static_cast<int>(indices.rows),
      .num_heads = shape.heads,
      .top_k = static_cast<int>(indices.cols),
      .scale = scale,
      .bf16_probabilities = kv.layout.is_deployed(),
      .block_heads = kernels::cuda::sparse_mla_block_heads(device_->facts().block_shared)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                             const Activation& out) {
  check_shape(out.dense.cols == shape.heads * shape.v && out.dense.rows == out_latent.rows &&
                  out.dense.stride == out.dense.cols,
              "mla_expand");
  const kernels::cuda::MlaExpandArguments args{.kv_b = matrix_of(kv_b),
                                               .out_latent = out_latent.data,
                                               .out = out.dense.data,
                                               .type = value_type(out.dense.dtype),
                                               .num_tokens = static_cast<int>(out.dense.rows),
                                               .num_heads = shape.heads,
                                               .nope = shape.nope,
                                               .v = shape.v,
                                               .latent = shape.latent};
  stream_.launch(launch_of(args), args);
  if (out.fp8.data == nullptr) return;
  const kernels::cuda::QuantiseArguments codes{
      .x = out.dense.data,
      .out = {data_as<std::uint8_t>(out.fp8), data_as<float>(out.scale)},
      .x_stride = out.dense.stride,
      .type = value_type(out.dense.dtype),
      .pow2 = out.pow2_scales,
      .num_rows = static_cast<int>(out.dense.rows),
      .cols = static_cast<int>(out.dense.cols)};
  stream_.launch(launch_of(codes), codes);
}

void CudaBackend::index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                              TensorView gain, TensorView bias, const PagedKv& kv) {
  check_shape(k.cols == kv.layout.index_dim && gain.cols == k.cols && bias.cols == k.cols,
              "index_store");
  const kernels::cuda::IndexStoreArguments args{.k = k.data,
                                                .gain = data_as<float>(gain),
                                                .bias = data_as<float>(bias),
                                                .rope = data_as<float>(b.rope),
                                                .slots = data_as<std::int32_t>(b.slots),
                                                .pages = kv.index_key.data,
                                                .layout = kv.layout,
                                                .type = value_type(k.dtype),
                                                .pow2 = kv.pow2_scales,
                                                .interleave = shape.rope_interleave,
                                                .num_tokens = static_cast<int>(k.rows)};
  stream_.launch(launch_of(args), args);
}

void CudaBackend::index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                               TensorView head_weights, const PagedKv& kv, TensorView indices,
                               TensorView nan_queries) {
  check_shape(
      q.data == nullptr || (q.cols == shape.heads * shape.dim && head_weights.cols == shape.heads),
      "index_select");
  check_shape(nan_queries.data == nullptr || nan_queries.cols == indices.rows, "index_select");
  for (std::int64_t row = 0; row < indices.rows; row += kCudaShapes.attention_rows) {
    const std::int64_t n = std::min<std::int64_t>(kCudaShapes.attention_rows, indices.rows - row);
    BatchView tile = b;
    tile.positions = b.positions.columns(row, n);
    tile.seq_of_token = b.seq_of_token.columns(row, n);
    if (q.data) tile.rope = b.rope.slice(row, n);
    select_tile(tile, shape, q.data ? q.slice(row, n) : q,
                q.data ? head_weights.slice(row, n) : head_weights, kv, indices.slice(row, n),
                nan_queries.data ? nan_queries.columns(row, n) : nan_queries);
  }
}

void CudaBackend::select_tile(const BatchView& b, const IndexerShape& shape, TensorView q,
                              TensorView head_weights, const PagedKv& kv, TensorView indices,
                              TensorView nan_queries) {
  check_shape(indices.stride == indices.cols, "index_select");
  const auto tokens = static_cast<int>(indices.rows), top = static_cast<int>(indices.cols);
  const kernels::cuda::VisibleKeys keys{.positions = data_as<std::int32_t>(b.positions),
                                        .seq_of_token = data_as<std::int32_t>(b.seq_of_token),
                                        .page_table = data_as<std::int32_t>(b.page_table),
                                        .page_stride = b.page_table.stride};
  // Where no context is longer than a list, every query reads all it sees.
  const bool scored = q.data != nullptr && limits_.max_context > top;
  if (scored) {
    const kernels::cuda::IndexQueryArguments query{.q = q.data,
                                                   .head_weights = data_as<float>(head_weights),
                                                   .rope = data_as<float>(b.rope),
                                                   .out = index_q_,
                                                   .out_weights = index_weights_,
                                                   .type = value_type(q.dtype),
                                                   .pow2 = kv.pow2_scales,
                                                   .interleave = shape.rope_interleave,
                                                   .int8 = kv.layout.int8_index,
                                                   .num_tokens = tokens,
                                                   .num_heads = shape.heads,
                                                   .index_dim = shape.dim,
                                                   .rope_dim = static_cast<int>(b.rope.cols)};
    stream_.launch(launch_of(query), query);
    const kernels::cuda::IndexScoresArguments scores{.q = index_q_,
                                                     .weights = index_weights_,
                                                     .pages = kv.index_key.data,
                                                     .keys = keys,
                                                     .scores = index_scores_,
                                                     .score_stride = limits_.max_context,
                                                     .layout = kv.layout,
                                                     .num_tokens = tokens,
                                                     .num_heads = shape.heads,
                                                     .top_k = top};
    stream_.launch(launch_of(scores), scores);
  }
  const kernels::cuda::TopKArguments choice{.scores = scored ? index_scores_ : nullptr,
                                            .score_stride = limits_.max_context,
                                            .keys = keys,
                                            .indices = data_as<std::int32_t>(indices),
                                            .nan_queries = data_as<std::int32_t>(nan_queries),
                                            .num_tokens = tokens,
                                            .top_k = top};
  stream_.launch(launch_of(choice), choice);
}

}  // namespace dsv32::cuda
