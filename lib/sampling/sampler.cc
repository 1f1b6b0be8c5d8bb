// Sampler: penalties, temperature, top_k, top_p, min_p, and a draw from Philox (seed, step).
#include "dsv32/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/held.h"
#include "lib/base/portable_math.h"
#include "lib/sampling/candidates.h"
#include "lib/sampling/sampler_access.h"

#include "kernels/cpu/table.h"

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

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

constexpr std::size_t kLogitBlock = kernels::kLogitBlock;

// The set whose passes run beside a Model with the set of that name (SamplerAccess::use_kernels).
const kernels::CpuKernels& row_kernels(std::string_view name) {
  const kernels::CpuTables sets = kernels::runnable_cpu_tables();
  const int reference = sets.count - 1, portable = sets.count - 2;
  if (name == sets.tables[reference]->name) return *sets.tables[portable];
  for (int i = 0; i <= portable; ++i) {
    if (name == sets.tables[i]->name) return *sets.tables[i];
  }
  return *sets.tables[0];
}

std::size_t block_count(std::size_t size) { return (size + kLogitBlock - 1) / kLogitBlock; }

}  // namespace

class Sampler::Impl {
 public:
  static constexpr std::string_view kOwner = "Sampler";
  explicit Impl(const SamplingParams& params) : params_(params) {
    check_params(params_);
    seed_ = params_.seed ? *params_.seed : random_seed();
  }

  std::uint64_t seed() const { return seed_; }
  void use_kernels(const kernels::CpuKernels& set) { kernels_ = &set; }
  const kernels::CpuKernels& kernels() const { return *kernels_; }

  void observe(std::span<const TokenId> prompt) {
    for (const TokenId token : prompt) seen_.try_emplace(token, 0);
  }

  void accept(TokenId token) {
    ++seen_[token];
    ++step_;
  }

