// Sampler: penalties, temperature, top_k, top_p, min_p, and a draw from Philox (seed, step).
#include "dsv32/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <unordered_map>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/portable_math.h"

namespace dsv32 {
namespace {

constexpr int kMaxTopLogprobs = 1024;
constexpr std::size_t kMaxBiases = 1u << 20;
constexpr float kNever = -std::numeric_limits<float>::infinity();

void check_params(const SamplingParams& p) {
  const auto finite = [](float x, float low, float high, const char* name) {
    DSV32_CHECK(std::isfinite(x) && x >= low && x <= high, invalid_argument,
                "{} is {}, not in {}..{}", name, x, low, high);
  };
  constexpr float kMax = std::numeric_limits<float>::max();
  finite(p.temperature, 0.0f, kMax, "temperature");
  finite(p.top_p, 0.0f, 1.0f, "top_p");
  finite(p.min_p, 0.0f, 1.0f, "min_p");
  finite(p.repetition_penalty, std::numeric_limits<float>::min(), kMax, "repetition_penalty");
  finite(p.presence_penalty, -kMax, kMax, "presence_penalty");
  finite(p.frequency_penalty, -kMax, kMax, "frequency_penalty");
  DSV32_CHECK(p.top_k >= 0, invalid_argument, "top_k is {}, below 0", p.top_k);
  DSV32_CHECK(p.top_logprobs >= 0 && p.top_logprobs <= kMaxTopLogprobs, invalid_argument,
              "top_logprobs is {}, not in 0..{}", p.top_logprobs, kMaxTopLogprobs);
  DSV32_CHECK(p.logit_bias.size() <= kMaxBiases, limit, "{} logit biases, more than {}",
              p.logit_bias.size(), kMaxBiases);
  for (const LogitBias& bias : p.logit_bias) {
    DSV32_CHECK(bias.token >= 0, invalid_argument, "logit_bias for token {}", bias.token);
    DSV32_CHECK(bias.bias < std::numeric_limits<float>::infinity(), invalid_argument,
                "logit_bias of token {} is {}", bias.token, bias.bias);
  }
}

// Philox-4x32-10 (Salmon et al., SC 2011): a number in [0, 1) with 53 bits for (seed, step).
double uniform(std::uint64_t seed, std::uint64_t step) {
  std::array<std::uint32_t, 4> c = {static_cast<std::uint32_t>(step),
                                    static_cast<std::uint32_t>(step >> 32), 0, 0};
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0],
                        b = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const std::uint64_t bits = (std::uint64_t{c[0]} << 32 | c[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

struct Candidate {
  TokenId token = 0;
  float logit = 0.0f;
  double weight = 0.0;
};

// Higher logit first, then the lower id.
bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

double total_weight(std::span<const Candidate> candidates) {
  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

// Moves the `count` best to the front, in order.
void sort_front(std::vector<Candidate>& c, std::size_t count) {
  if (count < c.size()) {
    std::nth_element(c.begin(), c.begin() + static_cast<std::ptrdiff_t>(count), c.end(), better);
  }
  std::sort(c.begin(), c.begin() + static_cast<std::ptrdiff_t>(std::min(count, c.size())), better);
}

// Keeps the shortest prefix, best first, that holds at least `top_p` of all weight.
void keep_top_p(std::vector<Candidate>& c, double top_p) {
  const double wanted = top_p * total_weight(c);
  for (std::size_t sorted = 64;; sorted *= 8) {  // most of the weight is usually in front
    sort_front(c, sorted);
    double sum = 0.0;
    for (std::size_t i = 0; i < std::min(sorted, c.size()); ++i) {
      sum += c[i].weight;
      if (sum < wanted && i + 1 < c.size()) continue;
      c.resize(i + 1);
      return;
    }
  }
}

}  // namespace

class Sampler::Impl {
 public:
  explicit Impl(const SamplingParams& params) : params_(params) {
    check_params(params_);
    std::random_device device;
    seed_ = params_.seed ? *params_.seed : std::uint64_t{device()} << 32 | device();
  }

  std::uint64_t seed() const { return seed_; }

  void observe(std::span<const TokenId> prompt) {
    for (const TokenId token : prompt) seen_.try_emplace(token, 0);
  }

  void accept(TokenId token) {
    ++seen_[token];
    ++step_;
  }

  Sample sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
    check_logits(logits);
    adjust(logits, allowed);
    const auto best = std::max_element(work_.begin(), work_.end());  // the first of equals
    DSV32_CHECK(!work_.empty() && *best > kNever, invalid_argument, "no token is allowed");
    Sample out;
    out.token = static_cast<TokenId>(best - work_.begin());
    if (params_.temperature > 0.0f) out.token = draw(*best);
    report(logits, out);
    accept(out.token);
    return out;
  }

 private:
  static void check_logits(std::span<const float> logits) {
    for (std::size_t i = 0; i < logits.size(); ++i) {
      DSV32_CHECK(logits[i] < std::numeric_limits<float>::infinity(), numeric,
                  "the logit of token {} is {}", i, logits[i]);  // NaN fails the comparison, too
    }
  }

  // work_ = logits with mask, biases and penalties.
  void adjust(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
    DSV32_CHECK(allowed.empty() || allowed.size() == (logits.size() + 31) / 32, invalid_argument,
                "a mask of {} words for {} tokens", allowed.size(), logits.size());
    work_.assign(logits.begin(), logits.end());
    for (std::size_t i = 0; i < work_.size() && !allowed.empty(); ++i) {
      if ((allowed[i / 32] >> (i % 32) & 1u) == 0) work_[i] = kNever;
    }
    for (const LogitBias& bias : params_.logit_bias) {
      DSV32_CHECK(static_cast<std::size_t>(bias.token) < work_.size(), invalid_argument,
                  "logit_bias for token {} of {}", bias.token, work_.size());
      float& x = work_[static_cast<std::size_t>(bias.token)];
      x = finite_or_never(x + bias.bias);
    }
    const bool penalties = params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
                           params_.frequency_penalty != 0.0f;
    if (!penalties) return;
    for (const auto& [token, count] : seen_) {
      if (token < 0 || static_cast<std::size_t>(token) >= work_.size()) continue;
      float& x = work_[static_cast<std::size_t>(token)];
      if (x == kNever) continue;
      x = x > 0 ? x / params_.repetition_penalty : x * params_.repetition_penalty;
      if (count == 0) continue;  // prompt only
      x -= params_.frequency_penalty * static_cast<float>(count) + params_.presence_penalty;
      x = std::clamp(x, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
    }
  }

  // Finite parts may have an infinite sum; only -infinity means something.
  static float finite_or_never(float x) { return std::min(x, std::numeric_limits<float>::max()); }

  TokenId draw(float best) {
    candidates_.clear();
    for (std::size_t i = 0; i < work_.size(); ++i) {
      const double distance = static_cast<double>(work_[i]) - static_cast<double>(best);
      const double weight = portable_exp(distance / static_cast<double>(params_.temperature));
      if (weight > 0.0) candidates_.push_back({static_cast<TokenId>(i), work_[i], weight});
    }
    if (params_.top_k > 0 && static_cast<std::size_t>(params_.top_k) < candidates_.size()) {
      sort_front(candidates_, static_cast<std::size_t>(params_.top_k));
      candidates_.resize(static_cast<std::size_t>(params_.top_k));
    }
    if (params_.top_p < 1.0f) keep_top_p(candidates_, static_cast<double>(params_.top_p));
    if (params_.min_p > 0.0f) {  // the best one's weight is 1
      std::erase_if(candidates_, [&](const Candidate& c) {
        return c.weight < static_cast<double>(params_.min_p);
      });
    }
    double left = uniform(seed_, step_) * total_weight(candidates_);
    for (const Candidate& c : candidates_) {
      left -= c.weight;
      if (left < 0.0) return c.token;
    }
    return candidates_.back().token;
  }

  // Log-softmax of the raw logits, for the drawn token and the alternatives.
  void report(std::span<const float> logits, Sample& out) {
    const float best = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float x : logits)
      sum += portable_exp(static_cast<double>(x) - static_cast<double>(best));
    const double offset = static_cast<double>(best) + portable_log(sum);
    const auto logprob = [&](TokenId token) {
      return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(token)]) -
                                offset);
    };
    out.logprob = logprob(out.token);
    if (params_.top_logprobs == 0) return;
    candidates_.clear();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      candidates_.push_back({static_cast<TokenId>(i), logits[i], 0.0});
    }
    const std::size_t count =
        std::min<std::size_t>(static_cast<std::size_t>(params_.top_logprobs), logits.size());
    sort_front(candidates_, count);
    for (std::size_t i = 0; i < count; ++i) {
      out.top.push_back({candidates_[i].token, logprob(candidates_[i].token)});
    }
  }

  SamplingParams params_;
  std::uint64_t seed_ = 0, step_ = 0;
  std::unordered_map<TokenId, int> seen_;  // count in the output; 0: in the prompt only
  std::vector<float> work_;
  std::vector<Candidate> candidates_;
};

Sampler::Sampler(const SamplingParams& params) : impl_(std::make_unique<Impl>(params)) {}
Sampler::Sampler(const Sampler& other) : impl_(std::make_unique<Impl>(*other.impl_)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler other) noexcept {
  impl_ = std::move(other.impl_);
  return *this;
}
Sampler::~Sampler() = default;

void Sampler::observe(std::span<const TokenId> prompt) { impl_->observe(prompt); }
void Sampler::accept(TokenId token) { impl_->accept(token); }
std::uint64_t Sampler::seed() const noexcept { return impl_->seed(); }

Sample Sampler::sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
  return impl_->sample(logits, allowed);
}

}  // namespace dsv32
