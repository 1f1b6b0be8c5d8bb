// Rows that go into cache pages.
#ifndef DSV32_TESTS_KERNELS_STORE_DATA_H_
#define DSV32_TESTS_KERNELS_STORE_DATA_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/kernels/data.h"

namespace dsv32::test {

struct StoreInput {
  std::vector<float> rows, gain, bias, rope;
};

inline StoreInput random_input(Data& data, int tokens, int width, int normed, int rope) {
  return {data.floats(tokens * width, 2.0f), data.floats(normed), data.floats(normed),
          data.rope(tokens, rope)};
}

// Rows of 1 and -1, as many of each: mean 0, mean square 1. Gains are odd quarters and biases even
// ones, which never cancel; angles are multiples of 90 degrees. So no rounding to BF16 is near an
// edge, and every sum is exact.
inline StoreInput exact_input(Data& data, int tokens, int width, int normed, int rope) {
  StoreInput in;
  for (int t = 0; t < tokens; ++t) {
    std::vector<float> row(static_cast<std::size_t>(width), 1.0f);
    std::fill_n(row.begin(), normed / 2, -1.0f);
    for (std::size_t i = static_cast<std::size_t>(normed) - 1; i > 0; --i)
      std::swap(row[i], row[static_cast<std::size_t>(data.integer(0, static_cast<int>(i)))]);
    for (int i = normed; i < width; ++i)
      row[static_cast<std::size_t>(i)] = static_cast<float>(data.integer(-100, 100)) / 32.0f;
    in.rows.insert(in.rows.end(), row.begin(), row.end());
    const int quarter = data.integer(0, 3);
    const float cosine[] = {1, 0, -1, 0}, sine[] = {0, 1, 0, -1};
    in.rope.insert(in.rope.end(), static_cast<std::size_t>(rope / 2), cosine[quarter]);
    in.rope.insert(in.rope.end(), static_cast<std::size_t>(rope / 2), sine[quarter]);
  }
  for (int i = 0; i < normed; ++i) {
    in.gain.push_back(static_cast<float>(2 * data.integer(-10, 10) + 1) / 4.0f);
    in.bias.push_back(static_cast<float>(data.integer(-5, 5)) / 2.0f);
  }
  return in;
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_KERNELS_STORE_DATA_H_
