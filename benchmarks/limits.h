// What the machine can do at most: measured, never taken from a data sheet.
#ifndef DSV32_BENCHMARKS_LIMITS_H_
#define DSV32_BENCHMARKS_LIMITS_H_

#include <cstddef>
#include <string>

#include "lib/base/thread_pool.h"

namespace dsv32::bench {

// The widest instructions of each kind that this processor has.
struct Isa {
  const char* read;     // of the DRAM read
  const char* compute;  // of the compute peak
  bool bf16;            // vdpbf16ps: the compute peak is BF16's, else FP32's
};
const Isa& isa();

// Reads [data, data + bytes) once in two streams a slice; bytes a second. `bytes` should be many
// times the last cache.
double read_rate(ThreadPool& pool, const std::byte* data, std::size_t bytes);

// Multiply-adds that stay in registers (24 accumulators): operations a second, a multiply-add
// counting two. Takes about `seconds`.
double compute_rate(ThreadPool& pool, double seconds);

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_LIMITS_H_
