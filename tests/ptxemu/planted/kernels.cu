// Three small kernels to plant defects in: each has the shapes of trouble that kernels for a real
// model have (double buffers, swizzles, gathers, an online softmax, ordered ties), and with
// -DBUG=n one of the mistakes that are made there. The list is in planted_test.cc.
#include <stdint.h>

#ifndef BUG
#define BUG 0
#endif

namespace {

__device__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ void copy16(uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ void load4(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ void load4_transposed(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ uint32_t two_bf16(float low, float high) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
__device__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Rows of 64 bytes in four chunks; neighbours' chunks lie in different banks.
__device__ uint32_t chunk_of(int row, int chunk) {
  return static_cast<uint32_t>(row * 64 + ((chunk ^ (row >> 1 & 3)) * 16));
}

}  // namespace

// c[m][n] = a[m][k] b[n][k]', bf16 in, f32 out; k in 32s, n in 32s. 64 threads for 16 x 32 of c.
extern "C" __global__ void __launch_bounds__(64)
    planted_gemm(const uint16_t* a, const uint16_t* b, float* c, int m, int n, int k) {
  __shared__ __align__(128) unsigned char as[2][16 * 64], bs[2][32 * 64];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int n0 = blockIdx.x * 32, m0 = blockIdx.y * 16;
  auto fetch = [&](int buffer, int at) {
    const int row = thread / 4, chunk = thread % 4;
    const bool there = m0 + row < m;
    copy16(shared_address(as[buffer]) + chunk_of(row, chunk),
           a + static_cast<size_t>(there ? m0 + row : 0) * k + at + chunk * 8, there);
    for (int half = 0; half < 2; ++half) {
      copy16(shared_address(bs[buffer]) + chunk_of(row + 16 * half, chunk),
             b + static_cast<size_t>(n0 + row + 16 * half) * k + at + chunk * 8, true);
    }
    commit();
  };
  float d[2][4] = {};
  fetch(0, 0);
  for (int at = 0, buffer = 0; at < k; at += 32, buffer ^= 1) {
    if (at + 32 < k) {
      fetch(buffer ^ 1, at + 32);
    } else {
      commit();
    }
    if (BUG == 11) {
      wait<2>();
    } else {
      wait<1>();
    }
    if (BUG != 12) __syncthreads();
#pragma unroll 1
    for (int step = 0; step < 2; ++step) {
      uint32_t x[4], y[4];
      load4(x, shared_address(as[buffer]) + chunk_of(lane % 16, 2 * step + lane / 16));
      const int row = warp * 16 + lane / 16 * 8 + lane % 8, chunk = 2 * step + lane / 8 % 2;
      const uint32_t at_row = BUG == 13
                                  ? static_cast<uint32_t>(row * 64 + ((chunk ^ (row & 3)) * 16))
                                  : chunk_of(row, chunk);
      load4(y, shared_address(bs[buffer]) + at_row);
      multiply(d[0], x, y[0], y[1]);
      multiply(d[1], x, y[2], y[3]);
    }
    if (BUG != 14) __syncthreads();
  }
  for (int tile = 0; tile < 2; ++tile) {
    for (int word = 0; word < 4; ++word) {
      const int row = m0 + lane / 4 + word / 2 * 8;
      const int column = n0 + warp * 16 + tile * 8 + lane % 4 * 2 + word % 2;
      if (row < (BUG == 15 ? m + 1 : m)) c[static_cast<size_t>(row) * n + column] = d[tile][word];
    }
  }
}

// Attention of one query of 16 heads over the tokens of a list (-1: none), keys of 32 numbers that
// are the values, too; q [16][32], keys [tokens][32] bf16, scale holds log2(e). 64 threads; a warp
// scores 8 of a tile's 16 keys and makes 16 of the 32 columns.
extern "C" __global__ void __launch_bounds__(64)
    planted_attention(const uint16_t* q, const uint16_t* keys, const int* list, float* out,
                      int count, float scale) {
  __shared__ __align__(128) unsigned char raw[2][16 * 64], qs[16 * 64], ks[16 * 64], ps[16 * 48];
  __shared__ float most[2][16], sums[2][16];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int row = thread / 4, chunk = thread % 4;
  auto gather = [&](int buffer, int tile) {
    const int at = tile * 16 + row;
    const int token = at < count ? list[at] : -1;
    const bool there = BUG == 21 || token >= 0;
    copy16(shared_address(raw[buffer]) + row * 64 + chunk * 16,
           keys + static_cast<ptrdiff_t>(there ? token : 0) * 32 + chunk * 8, there);
    commit();
  };
  copy16(shared_address(qs) + chunk_of(row, chunk), q + row * 32 + chunk * 8, true);
  commit();
  gather(0, 0);
  float o[2][4] = {}, m[2] = {-1e30f, -1e30f}, l[2] = {};
  const int tiles = (count + 15) / 16;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) {
      gather(tile + 1 & 1, tile + 1);
    } else {
      commit();
    }
    wait<1>();
    __syncthreads();
    // Into the layout for ldmatrix, by another thread than the one that fetched it.
    *reinterpret_cast<uint4*>(ks + chunk_of(15 - row, chunk)) =
        *reinterpret_cast<const uint4*>(raw[tile & 1] + (15 - row) * 64 + chunk * 16);
    if (BUG != 22) __syncthreads();
    float s[4] = {};
#pragma unroll 1
    for (int step = 0; step < 2; ++step) {
      uint32_t x[4], y[4];
      load4(x, shared_address(qs) + chunk_of(lane % 16, 2 * step + lane / 16));
      load4(y, shared_address(ks) + chunk_of(lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
      multiply(s, x, y[2 * warp], y[2 * warp + 1]);
    }
    float top[2] = {-1e30f, -1e30f};
    for (int word = 0; word < 4; ++word) {
      const int at = tile * 16 + warp * 8 + lane % 4 * 2 + word % 2;
      const bool there = at < count && list[at] >= 0;
      s[word] = there ? s[word] * scale : -1e30f;
      top[word / 2] = fmaxf(top[word / 2], s[word]);
    }
    for (int half = 0; half < 2; ++half) {
      top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], 1));
      top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], BUG == 23 ? 4 : 2));
      if (lane % 4 == 0) most[warp][lane / 4 + 8 * half] = top[half];
    }
    if (BUG != 24) __syncthreads();
    float p[4], shrink[2];
    for (int half = 0; half < 2; ++half) {
      const int head = lane / 4 + 8 * half;
      const float now = fmaxf(m[half], fmaxf(most[0][head], most[1][head]));
      shrink[half] = exp2_fast(m[half] - now);
      m[half] = now;
      float sum = 0;
      for (int k = 0; k < 2; ++k) {
        const float x = s[2 * half + k];
        p[2 * half + k] = x <= -1e29f ? 0.f : exp2_fast(x - now);
        sum += p[2 * half + k];
      }
      l[half] = l[half] * shrink[half] + sum;
      *reinterpret_cast<uint32_t*>(ps + head * 48 + (warp * 8 + lane % 4 * 2) * 2) =
          two_bf16(p[2 * half], p[2 * half + 1]);
    }
    for (int tile_of = 0; tile_of < 2; ++tile_of) {
      for (int word = 0; word < 4; ++word) o[tile_of][word] *= BUG == 25 ? 1.f : shrink[word / 2];
    }
    if (BUG != 26) __syncthreads();
    uint32_t x[4], y[4];
    load4(x, shared_address(ps) + lane % 16 * 48 + lane / 16 * 16);
    load4_transposed(y, shared_address(ks) + chunk_of(lane % 16, 2 * warp + lane / 16));
    multiply(o[0], x, y[0], y[1]);
    multiply(o[1], x, y[2], y[3]);
  }
  for (int half = 0; half < 2; ++half) {
    l[half] += __shfl_xor_sync(~0u, l[half], 1);
    l[half] += __shfl_xor_sync(~0u, l[half], 2);
    if (lane % 4 == 0) sums[warp][lane / 4 + 8 * half] = l[half];
  }
  __syncthreads();
  for (int tile_of = 0; tile_of < 2; ++tile_of) {
    for (int word = 0; word < 4; ++word) {
      const int head = lane / 4 + word / 2 * 8;
      const int column = warp * 16 + tile_of * 8 + lane % 4 * 2 + word % 2;
      out[head * 32 + column] = o[tile_of][word] / (sums[0][head] + sums[1][head]);
    }
  }
}

