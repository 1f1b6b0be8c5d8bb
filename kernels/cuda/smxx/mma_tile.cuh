// One tile of a product on tensor cores: as gemm_tile.cuh's Gemm, where both operands are exact in
// bf16. kThreads threads; a warp has 16 outputs of all rows.
//
// An output is one chain, whatever the tile: blocks of columns ascending, in a block steps of 16
// ascending columns into a fresh sum, then one multiply-add by the scales of both. What a step adds
// up depends on its 16 products and the sum alone, on every unit that was looked at, and not on
// where in a tile the output is.
#ifndef DSV32_KERNELS_CUDA_SMXX_MMA_TILE_CUH_
#define DSV32_KERNELS_CUDA_SMXX_MMA_TILE_CUH_

#include "kernels/cuda/smxx/bf16_tile.cuh"
#include "kernels/cuda/smxx/gemm_tile.cuh"

namespace dsv32::kernels::cuda {

template <int kRowTiles>  // of 16 rows
struct MmaGemm {
  static constexpr int kRows = 16 * kRowTiles, kOuts = 64;
  static constexpr int kStageRow = 2 * kStep;  // bytes, of the widest type
  static_assert(kOuts == kStep);               // as a tile by columns has it

  struct Shared {
    alignas(128) std::uint16_t x[kRows * kStep];
    alignas(128) std::uint16_t w[kOuts * kStep];  // [kOuts][kStep], or by columns [kStep][kOuts]
    alignas(16) std::byte stages[2][(kRows + kOuts) * kStageRow];  // as they lie in memory
  };
  // Of each 16 rows and each 8 of the warp's outputs, as multiply_tiles has them.
  struct Sums {
    float all[kRowTiles][2][4], block[kRowTiles][2][4];
  };

  static __device__ __forceinline__ Shared& shared() {
    __shared__ Shared s;
    return s;
  }

