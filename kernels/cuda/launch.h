// How each kernel of smxx is launched: pure functions of its arguments. A grid never depends on
// what lies in device memory, so a recorded launch stays right.
#ifndef DSV32_KERNELS_CUDA_LAUNCH_H_
#define DSV32_KERNELS_CUDA_LAUNCH_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/arguments.h"

namespace dsv32::kernels::cuda {

// X(kernel, file): smxx/FILE.cu defines extern "C" dsv32_KERNEL.
#define DSV32_SMXX_KERNELS(X)      \
  X(embed, dense)                  \
  X(add_rms_norm, dense)           \
  X(silu_mul, dense)               \
  X(quantise, dense)               \
  X(copy_rows, dense)              \
  X(copy_bytes, dense)             \
  X(linear_4, linear)              \
  X(linear_16, linear)             \
  X(linear_32, linear)             \
  X(grouped_linear_4, linear)      \
  X(grouped_linear_16, linear)     \
  X(grouped_linear_32, linear)     \
  X(linear_mma_16, linear)         \
  X(linear_mma_32, linear)         \
  X(linear_mma_64, linear)         \
  X(grouped_linear_mma_16, linear) \
  X(grouped_linear_mma_32, linear) \
  X(grouped_linear_mma_64, linear) \
  X(mla_store, mla)                \
  X(mla_absorb_4, mla)             \
  X(mla_absorb_32, mla)            \
  X(mla_expand_4, mla)             \
  X(mla_expand_32, mla)            \
  X(sparse_mla, sparse_mla)        \
  X(index_store, indexer)          \
  X(index_query, indexer)          \
  X(index_scores, indexer)         \
  X(top_k, top_k)                  \
  X(moe_gate, moe)                 \
  X(moe_count, moe)                \
  X(moe_place, moe)                \
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

// Above 48 KB of shared memory a function has to be told (MAX_DYNAMIC_SHARED_SIZE_BYTES); so much
// is there on every GPU from sm_80 on.
inline constexpr unsigned kMaxShared = 96 * 1024;
inline constexpr unsigned kThreads = 128;  // of most kernels
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

// The tile for so many rows, as one of four.
constexpr int tile_for(int rows) { return rows <= 4 ? 0 : rows <= 16 ? 1 : rows <= 32 ? 2 : 3; }
inline constexpr GemmTile kTiles[] = {kTile4, kTile16, kTile32, kTile64};

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
inline constexpr int kF32Tile[] = {0, 1, 2, 2}, kMmaTile[] = {1, 1, 2, 3};  // of kTiles

constexpr Launch launch_of(const LinearArguments& a) {
  constexpr GemmKernels kKernels{
      {Kernel::linear_4, Kernel::linear_16, Kernel::linear_32, Kernel::linear_32},
      {Kernel::linear_mma_16, Kernel::linear_mma_16, Kernel::linear_mma_32, Kernel::linear_mma_64}};
  const bool mma = is_exact_in_bf16(a.w.type) && a.x.type == ValueType::bf16;
  const int i = tile_for(a.num_rows), tile = mma ? kMmaTile[i] : kF32Tile[i];
  return {kKernels.at(mma, i),
          ceil_div(a.outs, kTiles[tile].outs),
          ceil_div(a.num_rows, kTiles[tile].rows),
          1,
          kThreads,
          0};
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
  const int tile = mma ? kMmaTile[i] : kF32Tile[i];
  return {kKernels.at(mma, i),
          ceil_div(a.outs, kTiles[tile].outs),
          grouped_tiles(a.num_rows, a.experts, kTiles[tile].rows),
          1,
          kThreads,
          0};
}

// ---- mla
constexpr Launch launch_of(const MlaStoreArguments& a) {
  return launch_warps(Kernel::mla_store, a.num_tokens);
}
constexpr Launch launch_heads(Kernel small, Kernel large, int tokens, int heads, int outs,
                              unsigned more) {
  const GemmTile tile = tokens <= 4 ? kTile4 : kTile32;
  return {tokens <= 4 ? small : large,
          ceil_div(outs, tile.outs) + more,
          ceil_div(tokens, tile.rows),
          static_cast<unsigned>(heads),
          kThreads,
          0};
}
constexpr Launch launch_of(const MlaAbsorbArguments& a) {  // the last block in x rotates
  return launch_heads(Kernel::mla_absorb_4, Kernel::mla_absorb_32, a.num_tokens, a.num_heads,
                      a.latent, 1);
}
constexpr Launch launch_of(const MlaExpandArguments& a) {
  return launch_heads(Kernel::mla_expand_4, Kernel::mla_expand_32, a.num_tokens, a.num_heads, a.v,
                      0);
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
constexpr Launch launch_of(const SparseMlaArguments& a) {
  return {Kernel::sparse_mla,
          static_cast<unsigned>(a.num_tokens),
          ceil_div(a.num_heads, kMlaHeads),
          1,
          kThreads,
          sparse_mla_shared(a.layout, sparse_mla_columns(a.layout))};
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
  const unsigned tiles = ceil_div(a.score_stride, kKeyTile);
  const unsigned wanted = a.num_tokens > 0 ? ceil_div(kScoreBlocks, a.num_tokens) : 0;
  return {Kernel::index_scores,
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
