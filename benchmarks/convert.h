// The kernels' own decoding of FP8 codes, out of the same header and with the same flags, so that
// it can be timed by itself.
#ifndef DSV32_BENCHMARKS_CONVERT_H_
#define DSV32_BENCHMARKS_CONVERT_H_

#include <cstddef>
#include <cstdint>

namespace dsv32::bench {

// BF16 of 64 codes times `scale`, a power of two; in their order.
void convert_line(const std::byte* codes, float scale, std::uint16_t* out);

// Decodes [codes, codes + bytes), whole blocks of 128, into registers, `rounds` times, as a product
// with few rows of x does. Every value is wanted in a register, and nothing is done with it there.
void convert_to_registers(const std::byte* codes, std::size_t bytes, int rounds);

// The same into `out`, two bytes a code, as panels for many rows are.
void convert_to_memory(const std::byte* codes, std::size_t bytes, int rounds, std::byte* out);

// The limit: the shuffles of a line of 64 codes (two look-ups, two unpackings), `lines` times,
// which wait for nothing.
void shuffle_lines(int lines);

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_CONVERT_H_
