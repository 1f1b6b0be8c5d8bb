// Topic gemm: linear and grouped_linear are one function of a weight and some rows, on tensor cores
// where both are exact in bf16.
#include <type_traits>

#include "kernels/cuda/smxx/mma_slim.cuh"
#include "kernels/cuda/smxx/mma_tile.cuh"

namespace dsv32::kernels::cuda {
namespace {

// Rows [first, first + rows) of x and out, and the first output of a tile.
struct TilePlace {
  std::int64_t first;
  int rows, first_out;
};

struct OutRows {
  std::byte* data;
  std::int64_t stride;
  ValueType type;
};

// One tile of x times w.
template <class G>
struct LinearTile {
  const Matrix& w;
  const RowsIn& x;
  const TilePlace& at;
  int cols, outs;
  bool fp8;  // reads the FP8 form

  __device__ __forceinline__ LinearTile(const Matrix& weight, const RowsIn& in,
                                        const TilePlace& place, int columns, int outputs)
      : w(weight),
        x(in),
        at(place),
        cols(columns),
        outs(outputs - place.first_out),
        fp8(weight.type == ValueType::e4m3 && in.fp8.codes != nullptr) {}

  __device__ __forceinline__ Values rows_in() const {
    if (!fp8) return {x.dense, at.first, x.stride, x.type};
    return {reinterpret_cast<const std::byte*>(x.fp8.codes), at.first, cols, ValueType::e4m3};
  }

  __device__ __forceinline__ int block_cols() const {
    return w.type == ValueType::int4 ? w.scale_cols : kBlock;
  }

  // Ends the block of columns that `col` is in.
  template <class Sums>
  __device__ __forceinline__ void end_block(Sums& sums, int col) const {
    if (!has_scale(w.type)) {
      G::end_block(sums);
      return;
    }
    const int blocks = (cols + kBlock - 1) / kBlock;
    const float* scale = x.fp8.scale + at.first * blocks + col / kBlock;
    G::end_block(
        sums, [&](int row) { return fp8 && row < at.rows ? scale[row * blocks] : 1.0f; },
        [&](int out) { return out < outs ? block_scale(w, at.first_out + out, col) : 0.0f; });
  }

  __device__ __forceinline__ void run_slim(const OutRows& out) const {
    extern __shared__ __align__(16) std::byte memory[];
    auto& s = *reinterpret_cast<MmaSlim::Shared*>(memory);
    const Values in = rows_in(), weights(w.data, at.first_out, w.stride, w.type);
    const int blocks = (cols + kBlock - 1) / kBlock, here = min(MmaSlim::kOuts, outs);
    float all[2] = {};
    int row = 0, first = 0;
    with_pairs(w.type, in.type, [&](auto w_form, auto x_form) {
      using Tile = SlimTile<decltype(w_form), decltype(x_form)>;
      row = Tile::row(), first = Tile::first_out();
      const float* x_scale = x.fp8.scale + (at.first + row) * blocks;
      Tile{s, in, weights, at.rows, here, cols, block_cols()}.run(
          [&](int col, float(&factors)[2]) {
            const float of_x = fp8 && row < at.rows ? x_scale[col / kBlock] : 1.0f;
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const bool there = first + i < here;
              factors[i] = of_x * (there ? block_scale(w, at.first_out + first + i, col) : 0.0f);
            }
          },
          all);
    });
    std::byte* to = out.data + (at.first * out.stride + at.first_out) * type_bytes(out.type);
    with_type(out.type, [&](auto type) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (row < at.rows && first + i < here) {
          decltype(type)::store(to, row * out.stride + first + i, all[i]);
        }
      }
    });
  }

  __device__ __forceinline__ void run(const OutRows& out) const {
    if constexpr (std::is_same_v<G, MmaSlim>) {
      run_slim(out);
    } else {
      run_steps(out);
    }
  }
  __device__ __forceinline__ void run_steps(const OutRows& out) const {
    typename G::Shared& s = G::shared();
    typename G::Sums sums;
    G::clear(sums);
    const Values in = rows_in(), weights(w.data, at.first_out, w.stride, w.type);
    G::begin(s, in, weights, at.rows, outs, 0, cols);
    for (int col = 0; col < cols; col += kStep) {
      G::fill(s, in, weights, at.rows, outs, col, cols, AsItIs{});
      __syncthreads();
      G::template multiply<false>(s, at.rows, min(kStep, cols - col), sums);
      const int end = col + kStep;
      if (end % block_cols() == 0 || end >= cols) end_block(sums, col);
    }
    const std::int64_t place = at.first * out.stride + at.first_out;
    G::store(sums, out.type, out.data + place * type_bytes(out.type), out.stride, at.rows, outs);
  }
};

