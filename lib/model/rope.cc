// YaRN: low frequencies are divided by the factor, high ones kept, a ramp between.
#include "lib/model/rope.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace dsv32 {
namespace {

// YaRN's attention gain for a factor above 1.
double gain(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// The dimension whose wave turns `turns` times over the original context.
double dimension_of(const ModelConfig& c, double turns) {
  const double dim = c.qk_rope_head_dim, base = c.rope_theta;
  return dim * std::log(c.original_max_position_embeddings / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(base));
}

}  // namespace

Rope::Rope(const ModelConfig& c) {
  const int dim = c.qk_rope_head_dim;
  const bool yarn = c.rope_factor > 1.0f;
  const auto ramp_end = [&](double turns, bool up) {
    const double end = dimension_of(c, turns);
    return !c.truncate ? end : up ? std::ceil(end) : std::floor(end);
  };
  const double low = yarn ? std::max(ramp_end(c.beta_fast, false), 0.0) : 0.0;
  double high = yarn ? std::min(ramp_end(c.beta_slow, true), dim - 1.0) : 1.0;
  if (high == low) high += 0.001;
  for (int i = 0; i < dim / 2; ++i) {
    const auto frequency =
        static_cast<float>(std::pow(static_cast<double>(c.rope_theta), -2.0 * i / dim));
    const auto ramp = static_cast<float>(std::clamp((i - low) / (high - low), 0.0, 1.0));
    inverse_frequencies_.push_back(
        yarn ? frequency / c.rope_factor * ramp + frequency * (1.0f - ramp) : frequency);
  }
  softmax_scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(c.qk_nope_head_dim + dim)));
  if (yarn) set_gains(c);
  if (c.attention_factor > 0) amplitude_ = c.attention_factor;
}

void Rope::set_gains(const ModelConfig& c) {
  const bool both = c.mscale != 0 && c.mscale_all_dim != 0;
  amplitude_ = static_cast<float>(both ? gain(c.rope_factor, c.mscale) /
                                             gain(c.rope_factor, c.mscale_all_dim)
                                       : gain(c.rope_factor, 1.0));
  const double m = c.mscale_all_dim != 0 ? gain(c.rope_factor, c.mscale_all_dim) : 1.0;
  softmax_scale_ =
      static_cast<float>(m * m / std::sqrt(static_cast<double>(c.qk_nope_head_dim + dim())));
}

void Rope::fill(std::span<const std::int32_t> positions, float* out) const {
  const std::size_t half = inverse_frequencies_.size();
  for (std::size_t t = 0; t < positions.size(); ++t) {
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[t]) * inverse_frequencies_[i];
      out[t * 2 * half + i] = static_cast<float>(std::cos(static_cast<double>(angle))) * amplitude_;
      out[t * 2 * half + half + i] =
          static_cast<float>(std::sin(static_cast<double>(angle))) * amplitude_;
    }
  }
}

}  // namespace dsv32
