// The CPU's Backend: the steps of topics mla and indexer.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <numeric>

#include "lib/backend/cpu_backend.h"

namespace dsv32 {
namespace {

constexpr int kScoreRange = 2048;  // keys of one piece of work; a multiple of the page size

bool holds_nan(const float* x, int n) {
  constexpr int kLanes = 16;
  std::array<std::uint32_t, kLanes> largest{};  // of the bits without signs, where NaNs are largest
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) {
      const auto bits = std::bit_cast<std::uint32_t>(x[i + static_cast<int>(k)]) & 0x7FFFFFFFu;
      largest[k] = bits > largest[k] ? bits : largest[k];
    }
  }
  std::uint32_t most = 0;
  for (const std::uint32_t bits : largest) most = bits > most ? bits : most;
  for (; i < n; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu;
    most = bits > most ? bits : most;
  }
  return most > 0x7F800000u;
}

}  // namespace

void CpuBackend::mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                           const PagedKv& kv) {
  check_shape(kv_a.cols == kv.layout.latent + kv.layout.rope && gain.cols == kv.layout.latent,
              "mla_store");
  ranges(kv_a.rows, 1, [&](int first, int last, int) {
    kernels_->mla_store({.kv = kv_a.slice(first, 0).data,
                         .gain = data_as<float>(gain),
                         .rope = data_as<float>(b.rope.slice(first, 0)),
                         .slots = data_as<std::int32_t>(b.slots) + first,
                         .latent = kv.latent.data,
                         .layout = kv.layout,
                         .type = value_type(kv_a.dtype),
                         .pow2 = kv.pow2_scales,
                         .interleave = kv.rope_interleave,
                         .num_tokens = last - first});
  });
}

void CpuBackend::mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape,
                            TensorView q, TensorView q_latent) {
  check_shape(q.cols == shape.heads * (shape.nope + shape.rope) && kv_b.cols == shape.latent &&
                  q_latent.cols == shape.heads * (shape.latent + shape.rope),
              "mla_absorb");
  for (std::int64_t row = 0; row < q.rows; row += kernels::kRowTile) {
    const std::int64_t n = std::min<std::int64_t>(kernels::kRowTile, q.rows - row);
    ranges(shape.heads, 1, [&](int first, int last, int worker) {
      kernels_->mla_absorb({.kv_b = matrix_of(kv_b).matrix,
                            .q = q.slice(row, n).data,
                            .rope = data_as<float>(b.rope.slice(row, n)),
                            .q_latent = q_latent.slice(row, n).data,
                            .scratch = worker_scratch(worker),
                            .type = value_type(q.dtype),
                            .interleave = shape.rope_interleave,
                            .num_tokens = static_cast<int>(n),
                            .num_heads = shape.heads,
                            .nope = shape.nope,
                            .rope_dim = shape.rope,
                            .v = shape.v,
                            .latent = shape.latent,
                            .first_head = first,
                            .last_head = last});
    });
  }
}

void CpuBackend::sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                            TensorView indices, float scale, TensorView out_latent) {
  check_shape(q_latent.rows == indices.rows && out_latent.rows == indices.rows &&
                  out_latent.cols == shape.heads * shape.latent,
              "sparse_mla");
  // Few tokens: split their heads, too. A head's order of sums knows nothing of it.
  const int parts = indices.rows >= pool_.size() ? 1 : std::min(pool_.size(), shape.heads);
  ranges(indices.rows * parts, 1, [&](int begin, int end, int worker) {
    for (int item = begin; item < end; ++item) {
      const int token = item / parts, part = item % parts;
      kernels_->sparse_mla({.q = q_latent.slice(token, 1).data,
                            .latent = kv.latent.data,
                            .indices = data_as<std::int32_t>(indices.slice(token, 1)),
                            .out = out_latent.slice(token, 1).data,
                            .scratch = worker_scratch(worker),
                            .layout = kv.layout,
                            .type = value_type(q_latent.dtype),
                            .num_tokens = 1,
                            .num_heads = shape.heads,
                            .top_k = static_cast<int>(indices.cols),
                            .first_head = shape.heads * part / parts,
                            .last_head = shape.heads * (part + 1) / parts,
                            .scale = scale,
                            .bf16_probabilities = kv.layout.is_deployed()});
    }
  });
}

void CpuBackend::mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                            const Activation& out) {
  check_shape(out.dense.cols == shape.heads * shape.v && out.dense.rows == out_latent.rows,
              "mla_expand");
  for (std::int64_t row = 0; row < out_latent.rows; row += kernels::kRowTile) {
    const std::int64_t n = std::min<std::int64_t>(kernels::kRowTile, out_latent.rows - row);
    ranges(shape.heads, 1, [&](int first, int last, int worker) {
      kernels_->mla_expand({.kv_b = matrix_of(kv_b).matrix,
                            .out_latent = out_latent.slice(row, n).data,
                            .out = out.dense.slice(row, n).data,
                            .scratch = worker_scratch(worker),
                            .type = value_type(out.dense.dtype),
                            .num_tokens = static_cast<int>(n),
                            .num_heads = shape.heads,
                            .nope = shape.nope,
                            .v = shape.v,
                            .latent = shape.latent,
                            .first_head = first,
                            .last_head = last});
    });
  }
  quantise_all(out);
}

