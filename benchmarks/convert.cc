#include "benchmarks/convert.h"

#include <immintrin.h>

#include "kernels/numbers.h"

namespace dsv32::kernels::bench_convert {
#include "kernels/cpu/weights-bf16-inl.h"
}  // namespace dsv32::kernels::bench_convert

namespace dsv32::bench {
namespace {

using namespace kernels::bench_convert;
using Weights = Fp8Pow2Weights;

}  // namespace

void convert_line(const std::byte* codes, float scale, std::uint16_t* out) {
  const Lut lut = load_lut(code_table(scale));
  alignas(64) std::uint16_t decoded[64];
  __m512i first, second;
  decode_codes(_mm512_loadu_si512(codes), lut, &first, &second);
  _mm512_store_si512(decoded, first);
  _mm512_store_si512(decoded + 32, second);
  for (int i = 0; i < 64; ++i) out[i] = decoded[i % 16 / 8 * 32 + i / 16 * 8 + i % 8];
}

void convert_to_registers(const std::byte* codes, std::size_t bytes, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const Lut lut = load_lut(code_table(1.0f));
    for (std::size_t i = 0; i < bytes; i += Weights::kBytes) {
      __m512i v[4];
      Weights::decode<true>(codes + i, Weights::kBytes, lut, v);
      for (int j = 0; j < 4; ++j) asm volatile("" : : "v"(v[j]));  // wanted there, and no more
    }
  }
}

void convert_to_memory(const std::byte* codes, std::size_t bytes, int rounds, std::byte* out) {
  for (int round = 0; round < rounds; ++round) {
    const Lut lut = load_lut(code_table(1.0f));
    for (std::size_t i = 0; i < bytes; i += Weights::kBytes) {
      __m512i v[4];
      Weights::decode<true>(codes + i, Weights::kBytes, lut, v);
      for (int j = 0; j < 4; ++j) _mm512_store_si512(out + 2 * i + 64 * j, v[j]);
    }
    asm volatile("" : : "r"(out) : "memory");
  }
}

// Four lines a round.
void shuffle_lines(int lines) {
#define DSV32_LOOKUP(i) "vpermi2b %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define DSV32_UNPACK(i) "vpunpcklbw %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define DSV32_EIGHT(X, a, b, c, d, e, f, g, h) X(a) X(b) X(c) X(d) X(e) X(f) X(g) X(h)
  std::int64_t rounds = lines / 4;
  asm volatile("1:\n\t" DSV32_EIGHT(DSV32_LOOKUP, 0, 1, 2, 3, 4, 5, 6, 7)
                   DSV32_EIGHT(DSV32_UNPACK, 8, 9, 10, 11, 12, 13, 14, 15) "dec %0\n\tjnz 1b\n\t"
               : "+r"(rounds)
               :
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef DSV32_EIGHT
#undef DSV32_UNPACK
#undef DSV32_LOOKUP
}

}  // namespace dsv32::bench
