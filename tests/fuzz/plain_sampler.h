// A sampler in double precision and a few plain loops, to judge the library's by. It draws nothing
// itself: it says whether a sample can be right, given what floats may round away.
#ifndef DSV32_TESTS_FUZZ_PLAIN_SAMPLER_H_
#define DSV32_TESTS_FUZZ_PLAIN_SAMPLER_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dsv32/error.h"
#include "dsv32/sampler.h"

namespace dsv32::fuzz {

// Philox-4x32-10, straight from its paper: a number in [0, 1) for (seed, step).
inline double plain_uniform(std::uint64_t seed, std::uint64_t step) {
  std::array<std::uint32_t, 4> c = {static_cast<std::uint32_t>(step),
                                    static_cast<std::uint32_t>(step >> 32), 0, 0};
  std::array<std::uint32_t, 2> k = {static_cast<std::uint32_t>(seed),
                                    static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  const std::uint64_t high = std::uint64_t{c[0]} << 32 | c[1];
  return static_cast<double>(high >> 11) / 9007199254740992.0;
}

class PlainSampler {
 public:
  explicit PlainSampler(SamplingParams params) : params_(std::move(params)) {}

  void observe(TokenId token) { seen_.emplace(token, 0); }
  void accept(TokenId token) {
    ++seen_[token];
    ++step_;
  }

  // What the parameters must be refused for; none: they are fine.
  static std::optional<ErrorCode> refused(const SamplingParams& p) {
    const auto within = [](float x, double low, double high) {
      const auto wide = static_cast<double>(x);
      return wide >= low && wide <= high;  // not NaN
    };
    bool good = within(p.temperature, 0, 1e6) && within(p.top_p, 0, 1) && within(p.min_p, 0, 1);
    good = good && within(p.repetition_penalty, static_cast<double>(0.01f), 100);
    good = good && within(p.presence_penalty, -100, 100) && within(p.frequency_penalty, -100, 100);
    good = good && p.top_k >= 0 && p.top_logprobs >= 0 && p.top_logprobs <= 1024;
    for (const LogitBias& bias : p.logit_bias) {
      good = good && bias.token >= 0 && !std::isnan(bias.bias);
      good = good && (std::isfinite(bias.bias) || bias.bias < 0);
    }
    return good ? std::nullopt : std::optional(ErrorCode::invalid_argument);
  }

  // The same of a row and a mask. NaN and +infinity come first, as the row is read first.
  std::optional<ErrorCode> refused(std::span<const float> logits,
                                   std::span<const std::uint32_t> mask) {
    for (const float x : logits) {
      if (std::isnan(x) || x == std::numeric_limits<float>::infinity()) return ErrorCode::numeric;
    }
    const std::size_t words = (logits.size() + 31) / 32;
    if (!mask.empty() && mask.size() != words) return ErrorCode::invalid_argument;
    for (const LogitBias& bias : params_.logit_bias) {
      if (static_cast<std::size_t>(bias.token) >= logits.size()) return ErrorCode::invalid_argument;
    }
    adjust(logits, mask);
    const bool any = std::any_of(x_.begin(), x_.end(), [](double x) { return std::isfinite(x); });
    return any ? std::nullopt : std::optional(ErrorCode::invalid_argument);
  }

  // Of a sample from that row; call refused() first. Empty: it can be right.
  std::string fault(const Sample& got, std::span<const float> logits) const {
    if (got.token < 0 || static_cast<std::size_t>(got.token) >= logits.size()) return "no token";
    const auto t = static_cast<std::size_t>(got.token);
    if (!std::isfinite(x_[t])) return "a token that is not allowed";
    if (std::string text = report_fault(got, logits); !text.empty()) return text;
    if (params_.temperature == 0.0f) return greedy_fault(t);
    return draw_fault(t);
  }

 private:
  static constexpr double kMax = std::numeric_limits<float>::max();
  static constexpr double kUlp = 0x1p-23;

  // x_ with mask, biases and penalties; off_: how far a float may be from it.
  void adjust(std::span<const float> logits, std::span<const std::uint32_t> mask) {
    x_.assign(logits.begin(), logits.end());
    off_.assign(logits.size(), 0.0);
    const auto set = [&](std::size_t i, double x, double off) {
      off_[i] = off + std::fabs(x) * kUlp + 1e-44;
      x_[i] = std::clamp(x, -kMax, kMax);
    };
    for (std::size_t i = 0; i < x_.size() && !mask.empty(); ++i) {
      if ((mask[i / 32] >> (i % 32) & 1u) == 0) x_[i] = -HUGE_VAL;
    }
    for (const LogitBias& bias : params_.logit_bias) {
      const auto i = static_cast<std::size_t>(bias.token);
      if (!std::isfinite(bias.bias)) x_[i] = -HUGE_VAL;
      if (std::isfinite(x_[i])) set(i, x_[i] + static_cast<double>(bias.bias), off_[i]);
    }
    const auto repetition = static_cast<double>(params_.repetition_penalty);
    const auto presence = static_cast<double>(params_.presence_penalty);
    const auto frequency = static_cast<double>(params_.frequency_penalty);
    if (repetition == 1.0 && presence == 0.0 && frequency == 0.0) return;
    for (const auto& [token, count] : seen_) {
      const auto i = static_cast<std::size_t>(token);
      if (i >= x_.size() || !std::isfinite(x_[i])) continue;
      const double factor = x_[i] > 0 ? 1.0 / repetition : repetition;
      // A value that is 0 but for rounding may have gone either way.
      set(i, x_[i] * factor, off_[i] * std::max(repetition, 1.0 / repetition));
      if (count == 0) continue;
      const double taken = frequency * count + presence;
      const double size = std::fabs(frequency) * count + std::fabs(presence);
      set(i, x_[i] - taken, off_[i] + size * kUlp);
    }
  }

  bool surely_better(std::size_t a, std::size_t b) const {
    if (x_[a] - off_[a] > x_[b] + off_[b]) return true;
    return off_[a] == 0.0 && off_[b] == 0.0 && x_[a] == x_[b] && a < b;
  }

  std::string greedy_fault(std::size_t t) const {
    for (std::size_t i = 0; i < x_.size(); ++i) {
      if (surely_better(i, t)) return "not the best one";
    }
    return {};
  }

  // Weights, and what floats may make of them: differences and a scale of 24 bits, an exponential
  // that is good to 2^-20, nothing below the smallest float.
  struct Weight {
    double low = 0.0, high = 0.0;
  };
  std::vector<Weight> weights() const {
    // The scale of the exponent is a float, too.
    const double temperature =
        std::max(static_cast<double>(params_.temperature), 1.4426950408889634 / kMax);
    std::size_t best = 0;
    for (std::size_t i = 0; i < x_.size(); ++i) {
      if (x_[i] > x_[best] || !std::isfinite(x_[best])) best = i;
    }
    double best_off = 0.0;
    for (std::size_t i = 0; i < x_.size(); ++i) {
      if (!surely_better(best, i)) best_off = std::max(best_off, off_[i]);
    }
    std::vector<Weight> out(x_.size());
    for (std::size_t i = 0; i < x_.size(); ++i) {
      if (!std::isfinite(x_[i])) continue;
      const double far = x_[best] - x_[i], off = best_off + off_[i];
      const double high = std::exp(-std::max(0.0, far - off) / temperature * (1.0 - 4.0 * kUlp));
      const double low = std::exp(-(far + off) / temperature * (1.0 + 4.0 * kUlp));
      out[i] = {std::max(0.0, low * (1.0 - 0x1p-20) - 1e-37),
                std::min(1.0, high * (1.0 + 0x1p-20))};
      if (out[i].high < 1e-46) out[i].high = 0.0;  // no float
    }
    return out;
  }

  std::string draw_fault(std::size_t t) const {
    const std::vector<Weight> w = weights();
    if (w[t].high == 0.0) return "a token without weight";
    const double u = plain_uniform(*params_.seed, step_);
    std::vector<std::size_t> order(w.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const bool limits = params_.top_k > 0 || params_.top_p < 1.0f || params_.min_p > 0.0f;
    if (!limits) return place_fault(w, order, t, u, w.size(), w.size());
    if (static_cast<double>(w[t].high) * (1.0 + 1e-6) < static_cast<double>(params_.min_p))
      return "below min_p";
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return x_[a] > x_[b]; });
    const std::size_t most =
        params_.top_k > 0 ? std::min(w.size(), static_cast<std::size_t>(params_.top_k)) : w.size();
    std::size_t better = 0;
    double better_weight = 0.0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      if (!surely_better(i, t)) continue;
      ++better;
      better_weight += w[i].low;
    }
    if (better >= most) return "outside of top_k";
    const Weight kept = kept_weight(w, most);
    const auto top_p = static_cast<double>(params_.top_p);
    if (better_weight > top_p * kept.high * (1.0 + 1e-5)) return "outside of top_p";
    for (std::size_t i = 1; i < order.size(); ++i) {
      const bool same = off_[order[i - 1]] == 0.0 && off_[order[i]] == 0.0;
      if (!same && !surely_better(order[i - 1], order[i])) return {};  // the order may be another
    }
    const auto [least, greatest] = nucleus(w, order, most, kept);
    return place_fault(w, order, t, u, least, greatest);
  }

