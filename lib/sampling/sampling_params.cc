#include "lib/sampling/sampling_params.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

constexpr int kMaxTopLogprobs = 1024;
constexpr std::size_t kMaxBiases = 1u << 20;
constexpr float kMax = std::numeric_limits<float>::max();
// Wide enough for whoever wants all tokens alike, and no product with a logit loses its meaning.
constexpr float kMaxTemperature = 1e6f;
constexpr float kMinPenalty = 0.01f, kMaxPenalty = 100.0f;

// Sums and products of finite numbers stay finite: a token is banned by -infinity alone, and none
// becomes better than the largest float.
float finite(float x) { return std::clamp(x, -kMax, kMax); }

bool is_set(std::span<const std::uint32_t> mask, std::size_t token) {
  return (mask[token / 32] >> (token % 32) & 1u) != 0;
}

}  // namespace

void check_params(const SamplingParams& p) {
  const auto within = [](float x, float low, float high, const char* name) {
    DSV32_CHECK(std::isfinite(x) && x >= low && x <= high, invalid_argument,
                "{} is {}, not in {}..{}", name, x, low, high);
  };
  within(p.temperature, 0.0f, kMaxTemperature, "temperature");
  within(p.top_p, 0.0f, 1.0f, "top_p");
  within(p.min_p, 0.0f, 1.0f, "min_p");
  within(p.repetition_penalty, kMinPenalty, kMaxPenalty, "repetition_penalty");
  within(p.presence_penalty, -kMaxPenalty, kMaxPenalty, "presence_penalty");
  within(p.frequency_penalty, -kMaxPenalty, kMaxPenalty, "frequency_penalty");
  DSV32_CHECK(p.top_k >= 0, invalid_argument, "top_k is {}, below 0", p.top_k);
  DSV32_CHECK(p.top_logprobs >= 0 && p.top_logprobs <= kMaxTopLogprobs, invalid_argument,
              "top_logprobs is {}, not in 0..{}", p.top_logprobs, kMaxTopLogprobs);
  DSV32_CHECK(p.logit_bias.size() <= kMaxBiases, limit, "{} logit biases, more than {}",
              p.logit_bias.size(), kMaxBiases);
  for (const LogitBias& bias : p.logit_bias) {
    DSV32_CHECK(bias.token >= 0, invalid_argument, "logit_bias for token {}", bias.token);
    DSV32_CHECK(std::isfinite(bias.bias) || bias.bias == kNeverLogit, invalid_argument,
                "logit_bias of token {} is {}, neither finite nor -infinity", bias.token,
                bias.bias);
  }
}

void check_biases(const SamplingParams& params, std::size_t vocab_size) {
  for (const LogitBias& bias : params.logit_bias) {
    DSV32_CHECK(static_cast<std::size_t>(bias.token) < vocab_size, invalid_argument,
                "logit_bias for token {} of {}", bias.token, vocab_size);
  }
}

void check_mask(std::span<const std::uint32_t> allowed, std::size_t vocab_size) {
  DSV32_CHECK(allowed.empty() || allowed.size() == (vocab_size + 31) / 32, invalid_argument,
              "a mask of {} words for {} tokens, not {}", allowed.size(), vocab_size,
              (vocab_size + 31) / 32);
}

bool leaves_a_token(const SamplingParams& params, std::span<const std::uint32_t> allowed,
                    std::size_t vocab_size) {
  std::unordered_set<TokenId> banned;
  for (const LogitBias& bias : params.logit_bias) {
    if (bias.bias == kNeverLogit) banned.insert(bias.token);
  }
  if (allowed.empty()) return banned.size() < vocab_size;
  for (std::size_t token = 0; token < vocab_size; ++token) {
    if (is_set(allowed, token) && !banned.contains(static_cast<TokenId>(token))) return true;
  }
  return false;
}

bool adjust_row(const SamplingParams& params, std::span<const std::uint32_t> allowed,
                const SeenTokens& seen, std::span<float> row) {
  check_mask(allowed, row.size());
  check_biases(params, row.size());
  for (std::size_t i = 0; i < row.size() && !allowed.empty(); ++i) {
    if (!is_set(allowed, i)) row[i] = kNeverLogit;
  }
  for (const LogitBias& bias : params.logit_bias) {
    float& x = row[static_cast<std::size_t>(bias.token)];
    if (x == kNeverLogit) continue;
    x = bias.bias == kNeverLogit ? kNeverLogit : finite(x + bias.bias);
  }
  const bool penalties = params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
                         params.frequency_penalty != 0.0f;
  if (!penalties) return !allowed.empty() || !params.logit_bias.empty();
  for (const auto& [token, count] : seen) {
    if (token < 0 || static_cast<std::size_t>(token) >= row.size()) continue;
    float& x = row[static_cast<std::size_t>(token)];
    if (x == kNeverLogit) continue;
    x = finite(x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty);
    if (count == 0) continue;  // prompt only
    x -= params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
    x = finite(x);
  }
  return true;
}

}  // namespace dsv32
