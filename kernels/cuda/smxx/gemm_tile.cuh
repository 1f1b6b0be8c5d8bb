// One tile of a product out[m, n] = sum over k of x[m, k] w[n, k], in f32: what linear, absorb and
// expand share. kThreads threads; a warp has TM rows of x, a lane TN outputs of each. kStep columns
// at a time lie decoded in shared memory.
//
// An output is one chain, whatever the tile: blocks of columns ascending, in a block ascending
// columns into a fresh sum, then one multiply-add by the scales of both. Columns that do not exist
// are zeros times zeros; rows that do not are zeros and never stored.
#ifndef DSV32_KERNELS_CUDA_SMXX_GEMM_TILE_CUH_
#define DSV32_KERNELS_CUDA_SMXX_GEMM_TILE_CUH_

#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {

inline constexpr int kStep = 64;  // divides every block of columns that shares a scale

// ---- four neighbouring values of each type, from an address that is aligned to them
struct E4m3Four {
  static constexpr ValueType kType = ValueType::e4m3;
  static constexpr int kBits = 8;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    from_e4m3_four(*reinterpret_cast<const std::uint32_t*>(at), out);
  }
};
struct Bf16Four {
  static constexpr ValueType kType = ValueType::bf16;
  static constexpr int kBits = 16;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    Bf16::load_four(at, out);
  }
};
struct F16Four {
  static constexpr ValueType kType = ValueType::f16;
  static constexpr int kBits = 16;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    const uint2 v = *reinterpret_cast<const uint2*>(at);
    out[0] = from_f16(static_cast<std::uint16_t>(v.x));
    out[1] = from_f16(static_cast<std::uint16_t>(v.x >> 16));
    out[2] = from_f16(static_cast<std::uint16_t>(v.y));
    out[3] = from_f16(static_cast<std::uint16_t>(v.y >> 16));
  }
};
struct F32Four {
  static constexpr ValueType kType = ValueType::f32;
  static constexpr int kBits = 32;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    F32::load_four(at, out);
  }
};
struct Int8Four {
  static constexpr ValueType kType = ValueType::int8;
  static constexpr int kBits = 8;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    const std::uint32_t four = *reinterpret_cast<const std::uint32_t*>(at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[j] = static_cast<float>(static_cast<int>(four << (24 - 8 * j)) >> 24);
    }
  }
};
struct Int4Four {
  static constexpr ValueType kType = ValueType::int4;
  static constexpr int kBits = 4;
  static __device__ __forceinline__ void decode(const std::byte* at, float (&out)[4]) {
    const int four = *reinterpret_cast<const std::uint16_t*>(at);
#pragma unroll
    for (int j = 0; j < 4; ++j) out[j] = static_cast<float>((four >> (4 * j) & 15) - 8);
  }
};

// Calls `with` with the decoder of a type; of activations there are but three.
template <bool kWeights, class With>
__device__ __forceinline__ void with_decoder(ValueType type, With with) {
  if (type == ValueType::e4m3) {
    with(E4m3Four{});
  } else if (type == ValueType::bf16) {
    with(Bf16Four{});
  } else if (!kWeights || type == ValueType::f32) {
    with(F32Four{});
  } else if (type == ValueType::int8) {
    with(Int8Four{});
  } else if (type == ValueType::int4) {
    with(Int4Four{});
  } else {
    with(F16Four{});
  }
}

__device__ __forceinline__ int bits_of(ValueType type) {
  return type == ValueType::f32                              ? 32
         : type == ValueType::bf16 || type == ValueType::f16 ? 16
         : type == ValueType::int4                           ? 4
                                                             : 8;
}

// A matrix of values without scales, from some row on.
struct Values {
  const std::byte* data;
  std::int64_t stride;
  ValueType type;

  __device__ __forceinline__ Values(const std::byte* from, std::int64_t row,
                                    std::int64_t elements_a_row, ValueType of)
      : data(from + ((row * elements_a_row * bits_of(of)) >> 3)),
        stride(elements_a_row),
        type(of) {}

  __device__ __forceinline__ Values from_row(std::int64_t row) const {
    return {data, row, stride, type};
  }