template <class G>
__device__ __forceinline__ void linear(const LinearArguments& a) {
  const std::int64_t first = std::int64_t{blockIdx.y} * G::kRows;
  const TilePlace at{first, static_cast<int>(min(std::int64_t{G::kRows}, a.num_rows - first)),
                     static_cast<int>(blockIdx.x) * G::kOuts};
  LinearTile<G>(a.w, a.x, at, a.cols, a.outs).run({a.out, a.out_stride, a.type});
}

// Tile number `tile` among those of all experts, one expert behind the other; no rows if there are
// fewer. A warp looks at 32 experts at a time.
struct ExpertTile {
  int expert = 0, first = 0, rows = 0;
};

template <int kRows>
__device__ __forceinline__ ExpertTile find_tile(const std::int32_t* offsets, int experts,
                                                int tile) {
  int before = 0;  // tiles of the experts already passed
  for (int group = 0; group < experts; group += 32) {
    const int e = group + lane_id();
    const int begin = e < experts ? offsets[e] : 0, end = e < experts ? offsets[e + 1] : 0;
    const int tiles = (end - begin + kRows - 1) / kRows;
    int upto = tiles;  // of this lane and those below
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upto, distance);
      if (lane_id() >= distance) upto += other;
    }
    const unsigned past = __ballot_sync(kAllLanes, tile < before + upto);
    if (past != 0) {
      const int lane = __ffs(static_cast<int>(past)) - 1;
      const int inside =
          tile - before - __shfl_sync(kAllLanes, upto, lane) + __shfl_sync(kAllLanes, tiles, lane);
      const int first = __shfl_sync(kAllLanes, begin, lane) + inside * kRows;
      const int last = __shfl_sync(kAllLanes, end, lane);
      return {group + lane, first, min(kRows, last - first)};
    }
    before += __shfl_sync(kAllLanes, upto, 31);
  }
  return {};
}

template <class G>
__device__ __forceinline__ void grouped_linear(const GroupedLinearArguments& a) {
  const ExpertTile tile = find_tile<G::kRows>(a.offsets, a.experts, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  const Matrix w = a.w[tile.expert];
  if (a.split && is_exact_in_bf16(w.type) != a.mma) return;
  const TilePlace at{tile.first, tile.rows, static_cast<int>(blockIdx.x) * G::kOuts};
  LinearTile<G>(w, a.x, at, a.cols, a.outs).run({a.out, a.out_stride, a.type});
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 8) dsv32_linear_4(LinearArguments a) {
  linear<Gemm4>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) dsv32_linear_16(LinearArguments a) {
  linear<Gemm16>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) dsv32_linear_32(LinearArguments a) {
  linear<Gemm32>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, 8)
    dsv32_grouped_linear_4(GroupedLinearArguments a) {
  grouped_linear<Gemm4>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_grouped_linear_16(GroupedLinearArguments a) {
  grouped_linear<Gemm16>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_grouped_linear_32(GroupedLinearArguments a) {
  grouped_linear<Gemm32>(a);
}

extern "C" __global__ void __launch_bounds__(kThreads, 2) dsv32_linear_mma_16(LinearArguments a) {
  linear<MmaSlim>(a);
}
extern "C" __global__ void __launch_bounds__(kThreads, 2)
    dsv32_grouped_linear_mma_16(GroupedLinearArguments a) {
  grouped_linear<MmaSlim>(a);
}

#define DSV32_MMA_LINEAR(rows)                                    \
  extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) \
      dsv32_linear_mma_##rows(LinearArguments a) {                \
    linear<Mma##rows>(a);                                         \
  }                                                               \
  extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) \
      dsv32_grouped_linear_mma_##rows(GroupedLinearArguments a) { \
    grouped_linear<Mma##rows>(a);                                 \
  }
DSV32_MMA_LINEAR(32)
DSV32_MMA_LINEAR(64)
#undef DSV32_MMA_LINEAR

}  // namespace dsv32::kernels::cuda
