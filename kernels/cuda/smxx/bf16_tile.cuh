// Tiles of bf16 in shared memory, [rows][kCols]: in each 64 columns of a row its eights, 16 bytes
// each, change places by the row, so that equal columns of eight rows are in different banks, for
// ldmatrix as for stores of whole eights.
//
// What a warp loads of one is in the lanes that multiply_tiles wants: a left operand is 16 rows by
// 16 columns, else two right operands, {low, high, low, high} columns or rows of the sum.
#ifndef DSV32_KERNELS_CUDA_SMXX_BF16_TILE_CUH_
#define DSV32_KERNELS_CUDA_SMXX_BF16_TILE_CUH_

#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {

template <int kCols>
__device__ __forceinline__ int place(int row, int k) {
  static_assert(kCols % 64 == 0);
  return row * kCols + (k & ~63) + (((k >> 3 ^ row) & 7) << 3) + (k & 7);
}

// What a warp loads of a tile that is aligned to 128 bytes: each lane's place in it. Steps along a
// row are one exclusive or, for the eights change places within 64 columns; steps over multiples of
// eight rows a sum.
template <int kCols>
class Lanes {
 public:
  // Rows [row, row + 16) by columns [k, k + 16) as a left operand.
  static __device__ __forceinline__ Lanes left(const std::uint16_t* tile, int row) {
    return {tile, row + (lane_id() & 15), lane_id() >> 4 << 3};
  }
  // Rows are outputs, columns are summed over: outputs [row, row + 8), then [row + 8, row + 16), of
  // columns [k, k + 16).
  static __device__ __forceinline__ Lanes outs(const std::uint16_t* tile, int row) {
    return {tile, row + (lane_id() >> 4 << 3) + (lane_id() & 7), lane_id() & 8};
  }
  // The same of outputs [row, row + 8): columns [k, k + 16), then [k + 16, k + 32).
  static __device__ __forceinline__ Lanes eight_outs(const std::uint16_t* tile, int row) {
    return {tile, row + (lane_id() & 7), lane_id() >> 3 << 3};
  }
  // Columns are outputs, rows are summed over: outputs [col, col + 8), then [col + 8, col + 16), of
  // rows [row, row + 16), transposed.
  static __device__ __forceinline__ Lanes columns(const std::uint16_t* tile, int col) {
    return {tile + (col & ~63), lane_id() & 15, (col & 63) + (lane_id() >> 4 << 3)};
  }

  // `k`: a multiple of what the form has of columns; `row`: of eight, from those on.
  __device__ __forceinline__ void load(int k, std::uint32_t (&out)[4]) const {
    load_tiles(at(k), out);
  }
  __device__ __forceinline__ void load_rows(int row, int k, std::uint32_t (&out)[4]) const {
    load_tiles(at(k) + static_cast<std::uint32_t>(row * kCols * 2), out);
  }
  __device__ __forceinline__ void load_transposed(int row, int col, std::uint32_t (&out)[4]) const {
    load_transposed_tiles(at(col) + static_cast<std::uint32_t>(row * kCols * 2), out);
  }

 private:
  __device__ __forceinline__ Lanes(const std::uint16_t* tile, int row, int k)
      : address_(shared_address(tile + place<kCols>(row, k))) {}
  __device__ __forceinline__ std::uint32_t at(int k) const {
    return (address_ ^ static_cast<std::uint32_t>((k & 63) << 1)) +
           static_cast<std::uint32_t>((k & ~63) << 1);
  }

  std::uint32_t address_;
};

// Four values of a row, from a column on that is a multiple of four.
template <int kCols>
__device__ __forceinline__ void put_four(std::uint16_t* tile, int row, int k, const float (&v)[4]) {
  store_eight(tile + place<kCols>(row, k), pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
}

// Whether unpack_rows takes values of a type.
__device__ __forceinline__ bool is_unpacked(ValueType type) {
  return type == ValueType::bf16 || type == ValueType::e4m3;
}
// Rows of `cols` values, a multiple of eight, as they lie in shared memory, to a tile of kRows:
// zeros behind the last of `rows`.
template <int kRows, int kCols>
__device__ __forceinline__ void unpack_rows(std::uint16_t* tile, const std::byte* from,
                                            ValueType type, int rows, int cols) {
  constexpr int kEights = kCols / 8, kPass = static_cast<int>(kThreads) / kEights;
  static_assert(kPass % 8 == 0 && kRows % kPass == 0);  // so that an eight keeps its place
  const int col = static_cast<int>(threadIdx.x) % kEights * 8;
  const int first = static_cast<int>(threadIdx.x) / kEights;
  if (col >= cols) return;
  const bool codes = type == ValueType::e4m3;
  const int size = codes ? 1 : 2;
  const std::byte* at = from + (first * cols + col) * size;
  std::uint16_t* to = tile + place<kCols>(first, col);
#pragma unroll 2
  for (int row = first; row < kRows; row += kPass) {
    uint4 eight = make_uint4(0, 0, 0, 0);
    if (row < rows) eight = codes ? bf16_from_e4m3_eight(load_eight(at)) : load_sixteen(at);
    store_sixteen(to, eight);
    at += kPass * cols * size;
    to += kPass * kCols;
  }
}

}  // namespace dsv32::kernels::cuda

#endif  // DSV32_KERNELS_CUDA_SMXX_BF16_TILE_CUH_
