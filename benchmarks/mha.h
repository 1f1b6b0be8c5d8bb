// A baseline: attention over expanded heads (MHA), BF16, every key of the context, as a masked
// prefill computes it. Not part of the library.
#ifndef DSV32_BENCHMARKS_MHA_H_
#define DSV32_BENCHMARKS_MHA_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace dsv32::bench {

inline constexpr int kMhaQueries = 48;  // of one call
inline constexpr int kMhaKeys = 128;    // contexts are multiples of it
inline constexpr int kMhaWidth = 192, kMhaValue = 128;

// One head's queries, keys and values, packed as the loop reads them.
class MhaHead {
 public:
  static bool runs_here();  // AVX-512 with BF16
  explicit MhaHead(int keys);
  // Softmax over keys [0, length) times the values, for all queries.
  void attend(int length);
  // The largest deviation of query 0's result from a double-precision one, over its largest value.
  double deviation(int length) const;

 private:
  std::shared_ptr<std::byte> queries_;  // [width / 2, 48] pairs of bf16
  std::shared_ptr<std::byte> keys_;     // [keys / 8, width / 2, 8] pairs
  std::shared_ptr<std::byte> values_;   // [keys / 128, value / 8, 64, 8] pairs of two keys
  std::shared_ptr<std::byte> scratch_;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_MHA_H_
