// One tile of a product on tensor cores: as gemm_tile.cuh's Gemm, where both operands are exact in
// bf16. kThreads threads; a warp has 16 outputs of all rows.
//
// An output is one chain, whatever the tile: blocks of columns ascending, in a block steps of 16
// ascending columns into a fresh sum, then one multiply-add by the scales of both. What a step adds
// up depends on its 16 products and the sum alone, on every unit that was looked at, and not on
// where in a tile the output is.
#ifndef DSV32_KERNELS_CUDA_SMXX_MMA_TILE_CUH_
#define DSV32_KERNELS_CUDA_SMXX_MMA_TILE_CUH_

#include "kernels/cuda/smxx/gemm_tile.cuh"

namespace dsv32::kernels::cuda {

template <int kRowTiles>  // of 16 rows
struct MmaGemm {
  static constexpr int kRows = 16 * kRowTiles, kOuts = 64;
  static constexpr int kStageRow = 2 * kStep;  // bytes, of the widest type

  // Rows of kStep values, whose eights are swapped by the row: eight rows' equal columns are in
  // different banks.
  struct Shared {
    alignas(16) std::uint16_t x[kRows * kStep];
    alignas(16) std::uint16_t w[kOuts * kStep];
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
  static __device__ __forceinline__ int place(int row, int k) {
    return row * kStep + ((k >> 3 ^ (row & 7)) << 3) + (k & 7);
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

  static __device__ __forceinline__ void put(std::uint16_t* tile, int row, int k,
                                             const float (&v)[4]) {
    *reinterpret_cast<uint2*>(tile + place(row, k)) =
        make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
  }
  // ---- the next columns are on their way while these are multiplied. Weights and rows that are
  // not aligned to 16 bytes, which no model's are here, come byte by byte.
  static __device__ __forceinline__ void copy(std::byte* to, const Values& v, int rows, int col,
                                              int cols) {
    const int bits = bits_of(v.type), row_bytes = kStep * bits >> 3, pieces = row_bytes >> 4;
    const int there = (min(kStep, cols - col) * bits + 7) >> 3;
    const std::byte* first = v.data + (static_cast<std::int64_t>(col) * bits >> 3);
    const bool sixteen = aligned(v.data, 16) && (v.stride * bits & 127) == 0;
    for (int i = static_cast<int>(threadIdx.x); i < rows * pieces;
         i += static_cast<int>(kThreads)) {
      const int row = i / pieces, at = i % pieces << 4;
      const std::byte* from = first + (row * v.stride * bits >> 3) + at;
      std::byte* piece = to + row * row_bytes + at;
      const int bytes = min(16, there - at);
      if (sixteen && bytes > 0) {
        copy_async(piece, from, bytes);
      } else {
        for (int j = 0; j < bytes; ++j) piece[j] = from[j];
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
  static __device__ __forceinline__ void fill(Shared& s, const Values& x, const Values& w, int rows,
                                              int outs, int col, int cols) {
    begin(s, x, w, rows, outs, col + kStep, cols);
    wait_copies<1>();
    __syncthreads();
    const std::byte* stage = s.stages[col / kStep & 1];
    const int k = static_cast<int>(threadIdx.x) % (kStep / 4) * 4, left = min(kStep, cols - col);
    const auto as_it_is = [](int, int, const float(&)[4]) {};
    for_fours<kRows, kStep, false>(Values(stage, 0, kStep, x.type), rows, 0, left, as_it_is,
                                   [&](int row, const float(&v)[4]) { put(s.x, row, k, v); });
    for_fours<kOuts, kStep, true>(Values(stage + kRows * kStageRow, 0, kStep, w.type), outs, 0,
                                  left, as_it_is,
                                  [&](int out, const float(&v)[4]) { put(s.w, out, k, v); });
  }

  // Adds the columns, of which `n` count, of the rows, of which there are `rows`.
  static __device__ __forceinline__ void multiply(const Shared& s, int rows, int n, Sums& sums) {
    const int lane = lane_id();
    const int x_row = lane & 15, x_k = lane >> 4 << 3;
    const int w_row = warp_id() * 16 + (lane >> 4 << 3) + (lane & 7), w_k = (lane >> 3 & 1) << 3;
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      if (k >= n) break;
      std::uint32_t w[4];
      load_tiles(s.w + place(w_row, k + w_k), w);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        if (16 * r >= rows) break;
        std::uint32_t x[4];
        load_tiles(s.x + place(16 * r + x_row, k + x_k), x);
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
