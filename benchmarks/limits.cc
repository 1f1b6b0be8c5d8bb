// Compute loops are whole blocks of assembly with fixed registers, so that no compiler can spill.
#include "benchmarks/limits.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "benchmarks/clock.h"

namespace dsv32::bench {
namespace {

std::atomic<std::uint64_t> sink;  // so that no loop is dead

using ReadLoop = std::uint64_t (*)(const std::byte* data, std::size_t bytes);
using ComputeLoop = void (*)(std::int64_t rounds);

std::uint64_t read_plain(const std::byte* data, std::size_t bytes) {
  const std::size_t half = bytes / 2 / 32 * 32;
  std::uint64_t sum[4] = {};
  for (std::size_t i = 0; i < half; i += 32) {
    for (std::size_t stream = 0; stream < 2; ++stream) {
      std::uint64_t x[4];
      std::memcpy(x, data + stream * half + i, 32);
      for (int j = 0; j < 4; ++j) sum[j] ^= x[j];
    }
  }
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) inline __m512i load512(const std::byte* p) {
  return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64));
}

__attribute__((target("avx2"))) inline __m256i load256(const std::byte* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  return _mm256_xor_si256(_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1));
}

// 128 bytes of each of two streams in turn. (Four whose distances are powers of two meet in the
// same banks: 10 % less on the development machine.)
__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::byte* data,
                                                             std::size_t bytes) {
  const std::size_t half = bytes / 2 / 128 * 128;
  __m512i a = _mm512_setzero_si512(), b = a;
  for (std::size_t i = 0; i < half; i += 128) {
    a = _mm512_xor_si512(a, load512(data + i));
    b = _mm512_xor_si512(b, load512(data + half + i));
  }
  std::uint64_t x[8];
  _mm512_storeu_si512(x, _mm512_xor_si512(a, b));
  return x[0] ^ x[1] ^ x[2] ^ x[3] ^ x[4] ^ x[5] ^ x[6] ^ x[7];
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::byte* data, std::size_t bytes) {
  const std::size_t half = bytes / 2 / 64 * 64;
  __m256i a = _mm256_setzero_si256(), b = a;
  for (std::size_t i = 0; i < half; i += 64) {
    a = _mm256_xor_si256(a, load256(data + i));
    b = _mm256_xor_si256(b, load256(data + half + i));
  }
  std::uint64_t x[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), _mm256_xor_si256(a, b));
  return x[0] ^ x[1] ^ x[2] ^ x[3];
}

// The same line for registers 0..n-1.
#define DSV32_EACH12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DSV32_EACH24(X) \
  DSV32_EACH12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define DSV32_CLOBBER12                                                                    \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm14", "xmm15", "cc"
#define DSV32_CLOBBER24                                                                    \
  DSV32_CLOBBER12, "xmm12", "xmm13", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", \
      "xmm22", "xmm23", "xmm30", "xmm31"
#define DSV32_ZERO_Z(i) "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n\t"
#define DSV32_ZERO_Y(i) "vxorps %%ymm" #i ", %%ymm" #i ", %%ymm" #i "\n\t"
#define DSV32_DPBF16(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define DSV32_FMA_Z(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define DSV32_FMA_Y(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n\t"

__attribute__((target("avx512f"))) void compute_bf16(std::int64_t rounds) {
  asm volatile(DSV32_EACH24(DSV32_ZERO_Z)
               "vpbroadcastd %1, %%zmm30\n\tvpbroadcastd %1, %%zmm31\n\t"
               "1:\n\t" DSV32_EACH24(DSV32_DPBF16) "dec %0\n\tjnz 1b\n\t"
               : "+r"(rounds)
               : "r"(0x3C003C00)
               : DSV32_CLOBBER24);
}

__attribute__((target("avx512f"))) void compute_avx512(std::int64_t rounds) {
  asm volatile(DSV32_EACH24(DSV32_ZERO_Z)
               "vpbroadcastd %1, %%zmm30\n\tvpbroadcastd %1, %%zmm31\n\t"
               "1:\n\t" DSV32_EACH24(DSV32_FMA_Z) "dec %0\n\tjnz 1b\n\t"
               : "+r"(rounds)
               : "r"(0x3C000000)
               : DSV32_CLOBBER24);
}

__attribute__((target("avx2,fma"))) void compute_fma(std::int64_t rounds) {
  asm volatile(DSV32_EACH12(DSV32_ZERO_Y)
               "vmovd %1, %%xmm14\n\tvpbroadcastd %%xmm14, %%ymm14\n\tvmovaps %%ymm14, %%ymm15\n\t"
               "1:\n\t" DSV32_EACH12(DSV32_FMA_Y) "dec %0\n\tjnz 1b\n\tvzeroupper\n\t"
               : "+r"(rounds)
               : "r"(0x3C000000)
               : DSV32_CLOBBER12);
}
#endif

// Independent multiply-adds, for the compiler to vectorise.
void compute_plain(std::int64_t rounds) {
  float sum[64], x[64];
  std::fill_n(sum, 64, 0.0f);
  std::fill_n(x, 64, 0.0078125f);
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int i = 0; i < 64; ++i) sum[i] = sum[i] * 0.5f + x[i];
    asm volatile("" : : "r"(sum) : "memory");
  }
}

struct Loops {
  Isa isa;
  ReadLoop read;
  ComputeLoop compute;
  double operations;  // of one round of `compute`
};

Loops choose() {
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") != 0;
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  if (avx512 && __builtin_cpu_supports("avx512bf16") != 0)
    return {{"AVX-512", "vdpbf16ps", true}, read_avx512, compute_bf16, 24 * 64.0};
  if (avx512) return {{"AVX-512", "AVX-512 FMA", false}, read_avx512, compute_avx512, 24 * 32.0};
  if (avx2) return {{"AVX2", "AVX2 FMA", false}, read_avx2, compute_fma, 12 * 16.0};
#endif
  return {{"plain", "plain multiply-add", false}, read_plain, compute_plain, 64 * 2.0};
}

const Loops& loops() {
  static const Loops chosen = choose();
  return chosen;
}

}  // namespace

const Isa& isa() { return loops().isa; }

double read_rate(ThreadPool& pool, const std::byte* data, std::size_t bytes) {
  const int slices = pool.size() == 1 ? 1 : 8 * pool.size();
  const std::size_t slice = bytes / static_cast<std::size_t>(slices) / 64 * 64;
  const double start = now();
  pool.parallel_for(slices, [&](int item, int) {
    sink ^= loops().read(data + static_cast<std::size_t>(item) * slice, slice);
  });
  return static_cast<double>(slice) * slices / (now() - start);
}

double compute_rate(ThreadPool& pool, double seconds) {
  static const double rate = [] {  // of one thread, roughly, to know how long a round takes
    const double start = now();
    loops().compute(200000);
    return 200000 / (now() - start);
  }();
  const int parts = pool.size() == 1 ? 1 : 8 * pool.size();
  const auto rounds =
      std::max<std::int64_t>(static_cast<std::int64_t>(rate * seconds * pool.size() / parts), 1000);
  const double start = now();
  pool.parallel_for(parts, [&](int, int) { loops().compute(rounds); });
  return static_cast<double>(rounds) * parts * loops().operations / (now() - start);
}

}  // namespace dsv32::bench
