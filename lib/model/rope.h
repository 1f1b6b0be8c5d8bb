// Rotary angles with YaRN, and the softmax scale that belongs to them.
#ifndef DSV32_LIB_MODEL_ROPE_H_
#define DSV32_LIB_MODEL_ROPE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "dsv32/config.h"

namespace dsv32 {

// The same table for MLA and indexer, whatever the current length (YaRN: arXiv 2309.00071;
// DeepSeek-V3.2 inference/model.py precompute_freqs_cis).
class Rope {
 public:
  explicit Rope(const ModelConfig& config);

  int dim() const { return 2 * static_cast<int>(inverse_frequencies_.size()); }
  // (nope + rope)^-0.5, times the square of YaRN's mscale.
  float softmax_scale() const { return softmax_scale_; }
  // out [positions, dim]: dim / 2 cosines, then as many sines. The angle is rounded to fp32 before
  // cos and sin, as in every reference.
  void fill(std::span<const std::int32_t> positions, float* out) const;

 private:
  void set_gains(const ModelConfig& config);  // YaRN's

  std::vector<float> inverse_frequencies_;  // [dim / 2]
  float amplitude_ = 1.0f;                  // of cos and sin
  float softmax_scale_ = 1.0f;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_ROPE_H_