  // Calls `with(tile of rows, tile of outputs, index, row, out)` for each of this lane's sums.
  template <class With>
  static __device__ __forceinline__ void for_sums(With with) {
    const int first_row = lane_id() / 4, first_out = warp_id() * 16 + lane_id() % 4 * 2;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int t = 0; t < 2; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          with(r, t, i, first_row + 16 * r + (i >> 1) * 8, first_out + 8 * t + (i & 1));
      }
    }
  }
  static __device__ __forceinline__ void clear(Sums& sums) {
    for_sums(
        [&](int r, int t, int i, int, int) { sums.all[r][t][i] = sums.block[r][t][i] = 0.0f; });
  }

  // ---- the next columns are on their way while these are multiplied. Weights and rows that are
  // not aligned to 16 bytes, which no model's are here, come byte by byte.
  static __device__ __forceinline__ void copy(std::byte* to, const Values& v, int rows, int col,
                                              int cols) {
    const int bits = bits_of(v.type), row_bytes = kStep * bits >> 3;
    const int pieces = 31 - __clz(row_bytes >> 4);  // of a row: the power of two
    const int there = (min(kStep, cols - col) * bits + 7) >> 3;
    const std::byte* first = v.data + (static_cast<std::int64_t>(col) * bits >> 3);
    const bool sixteen = aligned(v.data, 16) && (v.stride * bits & 127) == 0;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows << pieces;
         i += static_cast<int>(kThreads)) {
      const int row = i >> pieces, at = (i & ((1 << pieces) - 1)) << 4;
      const std::byte* from = first + (row * v.stride * bits >> 3) + at;
      std::byte* piece = to + row * row_bytes + at;
      const int bytes = max(0, min(16, there - at));  // zeros behind the last column
      if (sixteen) {
        copy_async(piece, bytes > 0 ? from : v.data, bytes);
      } else {
#pragma unroll 1
        for (int j = 0; j < 16; ++j) piece[j] = j < bytes ? from[j] : std::byte{0};
      }
    }
  }
  static __device__ __forceinline__ void begin(Shared& s, const Values& x, const Values& w,
                                               int rows, int outs, int col, int cols) {
    std::byte* stage = s.stages[col / kStep & 1];
    if (col < cols) {
      copy(stage, x, min(rows, kRows), col, cols);
      copy(stage + kRows * kStageRow, w, min(outs, kOuts), col, cols);
    }
    commit_copies();
  }
  // `finish` as in Gemm::fill_w, of weights with scales.
  template <class Finish>
  static __device__ __forceinline__ void fill(Shared& s, const Values& x, const Values& w, int rows,
                                              int outs, int col, int cols, Finish finish) {
    begin(s, x, w, rows, outs, col + kStep, cols);
    const Values staged = fill_x(s, x.type, w.type, rows, col, cols);
    if (is_unpacked(w.type) && (kAsItIs<Finish> || !has_scale(w.type))) {
      unpack_rows<kOuts, kStep>(s.w, staged.data, w.type, outs, kStep);
      return;
    }
    const int k = static_cast<int>(threadIdx.x) % (kStep / 4) * 4;
    for_fours<kOuts, kStep, true>(
        staged, outs, 0, min(kStep, cols - col),
        [&](int out, int c, float(&v)[4]) { finish(out, col + c, v); },
        [&](int out, const float(&v)[4]) { put_four<kStep>(s.w, out, k, v); });
  }

  // ---- the same where columns of x go with rows of w, and outputs with its columns: those from
  // `out` on, of `outs` in all. `finish(row, out, four)`.
  static __device__ __forceinline__ void begin_by_columns(Shared& s, const Values& x,
                                                          const Values& w, int rows, int out,
                                                          int outs, int col, int cols) {
    std::byte* stage = s.stages[col / kStep & 1];
    if (col < cols) {
      copy(stage, x, min(rows, kRows), col, cols);
      copy(stage + kRows * kStageRow, w.from_row(col), min(kStep, cols - col), out, outs);
    }
    commit_copies();
  }
  template <class Finish>
  static __device__ __forceinline__ void fill_by_columns(Shared& s, const Values& x,
                                                         const Values& w, int rows, int out,
                                                         int outs, int col, int cols,
                                                         Finish finish) {
    begin_by_columns(s, x, w, rows, out, outs, col + kStep, cols);
    const Values staged = fill_x(s, x.type, w.type, rows, col, cols);
    if (is_unpacked(w.type) && (kAsItIs<Finish> || !has_scale(w.type))) {
      unpack_rows<kStep, kOuts>(s.w, staged.data, w.type, min(kStep, cols - col), kOuts);
      return;
    }
    const int n = static_cast<int>(threadIdx.x) % (kOuts / 4) * 4;
    for_fours<kStep, kOuts, true>(
        staged, min(kStep, cols - col), 0, min(kOuts, outs - out),
        [&](int row, int c, float(&v)[4]) { finish(col + row, out + c, v); },
        [&](int row, const float(&v)[4]) { put_four<kOuts>(s.w, row, n, v); });
  }

  // Decodes the rows that have come; the result is where the weights have.
  static __device__ __forceinline__ Values fill_x(Shared& s, ValueType x, ValueType w, int rows,
                                                  int col, int cols) {
    wait_copies<1>();
    __syncthreads();
    const std::byte* stage = s.stages[col / kStep & 1];
    unpack_rows<kRows, kStep>(s.x, stage, x, rows, kStep);
    return {stage + kRows * kStageRow, 0, kStep, w};
  }

  // Adds the columns, of which `n` count, of the rows, of which there are `rows`.
  template <bool kByColumns>
  static __device__ __forceinline__ void multiply(const Shared& s, int rows, int n, Sums& sums) {
    using Rows = Lanes<kStep>;
    using Outs = Lanes<kOuts>;
    const Rows of_x = Rows::left(s.x, 0);
    const Outs of_w =
        kByColumns ? Outs::columns(s.w, warp_id() * 16) : Outs::outs(s.w, warp_id() * 16);
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      if (k >= n) break;
      std::uint32_t w[4];
      if constexpr (kByColumns) {
        of_w.load_transposed(k, 0, w);
      } else {
        of_w.load(k, w);
      }
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        if (16 * r >= rows) break;
        std::uint32_t x[4];
        of_x.load_rows(16 * r, k, x);
        multiply_tiles(x, w[0], w[1], sums.block[r][0]);
        multiply_tiles(x, w[2], w[3], sums.block[r][1]);
      }
    }
  }

  template <class XScale, class WScale>
  static __device__ __forceinline__ void end_block(Sums& sums, XScale x_scale, WScale w_scale) {
    const int first_row = lane_id() / 4, first_out = warp_id() * 16 + lane_id() % 4 * 2;
    float of_w[2][2];
#pragma unroll
    for (int t = 0; t < 2; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) of_w[t][i] = w_scale(first_out + 8 * t + i);
    }
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float of_x = x_scale(first_row + 16 * r + 8 * half);
#pragma unroll
        for (int t = 0; t < 2; ++t) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& sum = sums.block[r][t][2 * half + i];
            float& all = sums.all[r][t][2 * half + i];
            all = fmaf(sum, of_x * of_w[t][i], all);
            sum = 0.0f;
          }
        }
      }
    }
  }
  static __device__ __forceinline__ void end_block(Sums& sums) {
    const auto one = [](int) { return 1.0f; };
    end_block(sums, one, one);
  }

  static __device__ __forceinline__ void store(const Sums& sums, ValueType type, std::byte* out,
                                               std::int64_t stride, int rows, int outs) {
    with_type(type, [&](auto to) {
      for_sums([&](int r, int t, int i, int row, int n) {
        if (row < rows && n < outs) decltype(to)::store(out, row * stride + n, sums.all[r][t][i]);
      });
    });
  }
};

using Mma16 = MmaGemm<1>;
using Mma32 = MmaGemm<2>;
using Mma64 = MmaGemm<4>;
static_assert(Mma16::kRows == kTile16.rows && Mma16::kOuts == kTile16.outs);
static_assert(Mma32::kRows == kTile32.rows && Mma32::kOuts == kTile32.outs);
static_assert(Mma64::kRows == kTile64.rows && Mma64::kOuts == kTile64.outs);

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_MMA_TILE_CUH_
