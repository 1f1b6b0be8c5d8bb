// A tile of at most 16 rows and 16 outputs on tensor cores: what a decode step multiplies, as quick
// as its weights arrive. Warps take blocks of columns in turns, each with the next ones' bytes on
// the way; they share nothing but the sums of blocks, which are added in ascending order. So an
// output is the chain that MmaGemm has, to the bit.
#ifndef DSV32_KERNELS_CUDA_SMXX_MMA_SLIM_CUH_
#define DSV32_KERNELS_CUDA_SMXX_MMA_SLIM_CUH_

#include "kernels/cuda/smxx/gemm_tile.cuh"

namespace dsv32::kernels::cuda {

// ---- values k and k + 1 of a row in shared memory as a pair of bf16; k is even
struct E4m3Pair {
  static constexpr int kBits = 8;
  static __device__ __forceinline__ std::uint32_t at(const std::byte* row, int k) {
    const std::uint32_t codes = *reinterpret_cast<const std::uint16_t*>(row + k);
    const std::uint32_t pair = bf16_from_e4m3_tops(__byte_perm(codes, 0, 0x1404));
    return holds_nan_e4m3(codes) ? spoil_nans(pair) : pair;
  }
};
struct Bf16Pair {
  static constexpr int kBits = 16;
  static __device__ __forceinline__ std::uint32_t at(const std::byte* row, int k) {
    return *reinterpret_cast<const std::uint32_t*>(row + 2 * k);
  }
};
struct Int8Pair {
  static constexpr int kBits = 8;
  static __device__ __forceinline__ std::uint32_t at(const std::byte* row, int k) {
    const int codes = *reinterpret_cast<const std::int16_t*>(row + k);
    return pack_bf16(static_cast<float>(static_cast<std::int8_t>(codes)),
                     static_cast<float>(codes >> 8));
  }
};
struct Int4Pair {
  static constexpr int kBits = 4;
  static __device__ __forceinline__ std::uint32_t at(const std::byte* row, int k) {
    const int codes = *reinterpret_cast<const std::uint8_t*>(row + (k >> 1));
    return pack_bf16(static_cast<float>((codes & 15) - 8), static_cast<float>((codes >> 4) - 8));
  }
};

// Calls `with` with the forms of w and x, which is bf16 unless both are e4m3.
template <class With>
__device__ __forceinline__ void with_pairs(ValueType w, ValueType x, With with) {
  if (w == ValueType::e4m3 && x == ValueType::e4m3) {
    with(E4m3Pair{}, E4m3Pair{});
  } else if (w == ValueType::e4m3) {
    with(E4m3Pair{}, Bf16Pair{});
  } else if (w == ValueType::bf16) {
    with(Bf16Pair{}, Bf16Pair{});
  } else if (w == ValueType::int8) {
    with(Int8Pair{}, Bf16Pair{});
  } else {
    with(Int4Pair{}, Bf16Pair{});
  }
}

struct MmaSlim {
  static constexpr int kRows = 16, kOuts = 16;
  static constexpr int kSumsRow = kOuts + 8;  // rows of sums in different banks
  static constexpr int kParts = static_cast<int>(kWarps);

  // Dynamic shared memory: kSlimShared bytes.
  struct Shared {
    std::byte stages[kParts][kSlimStages];  // of a warp
    float sums[2][kParts][kRows * kSumsRow];
  };
  static_assert(sizeof(Shared) == kSlimShared);
};

template <class W, class X>
struct SlimTile {
  static constexpr int kParts = MmaSlim::kParts;
  // A stage has rows of weights, then of x, 16 bytes apart more than they need: equal columns of
  // eight rows are in different banks.
  static constexpr int kWStride = kBlock * W::kBits / 8 + 16, kXStride = kBlock * X::kBits / 8 + 16;
  static constexpr int kStage = MmaSlim::kOuts * kWStride + MmaSlim::kRows * kXStride;
  static constexpr int kDepth = kSlimStages / kStage < 4 ? kSlimStages / kStage : 4;
  static_assert(kDepth >= 2);

  MmaSlim::Shared& s;
  const Values& x;
  const Values& w;
  int rows, outs, cols, block_cols;

