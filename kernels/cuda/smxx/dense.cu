// Topic dense: embed, add_rms_norm, silu_mul, quantise, copies.
#include "kernels/cuda/smxx/rows.cuh"

namespace dsv32::kernels::cuda {
namespace {

// This warp's block of 128 columns of a matrix [rows, cols], where launch_of gave each block a
// warp.
struct BlockPlace {
  std::int64_t row;
  int block, col;  // col: this lane's first

  __device__ __forceinline__ BlockPlace(std::int64_t piece, int cols) {
    const int blocks = (cols + kBlock - 1) / kBlock;
    row = piece / blocks;
    block = static_cast<int>(piece % blocks);
    col = block * kBlock + 4 * lane_id();
  }
};

template <class T>
__device__ __forceinline__ void embed_block(const EmbedArguments& a, const BlockPlace& at) {
  const std::int64_t first = a.tokens[at.row] * a.table.stride + at.col;
  float x[4] = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (at.col + j < a.cols) x[j] = load_value(a.table.data, a.table.type, first + j);
  }
  store_four<T>(a.out + at.row * a.cols * static_cast<int>(sizeof(typename T::Stored)), at.col,
                a.cols, x);
}

// s = x + residual of this lane's columns.
template <class X, class T>
__device__ __forceinline__ void load_sum(const NormArguments& a, std::int64_t row, int col,
                                         float (&s)[4]) {
  load_four<X>(a.x + row * a.x_stride * static_cast<int>(sizeof(typename X::Stored)), col, a.cols,
               s);
  if (a.residual == nullptr) return;
  float r[4];
  load_four<T>(a.residual + row * a.residual_stride * static_cast<int>(sizeof(typename T::Stored)),
               col, a.cols, r);
#pragma unroll
  for (int j = 0; j < 4; ++j) s[j] += r[j];
}

// A row a block of threads. A warp reads its columns twice: what it sums it also writes.
template <class X, class T>
__device__ __forceinline__ void norm_row(const NormArguments& a, std::int64_t row) {
  constexpr int size = sizeof(typename T::Stored);
  const int blocks = (a.cols + kBlock - 1) / kBlock;
  float squares = 0.0f, s[4];
  for (int block = warp_id(); block < blocks; block += kWarps) {
    load_sum<X, T>(a, row, block * kBlock + 4 * lane_id(), s);
#pragma unroll
    for (int j = 0; j < 4; ++j) squares = fmaf(s[j], s[j], squares);
  }
  const float mean = block_sum(squares) / static_cast<float>(a.cols);
  const float factor = 1.0f / sqrtf(mean + a.eps);
  for (int block = warp_id(); block < blocks; block += kWarps) {
    const int col = block * kBlock + 4 * lane_id();
    load_sum<X, T>(a, row, col, s);
    if (a.residual != nullptr)
      store_four<T>(a.residual + row * a.residual_stride * size, col, a.cols, s);
    float gain[4];
    load_four<F32>(reinterpret_cast<const std::byte*>(a.gain), col, a.cols, gain);
#pragma unroll
    for (int j = 0; j < 4; ++j) s[j] = T::round(gain[j] * (s[j] * factor));
    store_four<T>(a.out + row * a.out_stride * size, col, a.cols, s);
    if (a.fp8.codes != nullptr) quantise_into(a.fp8, row, block, a.cols, s, a.pow2);
  }
}

template <class T>
__device__ __forceinline__ void silu_block(const SiluMulArguments& a, const BlockPlace& at) {
  const std::int64_t first = at.row * a.cols * static_cast<int>(sizeof(typename T::Stored));
  float gate[4], up[4];
  load_four<T>(a.gate + first, at.col, a.cols, gate);
  load_four<T>(a.up + first, at.col, a.cols, up);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float sigmoid = 1.0f / (1.0f + exp_fast(-gate[j]));
    up[j] = at.col + j < a.cols ? T::round(gate[j] * sigmoid * up[j]) : 0.0f;
  }
  store_four<T>(a.out + first, at.col, a.cols, up);
  if (a.fp8.codes != nullptr) quantise_into(a.fp8, at.row, at.block, a.cols, up, a.pow2);
}

// A warp's copy of `n` bytes in units of U, and the bytes behind the last whole one.
template <class U>
__device__ __forceinline__ void copy_units(const std::byte* from, std::byte* to, std::int64_t n) {
  constexpr int size = sizeof(U);
  const std::int64_t units = n / size;
  for (std::int64_t i = lane_id(); i < units; i += 32) {
    reinterpret_cast<U*>(to)[i] = reinterpret_cast<const U*>(from)[i];
  }
  for (std::int64_t i = units * size + lane_id(); i < n; i += 32) to[i] = from[i];
}

__device__ __forceinline__ void warp_copy(const std::byte* from, std::byte* to, std::int64_t n) {
  if (aligned(from, 16) && aligned(to, 16)) {
    copy_units<uint4>(from, to, n);
  } else if (aligned(from, 4) && aligned(to, 4)) {
    copy_units<std::uint32_t>(from, to, n);
  } else {
    copy_units<Byte>(from, to, n);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) dsv32_embed(EmbedArguments a) {
  const BlockPlace at(warp_piece(), a.cols);
  if (at.row >= a.num_rows) return;
  with_type(a.type, [&](auto type) { embed_block<decltype(type)>(a, at); });
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_add_rms_norm(NormArguments a) {
  const std::int64_t row = blockIdx.x;
  if (a.type == ValueType::f32) {
    norm_row<F32, F32>(a, row);
  } else if (a.x_type == ValueType::f32) {
    norm_row<F32, Bf16>(a, row);
  } else {
    norm_row<Bf16, Bf16>(a, row);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks) dsv32_silu_mul(SiluMulArguments a) {
  const BlockPlace at(warp_piece(), a.cols);
  if (at.row >= a.num_rows) return;
  with_type(a.type, [&](auto type) { silu_block<decltype(type)>(a, at); });
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_quantise(QuantiseArguments a) {
  const BlockPlace at(warp_piece(), a.cols);
  if (at.row >= a.num_rows) return;
  with_type(a.type, [&](auto type) {
    using T = decltype(type);
    float x[4];
    load_four<T>(a.x + at.row * a.x_stride * static_cast<int>(sizeof(typename T::Stored)), at.col,
                 a.cols, x);
    quantise_into(a.out, at.row, at.block, a.cols, x, a.pow2);
  });
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_copy_rows(CopyRowsArguments a) {
  const std::int64_t i = warp_piece();
  if (i >= a.count) return;
  const std::int64_t read = a.from_rows != nullptr ? a.from_rows[i] : i / a.copies;
  const std::int64_t write = a.to_rows != nullptr ? a.to_rows[i] : i;
  if (read < 0 || write < 0) return;
  warp_copy(a.from + read * a.from_stride, a.to + write * a.to_stride, a.row_bytes);
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    dsv32_copy_bytes(CopyBytesArguments a) {
  const std::int64_t first = warp_piece() * kCopyPiece;
  if (first >= a.bytes) return;
  warp_copy(a.from + first, a.to + first, min(kCopyPiece, a.bytes - first));
}

}  // namespace dsv32::kernels::cuda