  // The sum of the `most` largest.
  static Weight kept_weight(const std::vector<Weight>& w, std::size_t most) {
    std::vector<double> low, high;
    for (const Weight& weight : w) {
      low.push_back(weight.low);
      high.push_back(weight.high);
    }
    std::sort(low.rbegin(), low.rend());
    std::sort(high.rbegin(), high.rend());
    Weight sum;
    for (std::size_t i = 0; i < most; ++i) {
      sum.low += low[i];
      sum.high += high[i];
    }
    return sum;
  }

  // How many of `order` top_p and min_p leave: at least, at most.
  std::pair<std::size_t, std::size_t> nucleus(const std::vector<Weight>& w,
                                              const std::vector<std::size_t>& order,
                                              std::size_t most, const Weight& kept) const {
    const auto top_p = static_cast<double>(params_.top_p),
               min_p = static_cast<double>(params_.min_p);
    std::size_t least = 0, greatest = 0;
    double low = 0.0, high = 0.0;
    for (std::size_t i = 0; i < most; ++i) {
      const Weight& weight = w[order[i]];
      if (i == 0 || (high < top_p * kept.low * (1.0 - 1e-5) && weight.low >= min_p * (1.0 + 1e-6)))
        least = least == i ? i + 1 : least;
      if (i == 0 ||
          (low <= top_p * kept.high * (1.0 + 1e-5) && weight.high * (1.0 + 1e-6) >= min_p))
        greatest = i + 1;
      low += weight.low;
      high += weight.high;
    }
    return {least, greatest};
  }

