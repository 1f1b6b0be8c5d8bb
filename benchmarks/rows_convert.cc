// Decoding of FP8 weights to BF16 out of the first-level cache: what every product with FP8 weights
// does to each code at least once.
#include <algorithm>
#include <cmath>
#include <string_view>

#include "benchmarks/convert.h"
#include "benchmarks/harness.h"
#include "lib/base/check.h"

#include "kernels/numbers.h"

namespace dsv32::bench {
namespace {

constexpr std::size_t kCodes = 8192;  // with their BF16 values in L1
constexpr int kScales = 60;           // powers of two on both sides of 1 that are tried

bool runs_here() {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  return std::any_of(tables.tables, tables.tables + tables.count, [](const auto* table) {
    return std::string_view(table->name) == "avx512bf16";
  });
}

// How many of the 256 codes come out wrong, over all scales that are tried. A NaN must stay one.
int wrong_codes() {
  int wrong = 0;
  for (int power = -kScales; power <= kScales; ++power) {
    const float scale = std::ldexp(1.0f, power);
    for (int first = 0; first < 256; first += 64) {
      std::byte codes[64];
      for (int i = 0; i < 64; ++i) codes[i] = static_cast<std::byte>(first + i);
      std::uint16_t out[64];
      convert_line(codes, scale, out);
      for (int i = 0; i < 64; ++i) {
        const float right = kernels::from_e4m3(static_cast<std::uint8_t>(first + i)) * scale;
        const float value = kernels::from_bf16(out[i]);
        const bool same = std::isnan(right)
                              ? std::isnan(value)
                              : value == right && std::signbit(value) == std::signbit(right);
        wrong += same ? 0 : 1;
      }
    }
  }
  return wrong;
}

// A scalar conversion of the same codes, for comparison.
double scalar_rate(Bench& bench, const std::byte* codes) {
  std::uint16_t out[kCodes];
  const double time = bench.best([&] {
    for (std::size_t i = 0; i < kCodes; ++i)
      out[i] = kernels::to_bf16(kernels::from_e4m3(static_cast<std::uint8_t>(codes[i])));
    asm volatile("" : : "r"(out) : "memory");
  });
  return kCodes / time;
}

Result convert(Bench& bench) {
  if (!runs_here()) return skipped("this processor has no AVX-512 with VBMI and BF16");
  if (const int wrong = wrong_codes(); wrong > 0) return missed(formatted("{} wrong", wrong));
  alignas(64) static std::byte codes[kCodes], out[2 * kCodes];
  fill_codes({codes, kCodes}, 5);
  const int rounds = bench.pick(4000, 10);
  const double bytes = static_cast<double>(kCodes) * rounds;
  const double registers = bytes / bench.best([&] { convert_to_registers(codes, kCodes, rounds); });
  const double memory = bytes / bench.best([&] { convert_to_memory(codes, kCodes, rounds, out); });
  const double shuffles = bytes / bench.best([&] { shuffle_lines(rounds * int{kCodes} / 64); });
  return {.value = registers / 1e9,
          .note = formatted("256 codes exact under {} scales; the four shuffles of a line alone "
                            "{:.1f}, with stores to L1 {:.1f}, scalar {:.2f}",
                            2 * kScales + 1, shuffles / 1e9, memory / 1e9,
                            scalar_rate(bench, codes) / 1e9)};
}

const Register rows([](std::vector<Row>& out) {
  out.push_back({.name = "fp8_convert",
                 .shape = "FP8 codes to BF16 in registers, codes in L1, 1 thread",
                 .unit = "GB/s of codes",
                 .goal = 90,
                 .basis = "two table look-ups and two unpackings a line of 64 codes",
                 .run = convert});
});

}  // namespace
}  // namespace dsv32::bench