// The k largest of a row, ascending positions, of equals the first: digits of 8 bits from the top,
// then an ordered compaction. 128 threads.
extern "C" __global__ void __launch_bounds__(128)
    planted_top_k(const float* rows, int* out, int n, int k) {
  __shared__ int counts[256], over[4], equal[4];
  __shared__ unsigned prefix;
  __shared__ int wanted;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const float* row = rows + static_cast<size_t>(blockIdx.x) * n;
  int* to = out + static_cast<size_t>(blockIdx.x) * k;
  auto key_of = [&](int i) {
    const unsigned u = __float_as_uint(row[i]);
    return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
  };
  if (thread == 0) {
    prefix = 0;
    wanted = k;
  }
#pragma unroll 1
  for (int shift = 24; shift >= 0; shift -= 8) {
    counts[thread] = counts[thread + 128] = 0;
    if (BUG != 31) __syncthreads();
    const unsigned before = prefix, mask = shift == 24 ? 0u : ~0u << (shift + 8);
#pragma unroll 1
    for (int i = thread; i < n; i += 128) {
      const unsigned key = key_of(i);
      if ((key & mask) == before) atomicAdd(&counts[key >> shift & 255], 1);
    }
    __syncthreads();
    if (warp == 0) {
      const int need = wanted;
      int mine = 0;
#pragma unroll 1
      for (int i = 0; i < 8; ++i) mine += counts[255 - lane * 8 - i];
      int all = mine;
#pragma unroll 1
      for (int by = 1; by < 32; by *= 2) {
        const int x = __shfl_up_sync(~0u, all, by);
        if (lane >= by) all += x;
      }
      const unsigned reached = __ballot_sync(~0u, all >= need);
      if (BUG != 35) __syncwarp();
      if (lane == __ffs(reached) - 1) {
        int above = all - mine, digit = 255 - lane * 8;
        while (above + counts[digit] < need) above += counts[digit--];
        prefix = before | static_cast<unsigned>(digit) << shift;
        wanted = need - above;
      }
    }
    if (BUG != 32) __syncthreads();
  }
  const unsigned threshold = prefix;
  const int ties = wanted;
  int taken = 0, met = 0;
#pragma unroll 1
  for (int from = 0; from < n; from += 128) {
    const int i = from + thread;
    const unsigned key = i < n ? key_of(i) : 0u;
    const bool is_over = i < n && key > threshold, is_equal = i < n && key == threshold;
    const unsigned overs = __ballot_sync(~0u, is_over), equals = __ballot_sync(~0u, is_equal);
    if (lane == 0) {
      over[warp] = __popc(overs);
      equal[warp] = __popc(equals);
    }
    __syncthreads();
    int overs_before = taken, equals_before = met;
#pragma unroll 1
    for (int w = 0; w < 4; ++w) {
      if (w < warp) overs_before += over[w], equals_before += equal[w];
      taken += over[w], met += equal[w];
    }
    const unsigned lower = (1u << lane) - 1;
    equals_before += __popc(equals & lower);
    const int at = overs_before + __popc(overs & lower) + min(equals_before, ties);
    if (is_over || (is_equal && equals_before < ties)) to[at + (BUG == 33 ? 1 : 0)] = i;
    if (BUG != 34) __syncthreads();
  }
}
