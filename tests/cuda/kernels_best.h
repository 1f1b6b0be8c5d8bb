// Which of given scores a list of slots should be: what the tests of topic indexer share.
#ifndef DSV32_TESTS_CUDA_KERNELS_BEST_H_
#define DSV32_TESTS_CUDA_KERNELS_BEST_H_

#include <cstdint>
#include <vector>

#include "tests/cuda/kernels_machine.h"

namespace dsv32::test {

// By the twin; `table` is the query's row of the page table.
inline std::vector<std::int32_t> best_slots(const std::vector<float>& scores,
                                            const std::int32_t* table, int top) {
  std::vector<std::int32_t> list(static_cast<std::size_t>(top));
  reference_twins().top_k({.scores = scores.data(),
                           .scratch = nullptr,
                           .positions = list.data(),
                           .count = static_cast<int>(scores.size()),
                           .top_k = top});
  for (std::int32_t& s : list) {
    if (s >= 0) s = table[s / kernels::kPageSize] * kernels::kPageSize + s % kernels::kPageSize;
  }
  return list;
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_CUDA_KERNELS_BEST_H_