void CpuBackend::index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                             TensorView gain, TensorView bias, const PagedKv& kv) {
  check_shape(k.cols == kv.layout.index_dim && gain.cols == k.cols && bias.cols == k.cols,
              "index_store");
  ranges(k.rows, 1, [&](int first, int last, int) {
    kernels_->index_store({.k = k.slice(first, 0).data,
                           .gain = data_as<float>(gain),
                           .bias = data_as<float>(bias),
                           .rope = data_as<float>(b.rope.slice(first, 0)),
                           .slots = data_as<std::int32_t>(b.slots) + first,
                           .pages = kv.index_key.data,
                           .layout = kv.layout,
                           .type = value_type(k.dtype),
                           .pow2 = kv.pow2_scales,
                           .interleave = shape.rope_interleave,
                           .num_tokens = last - first});
  });
}

void CpuBackend::index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                              TensorView head_weights, const PagedKv& kv, TensorView indices,
                              TensorView nan_queries) {
  check_shape(
      q.data == nullptr || (q.cols == shape.heads * shape.dim && head_weights.cols == shape.heads),
      "index_select");
  check_shape(nan_queries.data == nullptr || nan_queries.cols == indices.rows, "index_select");
  for (std::int64_t row = 0; row < indices.rows; row += kernels::kRowTile) {
    const std::int64_t n = std::min<std::int64_t>(kernels::kRowTile, indices.rows - row);
    if (q.data != nullptr)
      query_tile(b, shape, q.slice(row, n), head_weights.slice(row, n), kv, row);
    select_tile(b, shape, kv, row, indices.slice(row, n),
                nan_queries.data ? nan_queries.columns(row, n) : nan_queries);
  }
}

void CpuBackend::query_tile(const BatchView& b, const IndexerShape& shape, TensorView q,
                            TensorView head_weights, const PagedKv& kv, std::int64_t first_token) {
  ranges(q.rows, 1, [&](int first, int last, int) {
    kernels_->index_query({.q = q.slice(first, 0).data,
                           .head_weights = data_as<float>(head_weights.slice(first, 0)),
                           .rope = data_as<float>(b.rope.slice(first_token + first, 0)),
                           .out = index_q_ + std::int64_t{first} * shape.heads * shape.dim,
                           .out_weights = index_weights_ + std::int64_t{first} * shape.heads,
                           .type = value_type(q.dtype),
                           .pow2 = kv.pow2_scales,
                           .interleave = shape.rope_interleave,
                           .int8 = kv.layout.int8_index,
                           .num_tokens = last - first,
                           .num_heads = shape.heads,
                           .index_dim = shape.dim,
                           .rope_dim = static_cast<int>(b.rope.cols)});
  });
}

void CpuBackend::select_tile(const BatchView& b, const IndexerShape& shape, const PagedKv& kv,
                             std::int64_t first_token, TensorView indices, TensorView nan_queries) {
  const auto* position = data_as<std::int32_t>(b.positions) + first_token;
  const auto* seq = data_as<std::int32_t>(b.seq_of_token) + first_token;
  const auto pages = [&](int token) {
    return data_as<std::int32_t>(b.page_table.slice(seq[token], 1));
  };
  const auto top = static_cast<int>(indices.cols), tokens = static_cast<int>(indices.rows);
  const int longest = *std::max_element(position, position + tokens) + 1;
  std::array<std::atomic<bool>, kernels::kRowTile> met_nan{};
  if (longest > top) {  // else every query reads all it sees, and scores decide nothing
    const int parts = (longest + kScoreRange - 1) / kScoreRange;
    pool_.parallel_for(tokens * parts, [&](int item, int worker) {
      const int token = item / parts, first = item % parts * kScoreRange;
      const int last = std::min(first + kScoreRange, position[token] + 1);
      if (position[token] + 1 <= top || first >= last) return;
      float* scores = index_scores_ + std::int64_t{token} * limits_.max_context;
      kernels_->index_scores({.q = index_q_ + std::int64_t{token} * shape.heads * shape.dim,
                              .weights = index_weights_ + std::int64_t{token} * shape.heads,
                              .pages = kv.index_key.data,
                              .page_table = pages(token),
                              .scores = scores,
                              .scratch = worker_scratch(worker),
                              .layout = kv.layout,
                              .num_heads = shape.heads,
                              .first = first,
                              .last = last});
      if (holds_nan(scores + first, last - first))  // while they are in the cache
        met_nan[static_cast<std::size_t>(token)].store(true, std::memory_order_relaxed);
    });
  }
  for (int token = 0; token < tokens && nan_queries.data; ++token) {
    if (met_nan[static_cast<std::size_t>(token)].load(std::memory_order_relaxed))
      ++data_as<std::int32_t>(nan_queries)[token];
  }
  ranges(tokens, 1, [&](int begin, int end, int worker) {
    for (int token = begin; token < end; ++token) {
      auto* list = data_as<std::int32_t>(indices.slice(token, 1));
      if (const int count = position[token] + 1; count <= top) {  // nothing was scored
        std::iota(list, list + count, 0);
        std::fill(list + count, list + top, -1);
      } else {
        kernels_->top_k({.scores = index_scores_ + std::int64_t{token} * limits_.max_context,
                         .scratch = reinterpret_cast<std::uint32_t*>(worker_scratch(worker)),
                         .positions = list,
                         .count = count,
                         .top_k = top});
      }
      const std::int32_t* table = pages(token);
      for (int i = 0; i < top && list[i] >= 0; ++i) {
        list[i] =
            table[list[i] / kernels::kPageSize] * kernels::kPageSize + list[i] % kernels::kPageSize;
      }
    }
  });
}

}  // namespace dsv32