  // The draw stands where the running sum over `order` reaches u times the sum of the first
  // `least` to `greatest`.
  static std::string place_fault(const std::vector<Weight>& w,
                                 const std::vector<std::size_t>& order, std::size_t t, double u,
                                 std::size_t least, std::size_t greatest) {
    Weight before, at, total;
    bool found = false;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const Weight& weight = w[order[i]];
      if (!found && order[i] == t) {
        found = true;
        before = at;
        at = {at.low + weight.low, at.high + weight.high};
      } else if (!found) {
        at = {at.low + weight.low, at.high + weight.high};
      }
      if (i < least) total.low += weight.low;
      if (i < greatest) total.high += weight.high;
    }
    const double tolerance = 1e-5 * total.high;
    if (u * total.low > at.high + tolerance) return "drawn before its place";
    if (u * total.high < before.low - tolerance) return "drawn behind its place";
    return {};
  }

  // Log-softmax of the raw logits, and the best alternatives.
  std::string report_fault(const Sample& got, std::span<const float> logits) const {
    const auto best = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0.0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x) - best);
    const auto wrong = [&](TokenId token, float logprob) {
      const auto logit = static_cast<double>(logits[static_cast<std::size_t>(token)]);
      const double want = logit - best - std::log(sum);
      if (want == -HUGE_VAL) return logprob != -std::numeric_limits<float>::infinity();
      const double off = std::fabs(static_cast<double>(logprob) - std::max(want, -kMax));
      return !(off <= 2e-6 + 4e-7 * std::fabs(want));
    };
    if (wrong(got.token, got.logprob)) return "another logprob";
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    const std::size_t count =
        std::min(order.size(), static_cast<std::size_t>(params_.top_logprobs));
    if (got.top.size() != count) return "another number of alternatives";
    for (std::size_t i = 0; i < count; ++i) {
      if (got.top[i].token != static_cast<TokenId>(order[i])) return "another alternative";
      if (wrong(got.top[i].token, got.top[i].logprob)) return "an alternative's logprob";
    }
    return {};
  }

  SamplingParams params_;
  std::map<TokenId, int> seen_{};
  std::uint64_t step_ = 0;
  std::vector<double> x_{}, off_{};
};

}  // namespace dsv32::fuzz

#endif  // DSV32_TESTS_FUZZ_PLAIN_SAMPLER_H_