  // Whether four values from a column that is a multiple of four on are aligned in every row.
  __device__ __forceinline__ bool fast() const {
    return aligned(data, static_cast<unsigned>(bits_of(type)) / 2) && (stride & 3) == 0;
  }
};

// Goes through a tile of `kRows` rows of four columns a thread: calls put(row, four) for each, with
// zeros for rows that are not there and columns behind the last; finish(row, col, four) comes
// before it where there is a row. A thread keeps its columns, so that it only steps from row to
// row.
template <int kRows, int kColumns, bool kWeights, class Finish, class Put>
__device__ __forceinline__ void for_fours(const Values& v, int rows, int col, int cols,
                                          Finish finish, Put put) {
  constexpr int kFours = kColumns / 4, kPass = static_cast<int>(kThreads) / kFours;
  const int first = static_cast<int>(threadIdx.x) / kFours;
  const int k = col + static_cast<int>(threadIdx.x) % kFours * 4;
  if (v.fast() && col + kColumns <= cols) {  // of all threads, so that none parts from the others
    with_decoder<kWeights>(v.type, [&](auto decoder) {
      using D = decltype(decoder);
      const std::byte* at = v.data + ((first * v.stride + k) * D::kBits >> 3);
      const std::int64_t step = kPass * v.stride * D::kBits >> 3;
#pragma unroll 2
      for (int row = first; row < kRows; row += kPass, at += step) {
        float four[4] = {};
        if (row < rows) {
          D::decode(at, four);
          finish(row, k, four);
        }
        put(row, four);
      }
    });
    return;
  }
#pragma unroll 1
  for (int row = first; row < kRows; row += kPass) {
    float four[4] = {};
    if (row < rows && k < cols) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (k + j < cols) four[j] = load_value(v.data, v.type, row * v.stride + k + j);
      }
      finish(row, k, four);
    }
    put(row, four);
  }
}

// A `finish` that leaves values as they are.
struct AsItIs {
  __device__ __forceinline__ void operator()(int, int, const float (&)[4]) const {}
};
template <class Finish>
inline constexpr bool kAsItIs = false;
template <>
inline constexpr bool kAsItIs<AsItIs> = true;

template <int TM, int TN>
struct Gemm {
  static constexpr int kRows = static_cast<int>(kWarps) * TM, kOuts = 32 * TN;

  struct Shared {
    float x[kRows][kStep + 4];
    float w[kStep][kOuts + 1];  // odd: a column's lanes are in different banks
  };
  struct Sums {
    float all[TM][TN], block[TM][TN];
  };

