// Passes over a row of logits, eight lanes at a time: additions, multiplications and comparisons in
// a fixed order, so that every machine gets the same bits.
#ifndef DSV32_LIB_SAMPLING_LOGIT_ROW_H_
#define DSV32_LIB_SAMPLING_LOGIT_ROW_H_

#include <cstddef>
#include <cstdint>

namespace dsv32 {

// A row is read in whole blocks; maxima and sums are kept for each, so that later passes can skip
// what does not matter.
inline constexpr std::size_t kLogitBlock = 64;

struct LogitPasses {
  // maxima[b] = the largest logit of block b. False if some logit is NaN or +infinity.
  bool (*block_maxima)(const float* row, std::size_t blocks, float* maxima);
  // weights[i] = 2^((row[i] - best) * scale) for best >= row[i] and scale > 0, to a relative error
  // of 1e-7 and 5e-8 times the exponent; 0 where the exponent is below -124. sums[b] is the sum
  // over block b.
  void (*block_exp2)(const float* row, std::size_t blocks, float best, float scale, float* weights,
                     double* sums);
};

// The fastest that run here; all of them give the same bits.
const LogitPasses& logit_passes();

}  // namespace dsv32

#endif  // DSV32_LIB_SAMPLING_LOGIT_ROW_H_
