// Arguments of the CPU's kernels. Plain data; shapes in brackets, strides in elements. `type` of
// activations: bf16 in the native numerics, f32 in the exact ones; every kernel rounds its results
// to it.
#ifndef DSV32_KERNELS_CPU_PARAMS_H_
#define DSV32_KERNELS_CPU_PARAMS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/params.h"

namespace dsv32::kernels {

inline constexpr int kRowTile = 64;      // tokens that one call of absorb or expand takes
inline constexpr int kLinearRows = 256;  // rows that one call of linear takes

// ---- dense
struct EmbedParams {
  const std::int32_t* tokens;  // [num_rows]
  Matrix table;                // [vocab, cols]
  std::byte* out;              // [num_rows, cols]
  ValueType type;
  int num_rows, cols;
};

// out = gain * (s * rsqrt(mean(s^2) + eps)), s = x + residual in f32; residual = s, rounded.
struct NormParams {
  const std::byte* x;   // [num_rows, cols]
  std::byte* residual;  // [num_rows, cols], or null: s = x
  const float* gain;    // [cols]
  std::byte* out;       // [num_rows, cols]
  std::int64_t x_stride, residual_stride, out_stride;
  float eps;
  ValueType x_type;  // f32 for embeddings, else as type
  ValueType type;    // of residual and out
  int num_rows, cols;
};

struct SiluMulParams {
  const std::byte *gate, *up;  // [num_rows, cols]
  std::byte* out;              // [num_rows, cols]
  ValueType type;
  int num_rows, cols;
};

// Rows to e4m3 with one scale per kBlock columns: amax / 448, amax at least 1e-4, rounded up to a
// power of two if `pow2` (spec: act_quant). A short last block has its own amax.
struct QuantiseParams {
  const std::byte* x;  // [num_rows, cols]
  std::uint8_t* out;   // [num_rows, cols]
  float* scale;        // [num_rows, ceil(cols / kBlock)]
  std::int64_t x_stride;
  ValueType type;
  bool pow2;
  int num_rows, cols;
};

// ---- gemm
// Rows as this table's linear reads them against weights of type `w_type`: its own layout, in
// packed_bytes(rows, cols) at most. e4m3 has its scale multiplied in, or not if `scale` is null. A
// row's bytes depend on that row alone.
struct PackParams {
  const std::byte* x;  // [num_rows, cols]
  const float* scale;  // e4m3: [num_rows, ceil(cols / kBlock)] or null
  std::byte* out;      // row m at m * packed_row_bytes(cols), aligned to 64
  std::int64_t x_stride;
  ValueType type;  // of x: f32, bf16 or e4m3
  ValueType w_type;
  int num_rows, cols;
};
// Whole lines, and one more, so that rows do not meet in one set of a cache.
constexpr std::int64_t packed_row_bytes(int cols) {
  return (std::int64_t{cols} + kBlock - 1) / kBlock * kBlock * 4 + 64;
}

// out[m, n] = sum over k of x[m, k] w[n, k], for n in [first, last).
struct LinearParams {
  Matrix w;            // [>= last, cols]
  const std::byte* x;  // num_rows packed rows
  ValueType x_type;    // PackParams::type
  const float*
      x_scale;     // e4m3 packed without its scale: [num_rows, ceil(cols / kBlock)]; else null
  std::byte* out;  // [num_rows, >= last]
  std::int64_t out_stride;
  float* scratch;  // [kLinearScratch], aligned to 64
  ValueType type;  // of out
  int num_rows;    // at most kLinearRows
  int cols, first, last;
  int then = 0;  // rows of w behind `last` that this thread most likely takes next
};
inline constexpr std::int64_t kLinearScratch = std::int64_t{425} * 1024;  // rows of x, and sums

// ---- mla: RoPE pairs (2i, 2i + 1), or (i, i + rope / 2). rope [num_tokens, rope]: cosines, then
// sines, of each token
struct MlaStoreParams {
  const std::byte* kv;        // [num_tokens, latent + rope]
  const float* gain;          // [latent]
  const float* rope;          // [num_tokens, rope]
  const std::int32_t* slots;  // [num_tokens]; -1: not stored
  std::byte* latent;          // [slots, latent_record]
  CacheLayout layout;
  ValueType type;
  bool pow2;
  bool interleave = true;
  int num_tokens;
};

// Scratch of absorb and expand in floats: conversion tables of a head's `rows` rows (nope or v), a
// part of its weights in BF16, and what goes in and out for kRowTile tokens.
constexpr std::int64_t mla_project_tables(int rows, int latent) {
  return std::int64_t{rows / kBlock + 2} * ((latent + kBlock - 1) / kBlock);
}
constexpr int mla_project_weights(int rows, int latent) {
  return 64 * rows > 8 * latent ? 64 * rows : 8 * latent;
}
constexpr std::int64_t mla_project_scratch(int nope, int v, int latent) {
  const int rows = nope > v ? nope : v, width = nope > latent ? nope : latent;
  return mla_project_tables(rows, latent) * 64 + mla_project_weights(rows, latent) / 2 +
         std::int64_t{kRowTile} * (width + v) / 2;
}

// The nope part through W_UK, the rope part rotated: q_latent = [W_UK^T q_nope | rope(q_rope)].
struct MlaAbsorbParams {
  Matrix kv_b;          // [num_heads * (nope + v), latent]
  const std::byte* q;   // [num_tokens, num_heads, nope + rope_dim]
  const float* rope;    // [num_tokens, rope_dim]
  std::byte* q_latent;  // [num_tokens, num_heads, latent + rope_dim]
  float* scratch;       // [mla_project_scratch()], aligned to 64
  ValueType type;       // bf16: kv_b is rounded to it, too
  bool interleave = true;
  int num_tokens;  // at most kRowTile
  int num_heads, nope, rope_dim, v, latent, first_head, last_head;
};

struct SparseMlaParams {
  const std::byte* q;           // [num_tokens, num_heads, latent + rope]
  const std::byte* latent;      // [slots, latent_record]
  const std::int32_t* indices;  // [num_tokens, top_k] slots in ascending *position*; -1 at the end
  std::byte* out;               // [num_tokens, num_heads, latent]; zeros without a valid key
  float* scratch;               // [sparse_mla_scratch()]
  CacheLayout layout;
  ValueType type;  // of q and out
  int num_tokens, num_heads, top_k, first_head, last_head;
  float scale;
  // Probabilities, not yet divided by their sum, are rounded to BF16 before they meet the values;
  // the sum takes them unrounded. Else they stay f32.
  bool bf16_probabilities;
};
constexpr std::int64_t sparse_mla_scratch(const CacheLayout& layout, int num_heads) {
  const std::int64_t width = layout.latent + layout.rope, heads = (num_heads + 15) / 16 * 16;
  return (width + layout.latent) * (kGroup + heads) + heads * (kGroup + 3);
}

// out[t, h, i] = sum over c of W_UV[h][i, c] out_latent[t, h, c]
struct MlaExpandParams {
  Matrix kv_b;                  // [num_heads * (nope + v), latent]
  const std::byte* out_latent;  // [num_tokens, num_heads, latent]
  std::byte* out;               // [num_tokens, num_heads, v]
  float* scratch;               // [mla_project_scratch()], aligned to 64
  ValueType type;
  int num_tokens;  // at most kRowTile
  int num_heads, nope, v, latent, first_head, last_head;
};

// ---- indexer: RoPE pairs (i, i + rope / 2) on the first `rope` dims, or (2i, 2i + 1)
struct IndexStoreParams {
  const std::byte* k;         // [num_tokens, index_dim]
  const float *gain, *bias;   // [index_dim], LayerNorm
  const float* rope;          // [num_tokens, rope]
  const std::int32_t* slots;  // [num_tokens]; -1: not stored
  std::byte* pages;           // [pages, index_page]
  CacheLayout layout;
  ValueType type;
  bool pow2, interleave;
  int num_tokens;
};

// Queries as the scores need them: rotated, transformed and quantised values in f32, and the head
// weights with every scale of the query multiplied in.
struct IndexQueryParams {
  const std::byte* q;         // [num_tokens, num_heads, index_dim]
  const float* head_weights;  // [num_tokens, num_heads], as weights_proj gives them
  const float* rope;          // [num_tokens, rope_dim]
  float* out;                 // [num_tokens, num_heads, index_dim]
  float* out_weights;         // [num_tokens, num_heads]
  ValueType type;
  bool pow2, interleave;
  bool int8 = false;  // codes for INT8 keys; f32 queries stay as they are
  int num_tokens, num_heads, index_dim, rope_dim;
};

// scores[s] of one query for s in [first, last): k_scale * sum over h of w[h] max(0, q[h] . k[s]).
// Of INT8 codes q . k is exact, and sixteen lanes of weighted heads in ascending blocks of 16, each
// product rounded, then the tree of `fold`, make the bits of a score the same in every kernel set.
struct IndexScoresParams {
  const float* q;                  // [num_heads, index_dim]
  const float* weights;            // [num_heads]
  const std::byte* pages;          // [pages, index_page]
  const std::int32_t* page_table;  // page of position s: page_table[s / kPageSize]
  float* scores;                   // [>= last]
  float* scratch;                  // [kPageSize * (index_dim + 1)]
  CacheLayout layout;
  int num_heads, first, last;
};

// The top_k best of scores[0, count): higher first, then the lower position; NaN is worst, -0 is 0.
struct TopKParams {
  const float* scores;      // [count]
  std::uint32_t* scratch;   // [top_k_scratch()]
  std::int32_t* positions;  // [top_k], ascending; -1 behind the last
  int count, top_k;
};
inline constexpr int kTopKSlack = 96;  // entries of a buffer behind the last that counts
constexpr std::int64_t top_k_scratch(int top_k) {
  return 3 * (4 * std::int64_t{top_k} + 8192 + kTopKSlack);
}

// ---- moe
struct MoeGateParams {
  const float* scores;  // [num_tokens, num_experts], before the sigmoid
  const float* bias;    // [num_experts], for the choice only
  std::int32_t* ids;    // [num_tokens, top], ascending
  float* weights;       // [num_tokens, top]
  float* scratch;       // [num_experts + n_group]
  int num_tokens, num_experts, n_group, topk_group, top;
  float routed_scaling_factor;
  bool norm_topk_prob;
};

// out[t] = sum over j of weights[t, j] x[rows[t, j]], in ascending j, + shared[t]
struct MoeCombineParams {
  const std::byte* x;        // [num_tokens * top, cols]
  const std::int32_t* rows;  // [num_tokens, top]; -1: no part of the sum
  const float* weights;      // [num_tokens, top]
  const std::byte* shared;   // [num_tokens, cols], or null: nothing is added
  std::byte* out;            // [num_tokens, cols]
  ValueType type;            // of x and shared
  ValueType out_type;        // f32: the sum as it is
  int num_tokens, top, cols;
};

// ---- logits: one row in whole blocks, -infinity behind its last logit; maxima and sums are kept
// for each block, so that later passes can skip what does not matter. Additions, multiplications
// and comparisons of f32 in eight lanes and a fixed order, none fused: the bits are the same in
// every kernel set but `reference`, and on every machine.
inline constexpr int kLogitBlock = 64;

struct LogitMaximaParams {
  const float* row;  // [num_blocks, kLogitBlock]
  float* maxima;     // [num_blocks]; without meaning if not usable
  bool* usable;      // no logit is NaN or +infinity
  std::int64_t num_blocks;
};

// weights[i] = 2^((row[i] - best) * scale), to a relative error of 1e-7 and 5e-8 times the
// exponent; 0 where the exponent is below -124. sums[b]: lanes i, i + 8, ... in ascending order,
// then a tree.
struct LogitWeightsParams {
  const float* row;   // [num_blocks, kLogitBlock], none above best
  float* weights;     // [num_blocks, kLogitBlock]
  double* sums;       // [num_blocks]
  float best, scale;  // scale above 0
  std::int64_t num_blocks;
};

}  // namespace dsv32::kernels

#endif  // DSV32_KERNELS_CPU_PARAMS_H_
