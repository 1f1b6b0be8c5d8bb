// How each kernel of smxx is launched: pure functions of its arguments. A grid never depends on
// what lies in device memory, so a recorded launch stays right.
#ifndef DSV32_KERNELS_CUDA_LAUNCH_H_
#define DSV32_KERNELS_CUDA_LAUNCH_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/arguments.h"

namespace dsv32::kernels::cuda {

// X(kernel, file): smxx/FILE.cu defines extern "C" dsv32_KERNEL.
#define DSV32_SMXX_KERNELS(X)           \
  X(embed, dense)                       \
  X(add_rms_norm, dense)                \
  X(silu_mul, dense)                    \
  X(quantise, dense)                    \
  X(copy_rows, dense)                   \
  X(copy_bytes, dense)                  \
  X(linear_4, linear)                   \
  X(linear_16, linear)                  \
  X(linear_32, linear)                  \
  X(grouped_linear_4, linear)           \
  X(grouped_linear_16, linear)          \
  X(grouped_linear_32, linear)          \
  X(linear_mma_16, linear)              \
  X(linear_mma_32, linear)              \
  X(linear_mma_64, linear)              \
  X(grouped_linear_mma_16, linear)      \
  X(grouped_linear_mma_32, linear)      \
  X(grouped_linear_mma_64, linear)      \
  X(mla_store, mla)                     \
  X(mla_absorb_4, mla)                  \
  X(mla_absorb_32, mla)                 \
  X(mla_expand_4, mla)                  \
  X(mla_expand_32, mla)                 \
  X(mla_absorb_mma_16, mla)             \
  X(mla_absorb_mma_64, mla)             \
  X(mla_expand_mma_16, mla)             \
  X(mla_expand_mma_64, mla)             \
  X(sparse_mla, sparse_mla)             \
  X(sparse_mla_mma_16, sparse_mla_mma)  \
  X(sparse_mla_mma_32, sparse_mla_mma)  \
  X(sparse_mla_mma_64, sparse_mla_mma)  \
  X(index_store, indexer)               \
  X(index_query, indexer)               \
  X(index_scores, indexer)              \
  X(index_scores_mma, index_scores_mma) \
  X(top_k, top_k)                       \
  X(moe_gate, moe)                      \
  X(moe_count, moe)                     \
  X(moe_place, moe)                     \
  X(moe_combine, moe)

enum class Kernel : int {
#define DSV32_ENUMERATOR(kernel, file) kernel,
  DSV32_SMXX_KERNELS(DSV32_ENUMERATOR)
#undef DSV32_ENUMERATOR
};

struct KernelName {
  const char* function;  // dsv32_KERNEL
  const char* file;      // without its folder and .cu
};
inline constexpr KernelName kKernelNames[] = {
#define DSV32_NAME(kernel, file) {"dsv32_" #kernel, #file},
    DSV32_SMXX_KERNELS(DSV32_NAME)
#undef DSV32_NAME
};

struct Launch {
  Kernel kernel;
  unsigned grid_x, grid_y, grid_z;
  unsigned threads;  // of a block, along x
  unsigned shared;   // dynamic bytes