  Sample sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
    float raw_best = kNever;
    row_.assign(logits.begin(), logits.end());
    row_.resize(block_count(logits.size()) * kLogitBlock, kNever);
    if (!find_maxima(raw_best)) refuse(logits);
    float best = raw_best;
    const bool adjusted = adjust(std::span(row_).first(logits.size()), allowed);
    if (adjusted) find_maxima(best);
    DSV32_CHECK(best > kNever, invalid_argument, "no token is allowed");
    Sample out;
    double total = 0.0;  // of e^(logit - best) over the raw logits; draw() may find it on its way
    if (params_.temperature > 0.0f) {
      out.token = draw(best, !adjusted, total);
    } else {
      const auto block = std::find(maxima_.begin(), maxima_.end(), best) - maxima_.begin();
      const auto begin = row_.begin() + block * static_cast<std::ptrdiff_t>(kLogitBlock);
      out.token = static_cast<TokenId>(std::find(begin, row_.end(), best) - row_.begin());
    }
    if (adjusted) std::copy(logits.begin(), logits.end(), row_.begin());
    if (adjusted || params_.temperature == 0.0f || params_.temperature > 1.0f)
      total = weigh(raw_best, 1.0);
    report(logits, static_cast<double>(raw_best) + portable_log(total), out);
    accept(out.token);
    return out;
  }

 private:
  [[noreturn]] static void refuse(std::span<const float> logits) {
    std::size_t i = 0;
    while (logits[i] < std::numeric_limits<float>::infinity()) ++i;  // NaN fails, too
    throw Error(ErrorCode::numeric, formatted("the logit of token {} is {}", i, logits[i]));
  }

  // The blocks' maxima of row_, and the largest of them; false if a logit is NaN or +infinity.
  bool find_maxima(float& best) {
    maxima_.resize(row_.size() / kLogitBlock);
    bool usable = true;
    kernels_->logit_maxima({.row = row_.data(),
                            .maxima = maxima_.data(),
                            .usable = &usable,
                            .num_blocks = static_cast<std::int64_t>(maxima_.size())});
    best = kNever;
    for (const float x : maxima_) best = std::max(best, x);
    return usable;
  }

  void weigh_blocks(const float* row, std::size_t count, float best, float scale, float* weights,
                    double* sums) const {
    kernels_->logit_weights({.row = row,
                             .weights = weights,
                             .sums = sums,
                             .best = best,
                             .scale = scale,
                             .num_blocks = static_cast<std::int64_t>(count)});
  }

  // weights_ = e^((row_ - best) / temperature), sums_ of its blocks; returns their sum.
  double weigh(float best, double temperature) {
    weights_.resize(row_.size());
    sums_.resize(maxima_.size());
    weigh_blocks(row_.data(), sums_.size(), best, exponent_scale(temperature), weights_.data(),
                 sums_.data());
    double total = 0.0;
    for (const double x : sums_) total += x;
    return total;
  }

  // The same for a temperature below 1, when weigh(best, 1) has just run: w^(1/t) of a block sums
  // up to at most (its largest w)^(1/t - 1) times its sum of w. Blocks so light that all of them
  // together are less than the weights' own error (2^-22) get no weight, and cost nothing.
  double weigh_colder(float best, double temperature) {
    constexpr double kLight = 0x1p-22;
    maxima_.resize(block_count(maxima_.size()) * kLogitBlock, kNever);  // whole blocks, for a while
    bounds_.resize(maxima_.size());
    bound_sums_.resize(maxima_.size() / kLogitBlock);
    const double scale = 1.4426950408889634 * (1.0 / temperature - 1.0);
    weigh_blocks(maxima_.data(), bound_sums_.size(), best, as_scale(scale), bounds_.data(),
                 bound_sums_.data());
    maxima_.resize(sums_.size());
    double total = 0.0;
    const double limit = kLight / static_cast<double>(sums_.size());
    for (std::size_t b = 0; b < sums_.size(); ++b) {
      if (static_cast<double>(bounds_[b]) * sums_[b] <= limit) {
        sums_[b] = 0.0;
        continue;
      }
      weigh_blocks(row_.data() + b * kLogitBlock, 1, best, exponent_scale(temperature),
                   weights_.data() + b * kLogitBlock, &sums_[b]);
      total += sums_[b];
    }
    return total;
  }

  // 1 / (temperature ln 2), as large as a float can be.
  static float exponent_scale(double temperature) {
    return as_scale(1.4426950408889634 / temperature);
  }
  static float as_scale(double scale) {
    return static_cast<float>(
        std::min(scale, static_cast<double>(std::numeric_limits<float>::max())));
  }

  // Puts mask, biases and penalties on `row`; false if there are none.
  bool adjust(std::span<float> row, std::span<const std::uint32_t> allowed) const {
    DSV32_CHECK(allowed.empty() || allowed.size() == (row.size() + 31) / 32, invalid_argument,
                "a mask of {} words for {} tokens", allowed.size(), row.size());
    for (std::size_t i = 0; i < row.size() && !allowed.empty(); ++i) {
      if ((allowed[i / 32] >> (i % 32) & 1u) == 0) row[i] = kNever;
    }
    for (const LogitBias& bias : params_.logit_bias) {
      DSV32_CHECK(static_cast<std::size_t>(bias.token) < row.size(), invalid_argument,
                  "logit_bias for token {} of {}", bias.token, row.size());
      float& x = row[static_cast<std::size_t>(bias.token)];
      x = finite_or_never(x + bias.bias);
    }
    const bool penalties = params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
                           params_.frequency_penalty != 0.0f;
    if (!penalties) return !allowed.empty() || !params_.logit_bias.empty();
    for (const auto& [token, count] : seen_) {
      if (token < 0 || static_cast<std::size_t>(token) >= row.size()) continue;
      float& x = row[static_cast<std::size_t>(token)];
      if (x == kNever) continue;
      x = x > 0 ? x / params_.repetition_penalty : x * params_.repetition_penalty;
      if (count == 0) continue;  // prompt only
      x -= params_.frequency_penalty * static_cast<float>(count) + params_.presence_penalty;
      x = std::clamp(x, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
    }
    return true;
  }

  // Finite parts may have an infinite sum; only -infinity means something.
  static float finite_or_never(float x) { return std::min(x, std::numeric_limits<float>::max()); }

  // From row_, whose largest is `best`. `is_raw`: nothing was put on the logits; then `raw_total`
  // is set for temperatures up to 1.
  TokenId draw(float best, bool is_raw, double& raw_total) {
    const auto temperature = static_cast<double>(params_.temperature);
    const bool colder = is_raw && temperature < 1.0;
    double total = weigh(best, colder ? 1.0 : temperature);
    raw_total = total;
    if (colder) total = weigh_colder(best, temperature);
    const double u = uniform(seed_, step_);
    const auto top_k = static_cast<std::size_t>(params_.top_k);
    if (top_k == 0 && params_.top_p >= 1.0f && params_.min_p <= 0.0f) return at_weight(u * total);
    Candidates& c = candidates_;
    double kept = total;
    if (top_k > 0) {
      gather(best, kth_bound(top_k));
      c.keep_best(top_k);
      kept = c.total();
    } else {
      gather_front(best, total);
    }
    if (params_.top_p < 1.0f) c.keep_weight(static_cast<double>(params_.top_p) * kept);
    if (params_.min_p > 0.0f) c.drop_below(params_.min_p);  // the best one's weight is 1
    return c.at_weight(u * c.total());
  }

  // Without limits: the token at which the sum over tokens in their own order reaches `target`.
  TokenId at_weight(double target) const {
    std::size_t block = 0;  // the last one with weights, should rounding miss the target
    for (std::size_t b = 0; b < sums_.size(); ++b) {
      if (sums_[b] <= 0.0) continue;  // its weights are not set
      block = b;
      if (sums_[b] >= target) break;
      target -= sums_[b];
    }
    std::size_t token = block * kLogitBlock;
    for (std::size_t i = token; i < (block + 1) * kLogitBlock; ++i) {
      if (weights_[i] <= 0.0f) continue;
      token = i;
      target -= static_cast<double>(weights_[i]);
      if (target <= 0.0) break;
    }
    return static_cast<TokenId>(token);
  }

  // At least k tokens are as good: as many blocks hold one.
  float kth_bound(std::size_t k) const {
    if (k >= maxima_.size()) return kNever;
    std::vector<float> maxima = maxima_;
    const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(maxima.begin(), kth, maxima.end(), std::greater<>());
    return *kth;
  }

  // candidates_ = the tokens of row_ from `least` on, that have a weight.
  void gather(float best, float least) {
    candidates_.clear();
    for (std::size_t b = 0; b < maxima_.size(); ++b) {
      if (maxima_[b] < least || sums_[b] <= 0.0) continue;
      for (std::size_t i = b * kLogitBlock; i < (b + 1) * kLogitBlock; ++i) {
        if (row_[i] >= least && weights_[i] > 0.0f)
          candidates_.add({static_cast<TokenId>(i), row_[i], weights_[i]});
      }
    }
    candidates_.rank(best, exponent_scale(static_cast<double>(params_.temperature)));
  }

  // Most of the weight is usually in front: as many as top_p and min_p need, and not many more.
  void gather_front(float best, double total) {
    const double wanted = static_cast<double>(params_.top_p) * total;
    const float needed =  // of what min_p leaves
        params_.min_p > 0.0f
            ? 0.01f - static_cast<float>(portable_log(static_cast<double>(params_.min_p)))
            : std::numeric_limits<float>::infinity();
    for (const float reach : {4.0f, 8.0f, 16.0f}) {
      gather(best, best - std::min(reach, needed) * params_.temperature);
      if (candidates_.total() >= wanted || reach >= needed) return;
    }
    gather(best, kNever);
  }

  // Log-softmax of the raw logits, for the drawn token and the alternatives.
  void report(std::span<const float> logits, double offset, Sample& out) {
    const auto logprob = [&](TokenId token) {
      return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(token)]) -
                                offset);
    };
    out.logprob = logprob(out.token);
    if (params_.top_logprobs == 0) return;
    const std::size_t count =
        std::min<std::size_t>(static_cast<std::size_t>(params_.top_logprobs), logits.size());
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count),
                      order.end(), [&](TokenId a, TokenId b) {
                        const float x = logits[static_cast<std::size_t>(a)];
                        const float y = logits[static_cast<std::size_t>(b)];
                        return x > y || (x == y && a < b);
                      });
    for (std::size_t i = 0; i < count; ++i) out.top.push_back({order[i], logprob(order[i])});
  }

  SamplingParams params_;
  const kernels::CpuKernels* kernels_ = &row_kernels({});
  std::uint64_t seed_ = 0, step_ = 0;
  std::unordered_map<TokenId, int> seen_;  // count in the output; 0: in the prompt only
  // Scratch, kept from call to call: whole blocks, with -infinity behind the row.
  std::vector<float> row_, weights_, maxima_, bounds_;
  std::vector<double> sums_, bound_sums_;
  Candidates candidates_;
};

Sampler::Sampler(const SamplingParams& params) : impl_(std::make_unique<Impl>(params)) {}
Sampler::Sampler(const Sampler& other) : impl_(copy_held(other.impl_)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler other) noexcept {
  impl_ = std::move(other.impl_);
  return *this;
}
Sampler::~Sampler() = default;

void Sampler::observe(std::span<const TokenId> prompt) { held(impl_).observe(prompt); }
void Sampler::accept(TokenId token) { held(impl_).accept(token); }
std::uint64_t Sampler::seed() const noexcept { return impl_ != nullptr ? impl_->seed() : 0; }

void SamplerAccess::use_kernels(Sampler& sampler, std::string_view kernel_set) {
  sampler.impl_->use_kernels(row_kernels(kernel_set));
}
std::string_view SamplerAccess::kernels(const Sampler& sampler) noexcept {
  return sampler.impl_->kernels().name;
}

Sample Sampler::sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
  return held(impl_).sample(logits, allowed);
}

}  // namespace dsv32