  __device__ __forceinline__ std::byte* stage(int turn) const {
    return s.stages[warp_id()] + turn % kDepth * kStage;
  }
  // As MmaGemm::copy, by one warp: a block of columns from `col` on of `n` rows.
  template <class V, int kStride>
  __device__ __forceinline__ void copy(std::byte* to, const Values& v, int n, int col) const {
    const int pieces = block_cols * V::kBits >> 7;  // of 16 bytes, a row: a power of two
    const int shift = 31 - __clz(pieces);
    const int there = (min(block_cols, cols - col) * V::kBits + 7) >> 3;
    const std::byte* first = v.data + (static_cast<std::int64_t>(col) * V::kBits >> 3);
    const bool sixteen = aligned(v.data, 16) && (v.stride * V::kBits & 127) == 0;
#pragma unroll 1
    for (int i = lane_id(); i < n << shift; i += 32) {
      const int row = i >> shift, at = (i & (pieces - 1)) << 4;
      const std::byte* from = first + (row * v.stride * V::kBits >> 3) + at;
      std::byte* piece = to + row * kStride + at;
      const int bytes = max(0, min(16, there - at));
      if (sixteen) {
        copy_async(piece, bytes > 0 ? from : v.data, bytes);
      } else {
#pragma unroll 1
        for (int j = 0; j < 16; ++j) piece[j] = j < bytes ? from[j] : std::byte{0};
      }
    }
  }
  // This warp's block of a turn.
  __device__ __forceinline__ void begin(int turn) const {
    const int col = (turn * kParts + warp_id()) * block_cols;
    if (col < cols) {
      copy<W, kWStride>(stage(turn), w, outs, col);
      copy<X, kXStride>(stage(turn) + MmaSlim::kOuts * kWStride, x, rows, col);
    }
    commit_copies();
  }

  // The sums of this warp's block: outputs [0, 8) and [8, 16) as multiply_tiles has them.
  __device__ __forceinline__ void multiply(int turn, float (&sums)[2][4]) const {
    const int g = lane_id() / 4, t = lane_id() % 4 * 2;
    const std::byte* of_w = stage(turn) + g * kWStride;
    const std::byte* of_x = stage(turn) + MmaSlim::kOuts * kWStride + g * kXStride;
    const auto left = [&](int row, int k) {
      return g + row < rows ? X::at(of_x + row * kXStride, k) : 0u;
    };
    const auto right = [&](int out, int k) {
      return g + out < outs ? W::at(of_w + out * kWStride, k) : 0u;
    };
#pragma unroll 2
    for (int k = t; k < block_cols; k += 16) {
      const std::uint32_t a[4] = {left(0, k), left(8, k), left(0, k + 8), left(8, k + 8)};
      multiply_tiles(a, right(0, k), right(0, k + 8), sums[0]);
      multiply_tiles(a, right(8, k), right(8, k + 8), sums[1]);
    }
  }
  __device__ __forceinline__ void hand_over(int turn, const float (&sums)[2][4]) const {
    float* to = s.sums[turn & 1][warp_id()] + lane_id() / 4 * MmaSlim::kSumsRow + lane_id() % 4 * 2;
#pragma unroll
    for (int o = 0; o < 2; ++o) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_eight(to + 8 * half * MmaSlim::kSumsRow + 8 * o, __float_as_uint(sums[o][2 * half]),
                    __float_as_uint(sums[o][2 * half + 1]));
      }
    }
  }

  // Two neighbouring outputs of a row, which this thread adds up: from first_out() on of row().
  static __device__ __forceinline__ int row() { return lane_id() / 4 + 8 * (warp_id() & 1); }
  static __device__ __forceinline__ int first_out() {
    return lane_id() % 4 * 2 + 8 * (warp_id() >> 1);
  }

  // `scale(col, factors)` has the factors of this thread's outputs in the block of a column.
  template <class Scale>
  __device__ __forceinline__ void run(Scale scale, float (&all)[2]) const {
    const int blocks = (cols + block_cols - 1) / block_cols;
    const int turns = (blocks + kParts - 1) / kParts;
#pragma unroll
    for (int i = 0; i < kDepth - 1; ++i) begin(i);
    for (int turn = 0; turn < turns; ++turn) {
      const int first = turn * kParts;
      float factors[kParts][2], sums[2][4] = {};
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        if (first + i < blocks) scale((first + i) * block_cols, factors[i]);
      }
      begin(turn + kDepth - 1);
      wait_copies<kDepth - 1>();
      __syncwarp();
      if (first + warp_id() < blocks) multiply(turn, sums);
      hand_over(turn, sums);
      __syncthreads();  // and the stage is free for all lanes
      const float* from = s.sums[turn & 1][0] + row() * MmaSlim::kSumsRow + first_out();
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        if (first + i >= blocks) break;
        const uint2 sum = load_eight(from + i * MmaSlim::kRows * MmaSlim::kSumsRow);
        all[0] = fmaf(__uint_as_float(sum.x), factors[i][0], all[0]);
        all[1] = fmaf(__uint_as_float(sum.y), factors[i][1], all[1]);
      }
    }
  }
};

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_MMA_SLIM_CUH_