  constexpr bool empty() const { return grid_x == 0 || grid_y == 0 || grid_z == 0; }
};

inline constexpr unsigned kMaxShared = 99 * 1024;  // of a block, on every GPU from sm_80 on
inline constexpr unsigned kThreads = 128;          // of most kernels
inline constexpr unsigned kWarps = kThreads / 32;
// Of them at least on a multiprocessor: without a number ptxas finds one of its own, and spills
// registers to reach it.
inline constexpr unsigned kBlocks = 3;

constexpr unsigned ceil_div(std::int64_t a, std::int64_t b) {
  return a <= 0 ? 0u : static_cast<unsigned>((a + b - 1) / b);
}

// One warp for each of `count` pieces.
constexpr Launch launch_warps(Kernel kernel, std::int64_t count) {
  return {kernel, ceil_div(count, kWarps), 1, 1, kThreads, 0};
}

// ---- dense
constexpr Launch launch_of(const EmbedArguments& a) {
  return launch_warps(Kernel::embed, std::int64_t{a.num_rows} * ceil_div(a.cols, kBlock));
}
constexpr Launch launch_of(const NormArguments& a) {
  return {Kernel::add_rms_norm, ceil_div(a.num_rows, 1), 1, 1, kThreads, 0};
}
constexpr Launch launch_of(const SiluMulArguments& a) {
  return launch_warps(Kernel::silu_mul, std::int64_t{a.num_rows} * ceil_div(a.cols, kBlock));
}
constexpr Launch launch_of(const QuantiseArguments& a) {
  return launch_warps(Kernel::quantise, std::int64_t{a.num_rows} * ceil_div(a.cols, kBlock));
}
constexpr Launch launch_of(const CopyRowsArguments& a) {
  return launch_warps(Kernel::copy_rows, a.count);
}
inline constexpr std::int64_t kCopyPiece = 4096;  // bytes of one warp
constexpr Launch launch_of(const CopyBytesArguments& a) {
  return launch_warps(Kernel::copy_bytes, ceil_div(a.bytes, kCopyPiece));
}

// ---- gemm. A tile of `rows` rows of x by `outs` outputs.
struct GemmTile {
  int rows, outs;
};
inline constexpr GemmTile kTile4{4, 32}, kTile16{16, 64}, kTile32{32, 64}, kTile64{64, 64};
inline constexpr GemmTile kTileSlim{16, 16};
// Of a slim tile's block, in dynamic shared memory: copies of each warp, and sums of two turns.
inline constexpr int kSlimStages = 18432;
inline constexpr unsigned kSlimShared = kWarps * (kSlimStages + 2 * 16 * 24 * 4);

// The tile for so many rows, as one of four.
constexpr int tile_for(int rows) { return rows <= 4 ? 0 : rows <= 16 ? 1 : rows <= 32 ? 2 : 3; }

// Whether a weight's values, without their scales, lose nothing as bf16.
constexpr bool is_exact_in_bf16(ValueType type) {
  return type != ValueType::f32 && type != ValueType::f16;
}
// Then products of bf16 rows run on tensor cores, for any number of rows: of one weight all bits
// are of one order.
struct GemmKernels {
  Kernel f32[4], mma[4];
  constexpr Kernel at(bool on_tensor_cores, int i) const {
    return on_tensor_cores ? mma[i] : f32[i];
  }
};
struct GemmLaunch {
  GemmTile tile;
  unsigned shared;
};
constexpr GemmLaunch gemm_launch(bool on_tensor_cores, int i) {
  constexpr GemmTile kF32[] = {kTile4, kTile16, kTile32, kTile32};
  constexpr GemmTile kMma[] = {kTileSlim, kTileSlim, kTile32, kTile64};
  if (!on_tensor_cores) return {kF32[i], 0};
  return {kMma[i], i <= 1 ? kSlimShared : 0};
}

constexpr Launch launch_of(const LinearArguments& a) {
  constexpr GemmKernels kKernels{
      {Kernel::linear_4, Kernel::linear_16, Kernel::linear_32, Kernel::linear_32},
      {Kernel::linear_mma_16, Kernel::linear_mma_16, Kernel::linear_mma_32, Kernel::linear_mma_64}};
  const bool mma = is_exact_in_bf16(a.w.type) && a.x.type == ValueType::bf16;
  const int i = tile_for(a.num_rows);
  const auto [tile, shared] = gemm_launch(mma, i);
  return {kKernels.at(mma, i),
          ceil_div(a.outs, tile.outs),
          ceil_div(a.num_rows, tile.rows),
          1,
          kThreads,
          shared};
}

// Tiles of rows of all experts together: each may end in a part of one.
constexpr unsigned grouped_tiles(int rows, int experts, int tile) {
  return std::min(static_cast<unsigned>(rows), static_cast<unsigned>(rows / tile) +
                                                   static_cast<unsigned>(std::min(rows, experts)));
}
constexpr Launch launch_of(const GroupedLinearArguments& a) {
  constexpr GemmKernels kKernels{{Kernel::grouped_linear_4, Kernel::grouped_linear_16,
                                  Kernel::grouped_linear_32, Kernel::grouped_linear_32},
                                 {Kernel::grouped_linear_mma_16, Kernel::grouped_linear_mma_16,
                                  Kernel::grouped_linear_mma_32, Kernel::grouped_linear_mma_64}};
  const bool mma = a.mma;
  const int i = tile_for(a.experts > 0 ? a.num_rows / a.experts : 0);  // on average
  const auto [tile, shared] = gemm_launch(mma, i);
  return {kKernels.at(mma, i),
          ceil_div(a.outs, tile.outs),
          grouped_tiles(a.num_rows, a.experts, tile.rows),
          1,
          kThreads,
          shared};
}

// ---- mla
constexpr Launch launch_of(const MlaStoreArguments& a) {
  return launch_warps(Kernel::mla_store, a.num_tokens);
}
// Kernels of each half, for four rows and for 32, and on tensor cores for 16 and for 64.
struct HeadKernels {
  Kernel small, large, mma_small, mma_large;
};
constexpr Launch launch_heads(const HeadKernels& kernels, ValueType type, const Matrix& kv_b,
                              int tokens, int heads, int outs, unsigned more) {
  // bf16 rows by what is bf16 or is rounded to it.
  const bool mma =
      type == ValueType::bf16 && (kv_b.type == ValueType::bf16 || kv_b.type == ValueType::e4m3);
  const bool small = tokens <= (mma ? 16 : 4);
  const GemmTile tile = mma ? (small ? kTile16 : kTile64) : small ? kTile4 : kTile32;
  return {mma ? (small ? kernels.mma_small : kernels.mma_large)
              : (small ? kernels.small : kernels.large),
          ceil_div(outs, tile.outs) + more,
          ceil_div(tokens, tile.rows),
          static_cast<unsigned>(heads),
          kThreads,
          0};
}
constexpr Launch launch_of(const MlaAbsorbArguments& a) {  // the last block in x rotates
  return launch_heads({Kernel::mla_absorb_4, Kernel::mla_absorb_32, Kernel::mla_absorb_mma_16,
                       Kernel::mla_absorb_mma_64},
                      a.type, a.kv_b, a.num_tokens, a.num_heads, a.latent, 1);
}
constexpr Launch launch_of(const MlaExpandArguments& a) {
  return launch_heads({Kernel::mla_expand_4, Kernel::mla_expand_32, Kernel::mla_expand_mma_16,
                       Kernel::mla_expand_mma_64},
                      a.type, a.kv_b, a.num_tokens, a.num_heads, a.v, 0);
}

// What a block of sparse_mla has in shared memory: probabilities, `columns` columns of the queries
// and of kGroup keys at a time (all of them where they fit, so that no key is decoded twice), what
// it sums, factors and totals of heads, slots.
inline constexpr int kMlaHeads = 8;
constexpr unsigned sparse_mla_shared(const CacheLayout& layout, int columns) {
  return 4u * static_cast<unsigned>(kGroup * (columns + 1) + kMlaHeads * columns +
                                    kMlaHeads * layout.latent + kMlaHeads * kGroup + 2 * kMlaHeads +
                                    kGroup);
}
constexpr int sparse_mla_columns(const CacheLayout& layout) {
  const int width = layout.latent + layout.rope;
  return sparse_mla_shared(layout, (width + 3) / 4 * 4) <= kMaxShared ? (width + 3) / 4 * 4 : 64;
}

// On tensor cores: records of deployed pages (is_deployed) and queries of bf16. A block has up to
// 64 heads: queries, decoded keys, records, a row of weights and a factor of each head, slots.
inline constexpr int kMmaKeys = 32;
inline constexpr int kMmaWidth = 576, kMmaRecord = 656;  // values and bytes of a record
inline constexpr int kMmaWeightsRow = kMmaKeys + 8;
constexpr unsigned sparse_mla_mma_shared(int heads) {
  const int bytes = (heads + kMmaKeys) * kMmaWidth * 2 + kMmaKeys * kMmaRecord +
                    heads * (kMmaWeightsRow + 1) * 4 + kMmaKeys * 4;
  return static_cast<unsigned>((bytes + 127) / 128 * 128);
}
// With 16, 32 or 64 heads a block.
constexpr Launch launch_sparse_mla_mma(const SparseMlaArguments& a, int heads) {
  return {heads == 16   ? Kernel::sparse_mla_mma_16
          : heads == 32 ? Kernel::sparse_mla_mma_32
                        : Kernel::sparse_mla_mma_64,
          static_cast<unsigned>(a.num_tokens),
          ceil_div(a.num_heads, heads),
          1,
          heads == 16 ? 128u : 256u,
          sparse_mla_mma_shared(heads)};
}
// Many heads a block decode a key for all of them; few heads make blocks for more multiprocessors.
inline constexpr int kMultiprocessors = 108;  // of an A100
constexpr int sparse_mla_heads(const SparseMlaArguments& a) {
  for (const int heads : {16, 32}) {
    const std::int64_t blocks = std::int64_t{a.num_tokens} * ceil_div(a.num_heads, heads);
    if (a.num_heads <= heads || blocks <= kMultiprocessors) return heads;
  }
  return a.block_heads;
}
constexpr Launch launch_of(const SparseMlaArguments& a) {
  if (a.bf16_probabilities && a.type == ValueType::bf16) {
    return launch_sparse_mla_mma(a, sparse_mla_heads(a));
  }
  return {Kernel::sparse_mla,
          static_cast<unsigned>(a.num_tokens),
          ceil_div(a.num_heads, kMlaHeads),
          1,
          kThreads,
          sparse_mla_shared(a.layout, sparse_mla_columns(a.layout))};
}

// Above 48 KB of shared memory a function has to be told (MAX_DYNAMIC_SHARED_SIZE_BYTES).
struct SharedNeed {
  Kernel kernel;
  unsigned bytes;  // at most
};
inline constexpr SharedNeed kSharedNeeds[] = {
    {Kernel::linear_mma_16, kSlimShared},
    {Kernel::grouped_linear_mma_16, kSlimShared},
    {Kernel::sparse_mla, kMaxShared},
    {Kernel::sparse_mla_mma_16, sparse_mla_mma_shared(16)},
    {Kernel::sparse_mla_mma_32, sparse_mla_mma_shared(32)},
    {Kernel::sparse_mla_mma_64, sparse_mla_mma_shared(64)}};
// What a GPU's blocks may have of it says how many heads they take.
constexpr int sparse_mla_block_heads(int block_shared) {
  return static_cast<int>(sparse_mla_mma_shared(64)) <= block_shared ? 64 : 32;
}

// ---- indexer
constexpr Launch launch_of(const IndexStoreArguments& a) {
  return launch_warps(Kernel::index_store, a.num_tokens);
}
constexpr Launch launch_of(const IndexQueryArguments& a) {
  return launch_warps(Kernel::index_query, std::int64_t{a.num_tokens} * a.num_heads);
}
inline constexpr int kKeyTile = 32;       // keys that a block of index_scores takes at a time
inline constexpr int kScoreBlocks = 512;  // so many blocks share a launch's keys, about
constexpr Launch launch_of(const IndexScoresArguments& a) {
  // On tensor cores: codes, in whole sixteens; a page at a time.
  const bool mma = a.layout.index_type() != ValueType::f32 && a.layout.index_dim % 16 == 0;
  const unsigned tiles = ceil_div(a.score_stride, mma ? kPageSize : kKeyTile);
  const unsigned wanted = a.num_tokens > 0 ? ceil_div(kScoreBlocks, a.num_tokens) : 0;
  return {mma ? Kernel::index_scores_mma : Kernel::index_scores,
          std::min(tiles, wanted),
          static_cast<unsigned>(a.num_tokens),
          1,
          kThreads,
          0};
}
constexpr Launch launch_of(const TopKArguments& a) {
  return {Kernel::top_k, static_cast<unsigned>(a.num_tokens), 1, 1, 256, 0};
}

// ---- moe
constexpr Launch launch_of(const MoeGateArguments& a) {
  return {Kernel::moe_gate,
          static_cast<unsigned>(a.num_tokens),
          1,
          1,
          32,
          4u * static_cast<unsigned>(2 * a.num_experts + 2 * a.n_group)};
}
constexpr Launch launch_of_count(const MoeDispatchArguments&) {
  return {Kernel::moe_count, 1, 1, 1, 256, 0};
}
constexpr Launch launch_of_place(const MoeDispatchArguments& a) {
  return a.copies > 0 ? launch_warps(Kernel::moe_place, a.experts)
                      : Launch{Kernel::moe_place, 0, 1, 1, kThreads, 0};
}
constexpr Launch launch_of(const MoeCombineArguments& a) {
  return launch_warps(Kernel::moe_combine, std::int64_t{a.num_tokens} * ceil_div(a.cols, kBlock));
}

// What smxx can do, for reserve() to refuse the rest. FP8 records hold f32 scales and pairs of
// BF16.
constexpr bool smxx_takes(const CacheLayout& layout, int num_experts) {
  const bool fits = layout.format != CacheLayout::Format::fp8 || layout.latent % 4 == 0;
  return fits && layout.rope % 2 == 0 && layout.index_dim <= kBlock && num_experts <= kMaxExperts &&
         sparse_mla_shared(layout, sparse_mla_columns(layout)) <= kMaxShared;
}

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_LAUNCH_H_
