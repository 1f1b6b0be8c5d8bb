// The tokens that a draw may take, best first.
#ifndef DSV32_LIB_SAMPLING_CANDIDATES_H_
#define DSV32_LIB_SAMPLING_CANDIDATES_H_

#include <array>
#include <cstddef>
#include <vector>

#include "dsv32/types.h"

namespace dsv32 {

struct Candidate {
  TokenId token = 0;
  float logit = 0.0f;
  float weight = 0.0f;
};

// Ordered by logit, descending, then by id: in coarse buckets first, and a bucket exactly only when
// a cut falls into it. So nothing depends on the order of a library's sort, and 100,000 candidates
// cost a few passes. Add all in ascending order of their ids, then rank, then cut.
class Candidates {
 public:
  void clear() { items_.clear(); }
  void add(const Candidate& c) { items_.push_back(c); }
  // (best - logit) * scale is a candidate's distance in powers of two; best: no logit is above it.
  void rank(float best, float scale);

  double total() const;
  void keep_best(std::size_t count);
  void keep_weight(double target);   // the shortest prefix with at least so much weight, if any
  void drop_below(float weight);     // what stands behind the first one with less
  TokenId at_weight(double target);  // where the running sum reaches `target`; else the last

 private:
  static constexpr std::size_t kBuckets = 2048;  // 64 for each power of two

  std::size_t bucket_end(std::size_t bucket) const;
  void sort_bucket(std::size_t bucket);
  void truncate(std::size_t count);
  std::size_t find(double target);  // index; there must be a candidate, else it throws internal

  std::vector<Candidate> items_{}, scratch_{};
  std::array<std::size_t, kBuckets + 1> begin_{};
  std::array<double, kBuckets> weight_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_SAMPLING_CANDIDATES_H_