  static __device__ __forceinline__ Shared& shared() {
    __shared__ Shared s;
    return s;
  }
  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < TM; ++i) {
#pragma unroll
      for (int j = 0; j < TN; ++j) sums.all[i][j] = sums.block[i][j] = 0.0f;
    }
  }

  // Columns [col, col + kStep) of rows [0, rows) of x.
  static __device__ __forceinline__ void fill_x(Shared& s, const Values& x, int rows, int col,
                                                int cols) {
    const int k = static_cast<int>(threadIdx.x) % (kStep / 4) * 4;
    for_fours<kRows, kStep, false>(
        x, rows, col, cols, [](int, int, const float(&)[4]) {},
        [&](int row, const float(&v)[4]) {
          *reinterpret_cast<float4*>(&s.x[row][k]) = make_float4(v[0], v[1], v[2], v[3]);
        });
  }

  // Columns [col, col + kStep) of weight rows [0, outs) of w; `finish(out, col, four)` makes them
  // what is multiplied.
  template <class Finish>
  static __device__ __forceinline__ void fill_w(Shared& s, const Values& w, int outs, int col,
                                                int cols, Finish finish) {
    const int k = static_cast<int>(threadIdx.x) % (kStep / 4) * 4;
    for_fours<kOuts, kStep, true>(w, outs, col, cols, finish, [&](int out, const float(&v)[4]) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s.w[k + j][out] = v[j];
    });
  }

  // Both, behind what all threads have done; begin() comes before the first.
  static __device__ __forceinline__ void begin(Shared&, const Values&, const Values&, int, int, int,
                                               int) {}
  template <class Finish>
  static __device__ __forceinline__ void fill(Shared& s, const Values& x, const Values& w, int rows,
                                              int outs, int col, int cols, Finish finish) {
    __syncthreads();
    fill_x(s, x, rows, col, cols);
    fill_w(s, w, outs, col, cols, finish);
  }

  // The same where columns of x go with rows of w, and outputs with its columns: those from `out`
  // on, of `outs` in all. `finish(row, out, four)`.
  static __device__ __forceinline__ void begin_by_columns(Shared&, const Values&, const Values&,
                                                          int, int, int, int, int) {}
  template <class Finish>
  static __device__ __forceinline__ void fill_by_columns(Shared& s, const Values& x,
                                                         const Values& w, int rows, int out,
                                                         int outs, int col, int cols,
                                                         Finish finish) {
    __syncthreads();
    fill_x(s, x, rows, col, cols);
    const int n = static_cast<int>(threadIdx.x) % (kOuts / 4) * 4;
    for_fours<kStep, kOuts, true>(
        w.from_row(col), min(kStep, cols - col), out, outs,
        [&](int row, int c, float(&v)[4]) { finish(col + row, c, v); },
        [&](int row, const float(&v)[4]) {
#pragma unroll
          for (int j = 0; j < 4; ++j) s.w[row][n + j] = v[j];
        });
  }

  // Adds kStep columns, of which `n` count, of this warp's rows, of which there are `rows` in all.
  template <bool kByColumns>
  static __device__ __forceinline__ void multiply(const Shared& s, int rows, int n, Sums& sums) {
    const int first = warp_id() * TM, lane = lane_id();
    if (first >= rows) return;
#pragma unroll 4
    for (int k = 0; k < n; k += 4) {
      float4 x[TM];
#pragma unroll
      for (int i = 0; i < TM; ++i) x[i] = *reinterpret_cast<const float4*>(&s.x[first + i][k]);
#pragma unroll
      for (int kk = 0; kk < 4; ++kk) {
#pragma unroll
        for (int j = 0; j < TN; ++j) {
          const float w = s.w[k + kk][lane + 32 * j];
#pragma unroll
          for (int i = 0; i < TM; ++i) {
            const float v = kk == 0 ? x[i].x : kk == 1 ? x[i].y : kk == 2 ? x[i].z : x[i].w;
            sums.block[i][j] = fmaf(v, w, sums.block[i][j]);
          }
        }
      }
    }
  }

  // Ends a block of columns: x_scale(row) and w_scale(out) are those of all of it.
  template <class XScale, class WScale>
  static __device__ __forceinline__ void end_block(Sums& sums, XScale x_scale, WScale w_scale) {
    float of_w[TN];
#pragma unroll
    for (int j = 0; j < TN; ++j) of_w[j] = w_scale(lane_id() + 32 * j);
#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const float of_x = x_scale(warp_id() * TM + i);
#pragma unroll
      for (int j = 0; j < TN; ++j) {
        sums.all[i][j] = fmaf(sums.block[i][j], of_x * of_w[j], sums.all[i][j]);
        sums.block[i][j] = 0.0f;
      }
    }
  }
  static __device__ __forceinline__ void end_block(Sums& sums) {
    const auto one = [](int) { return 1.0f; };
    end_block(sums, one, one);
  }

  // Rows [0, rows) and outputs [0, outs) of the tile, as values of `type`; out points to its first.
  static __device__ __forceinline__ void store(const Sums& sums, ValueType type, std::byte* out,
                                               std::int64_t stride, int rows, int outs) {
    with_type(type, [&](auto to) {
#pragma unroll
      for (int i = 0; i < TM; ++i) {
        const int row = warp_id() * TM + i;
#pragma unroll
        for (int j = 0; j < TN; ++j) {
          const int n = lane_id() + 32 * j;
          if (row < rows && n < outs) decltype(to)::store(out, row * stride + n, sums.all[i][j]);
        }
      }
    });
  }
};

using Gemm4 = Gemm<1, 1>;
using Gemm16 = Gemm<4, 2>;
using Gemm32 = Gemm<8, 2>;
static_assert(Gemm4::kRows == kTile4.rows && Gemm4::kOuts == kTile4.outs);
static_assert(Gemm16::kRows == kTile16.rows && Gemm16::kOuts == kTile16.outs);
static_assert(Gemm32::kRows == kTile32.rows && Gemm32::kOuts == kTile32.outs);

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_GEMM_TILE_CUH_
