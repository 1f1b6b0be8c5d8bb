// Arguments of the GPU's kernels, one struct each, passed by value. Plain data; shapes in brackets,
// strides in elements; every pointer is the device's. What may differ between two replays of one
// recorded pass (positions, slots, pages, rows of experts) is read from device memory; all else is
// here. `type` of activations: bf16 or f32, and every kernel rounds its results to it.
//
// The functions, their rounding points and what they do with NaN are those of kernels/params.h and
// kernels/reference.cc.
#ifndef DSV32_KERNELS_CUDA_ARGUMENTS_H_
#define DSV32_KERNELS_CUDA_ARGUMENTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/params.h"

namespace dsv32::kernels::cuda {

// The FP8 form of rows [rows, cols]: codes without gaps, scales [rows, ceil(cols / kBlock)]. Null:
// none is written, or there is none to read.
struct Fp8Rows {
  std::uint8_t* codes = nullptr;
  float* scale = nullptr;
};

// ---- dense
struct EmbedArguments {
  const std::int32_t* tokens;  // [num_rows]
  Matrix table;                // [vocab, cols] f32, bf16 or f16
  std::byte* out;              // [num_rows, cols]
  ValueType type;
  int num_rows, cols;
};

// out = gain * (s * rsqrt(mean(s^2) + eps)), s = x + residual in f32; residual = s, rounded. The
// FP8 form is that of the rounded out.
struct NormArguments {
  const std::byte* x;   // [num_rows, cols]
  std::byte* residual;  // [num_rows, cols], or null: s = x
  const float* gain;    // [cols]
  std::byte* out;       // [num_rows, cols]
  Fp8Rows fp8;
  std::int64_t x_stride, residual_stride, out_stride;
  float eps;
  ValueType x_type;  // f32 for embeddings, else as type
  ValueType type;    // of residual and out
  bool pow2;
  int num_rows, cols;
};

struct SiluMulArguments {
  const std::byte *gate, *up;  // [num_rows, cols]
  std::byte* out;              // [num_rows, cols]
  Fp8Rows fp8;
  ValueType type;
  bool pow2;
  int num_rows, cols;
};

struct QuantiseArguments {
  const std::byte* x;  // [num_rows, cols]
  Fp8Rows out;
  std::int64_t x_stride;
  ValueType type;
  bool pow2;
  int num_rows, cols;
};

// to[to_rows[i]] = from[from_rows[i]]; no list: row i of `to`, row i / copies of `from`. A pair
// with a -1 is left out.
struct CopyRowsArguments {
  const std::byte* from;
  const std::int32_t* from_rows;  // [count] or null
  std::byte* to;
  const std::int32_t* to_rows;          // [count] or null
  std::int64_t from_stride, to_stride;  // bytes
  int row_bytes, count;
  int copies = 1;
};

struct CopyBytesArguments {
  const std::byte* from;
  std::byte* to;
  std::int64_t bytes;
};

// ---- gemm. One output is one chain: columns in ascending blocks of kBlock (int4 by 64: of 64), in
// a block ascending fused products into a fresh sum; then sum = fma(block, x_scale * w_scale, sum).
// On tensor cores a block is steps of 16 columns. Tiles of rows and outputs change no bit, so
// linear_4, _16 and _32 give the same, and linear_mma_16, _32 and _64 do.

// x as its FP8 form if the weight is e4m3 and there is one, else the dense form.
struct RowsIn {
  const std::byte* dense;  // [rows, cols] f32 or bf16
  Fp8Rows fp8;
  std::int64_t stride;  // of dense
  ValueType type;       // of dense
};

struct LinearArguments {
  Matrix w;  // [outs, cols]
  RowsIn x;
  std::byte* out;  // [num_rows, outs]
  std::int64_t out_stride;
  ValueType type;  // of out
  int num_rows, cols, outs;
};

// Rows [offsets[e], offsets[e + 1]) of x through weight e.
struct GroupedLinearArguments {
  const Matrix* w;              // [experts] of [outs, cols] each, any mixture of types
  const std::int32_t* offsets;  // [experts + 1]
  RowsIn x;
  std::byte* out;  // [num_rows, outs]
  std::int64_t out_stride;
  ValueType type;  // of out
  bool mma;        // on tensor cores, which take weights that are exact in bf16
  bool split;      // weights of the other kind are another launch's
  int num_rows;    // offsets[experts] at most
  int experts, cols, outs;
};

// ---- mla: rope [num_tokens, rope]: cosines, then sines, of each token
struct MlaStoreArguments {
  const std::byte* kv;        // [num_tokens, latent + rope]
  const float* gain;          // [latent]
  const float* rope;          // [num_tokens, rope]
  const std::int32_t* slots;  // [num_tokens]; -1: not stored
  std::byte* latent;          // [slots, latent_record]
  CacheLayout layout;
  ValueType type;
  bool pow2, interleave;
  int num_tokens;
};

// q_latent = [W_UK^T q_nope | rope(q_rope)]
struct MlaAbsorbArguments {
  Matrix kv_b;          // [num_heads * (nope + v), latent]
  const std::byte* q;   // [num_tokens, num_heads, nope + rope_dim]
  const float* rope;    // [num_tokens, rope_dim]
  std::byte* q_latent;  // [num_tokens, num_heads, latent + rope_dim]
  ValueType type;       // bf16: an e4m3 kv_b is rounded to it, too
  bool interleave;
  int num_tokens, num_heads, nope, rope_dim, v, latent;
};

struct SparseMlaArguments {
  const std::byte* q;           // [num_tokens, num_heads, latent + rope]
  const std::byte* latent;      // [slots, latent_record]
  const std::int32_t* indices;  // [num_tokens, top_k] slots; -1 at the end
  std::byte* out;               // [num_tokens, num_heads, latent]; zeros without a key
  CacheLayout layout;
  ValueType type;  // of q and out
  int num_tokens, num_heads, top_k;
  float scale;
  bool bf16_probabilities;  // CacheLayout::is_deployed()
  // Heads that a block of threads has at most on tensor cores: 32, or 64 where the GPU has the
  // shared memory (sparse_mla_mma_shared). Changes no bit.
  int block_heads = 32;
};

// out[t, h, i] = sum over c of W_UV[h][i, c] out_latent[t, h, c]. Its FP8 form: quantise.
struct MlaExpandArguments {
  Matrix kv_b;                  // [num_heads * (nope + v), latent]
  const std::byte* out_latent;  // [num_tokens, num_heads, latent]
  std::byte* out;               // [num_tokens, num_heads, v]
  ValueType type;
  int num_tokens, num_heads, nope, v, latent;
};

// ---- indexer. index_dim is at most kBlock.
struct IndexStoreArguments {
  const std::byte* k;         // [num_tokens, index_dim]
  const float *gain, *bias;   // [index_dim], LayerNorm
  const float* rope;          // [num_tokens, layout.rope]
  const std::int32_t* slots;  // [num_tokens]; -1: not stored
  std::byte* pages;           // [pages, index_page]
  CacheLayout layout;
  ValueType type;
  bool pow2, interleave;
  int num_tokens;
};

struct IndexQueryArguments {
  const std::byte* q;         // [num_tokens, num_heads, index_dim]
  const float* head_weights;  // [num_tokens, num_heads]
  const float* rope;          // [num_tokens, rope_dim]
  float* out;                 // [num_tokens, num_heads, index_dim]: values of codes, or f32
  float* out_weights;         // [num_tokens, num_heads], every scale of the query multiplied in
  ValueType type;
  bool pow2, interleave, int8;
  int num_tokens, num_heads, index_dim, rope_dim;
  // If given: queries that see at most top_k keys are left out, for nobody scores by them.
  const std::int32_t* positions = nullptr;  // [num_tokens]
  int top_k = 0;
};

// Which keys a query sees, and where they are.
struct VisibleKeys {
  const std::int32_t* positions;     // [num_tokens]; keys 0 to position; -1: none
  const std::int32_t* seq_of_token;  // [num_tokens]: row of the page table
  const std::int32_t* page_table;    // [num_seqs, page_stride]
  std::int64_t page_stride;
};

// Of queries that see at most top_k keys nothing is scored. Heads are summed in sixteen lanes,
// ascending, each product rounded; then halves of the lanes are added until one is left.
struct IndexScoresArguments {
  const float* q;          // [num_tokens, num_heads, index_dim]
  const float* weights;    // [num_tokens, num_heads]
  const std::byte* pages;  // [pages, index_page]
  VisibleKeys keys;
  float* scores;              // [num_tokens, score_stride]
  std::int64_t score_stride;  // the longest context
  CacheLayout layout;
  int num_tokens, num_heads, top_k;
};

// Slots of the top_k best: higher first, then the lower position; NaN is worst, -0 is 0. Ascending
// in position; -1 behind the last. All visible keys if there are no more than top_k.
struct TopKArguments {
  const float*
      scores;  // [num_tokens, score_stride]; null if nothing was scored: top_k keys at most
  std::int64_t score_stride;
  VisibleKeys keys;
  std::int32_t* indices;      // [num_tokens, top_k]
  std::int32_t* nan_queries;  // [num_tokens] or null: one more where a score is NaN
  int num_tokens, top_k;
};

// ---- moe
struct MoeGateArguments {
  const float* scores;  // [num_tokens, num_experts], before the sigmoid
  const float* bias;    // [num_experts], for the choice only
  std::int32_t* ids;    // [num_tokens, top], ascending
  float* weights;       // [num_tokens, top]
  int num_tokens, num_experts, n_group, topk_group, top;
  float routed_scaling_factor;
  bool norm_topk_prob;
};

// moe_count writes offsets, and rows of copies that go nowhere; moe_place the other rows: a
// counting sort by expert, then copy. copy_rows with `copies` = top and `to_rows` = rows follows.
struct MoeDispatchArguments {
  const std::int32_t* ids;  // [copies]
  std::int32_t* offsets;    // [experts + 1]
  std::int32_t* rows;       // [copies]; -1 for an expert that is not here
  std::int32_t first_expert;
  int copies, experts;  // experts: at most kMaxExperts
};
inline constexpr int kMaxExperts = 4096;

// out[t] = sum over j of weights[t, j] x[rows[t, j]], in ascending j, + shared[t]
struct MoeCombineArguments {
  const std::byte* x;        // [num_tokens * top, cols]
  const std::int32_t* rows;  // [num_tokens, top]; -1: no part of the sum
  const float* weights;      // [num_tokens, top]
  const std::byte* shared;   // [num_tokens, cols], or null: nothing is added
  std::byte* out;            // [num_tokens, cols]
  ValueType type;            // of x and shared
  ValueType out_type;        // f32: the sum as it is
  int num_tokens, top, cols;
};

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_ARGUMENTS_H_
