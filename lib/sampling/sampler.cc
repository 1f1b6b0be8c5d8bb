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
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/base/portable_math.h"
#include "lib/sampling/candidates.h"
#include "lib/sampling/sampler_access.h"
#include "lib/sampling/sampling_params.h"

#include "kernels/cpu/table.h"

namespace dsv32 {
namespace {

constexpr float kNever = kNeverLogit;

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
    const FloatState ours;
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

  // Before any work: what is wrong whatever the logits will be.
  void check(std::size_t vocab_size) const { check_biases(params_, vocab_size); }
  void check_allowed(std::span<const std::uint32_t> allowed, std::size_t vocab_size) const {
    check_mask(allowed, vocab_size);
    DSV32_CHECK(leaves_a_token(params_, allowed, vocab_size), invalid_argument,
                "no token is allowed");
  }

  Sample force(std::span<const float> logits, TokenId token) {
    DSV32_CHECK(token >= 0 && static_cast<std::size_t>(token) < logits.size(), invalid_argument,
                "token {} of {} is to be taken", token, logits.size());
    const float best = read_row(logits);
    DSV32_CHECK(best > kNever, invalid_argument, "no token is allowed");
    Sample out{.token = token};
    report(logits, best, weigh(best, 1.0), out);
    accept(token);
    return out;
  }

  Sample sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
    const float raw_best = read_row(logits);
    const auto [best, adjusted] = adjust(raw_best, allowed, logits.size());
    Sample out;
    double total = 0.0;  // of e^(logit - best) over the raw logits; draw() may find it on its way
    out.token = params_.temperature > 0.0f ? draw(best, !adjusted, total) : first_of(best);
    if (adjusted) std::copy(logits.begin(), logits.end(), row_.begin());
    if (adjusted || params_.temperature == 0.0f || params_.temperature > 1.0f)
      total = weigh(raw_best, 1.0);
    report(logits, raw_best, total, out);
    accept(out.token);
    return out;
  }

  TokenId guess(std::span<const TokenId> ahead, std::span<const float> logits,
                std::span<const std::uint32_t> allowed) {
    const Ahead counted(*this, ahead);
    const float raw_best = read_row(logits);
    const auto [best, adjusted] = adjust(raw_best, allowed, logits.size());
    double total = 0.0;
    return params_.temperature > 0.0f ? draw(best, !adjusted, total) : first_of(best);
  }

 private:
  // Counts tokens as output while it lives.
  class Ahead {
   public:
    Ahead(Impl& of, std::span<const TokenId> tokens) : of_(of), tokens_(tokens) {
      added_.reserve(tokens.size());
      for (const TokenId token : tokens) {
        if (!of.seen_.contains(token)) added_.push_back(token);
        of.accept(token);
      }
    }
    ~Ahead() {
      of_.step_ -= tokens_.size();
      for (const TokenId token : tokens_) --of_.seen_[token];
      for (const TokenId token : added_) of_.seen_.erase(token);
    }
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

   private:
    Impl& of_;
    std::span<const TokenId> tokens_;
    std::vector<TokenId> added_;
  };

  // The best logit and whether it is another one now; what biases, penalties and the mask make of
  // row_.
  std::pair<float, bool> adjust(float best, std::span<const std::uint32_t> allowed,
                                std::size_t vocab_size) {
    const bool adjusted = adjust_row(params_, allowed, seen_, std::span(row_).first(vocab_size));
    if (adjusted) find_maxima(best);
    DSV32_CHECK(best > kNever, invalid_argument, "no token is allowed");
    return {best, adjusted};
  }

  // The lowest id whose logit is `best`.
  TokenId first_of(float best) const {
    const auto block = std::find(maxima_.begin(), maxima_.end(), best) - maxima_.begin();
    const auto begin = row_.begin() + block * static_cast<std::ptrdiff_t>(kLogitBlock);
    return static_cast<TokenId>(std::find(begin, row_.end(), best) - row_.begin());
  }

  // row_ = logits in whole blocks, and their maxima; returns the largest. Throws numeric.
  float read_row(std::span<const float> logits) {
    float best = kNever;
    row_.assign(logits.begin(), logits.end());
    row_.resize(block_count(logits.size()) * kLogitBlock, kNever);
    if (!find_maxima(best)) refuse(logits);
    return best;
  }

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

  // Log-softmax of the raw logits, for the drawn token and the alternatives: `total` is the sum of
  // e^(logit - best). Beside a large logit log(total) would be lost: there it is taken off last.
  void report(std::span<const float> logits, float best, double total, Sample& out) const {
    constexpr float kLarge = 0x1p24f;
    constexpr double kLeast = std::numeric_limits<float>::lowest();
    const double far = std::fabs(best) < kLarge ? 0.0 : static_cast<double>(best);
    const double near = static_cast<double>(best) - far + portable_log(total);
    const auto logprob = [&](TokenId token) {
      const float logit = logits[static_cast<std::size_t>(token)];
      if (logit == kNever) return kNever;
      return static_cast<float>(std::max(static_cast<double>(logit) - far - near, kLeast));
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
  SeenTokens seen_;
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

void Sampler::observe(std::span<const TokenId> prompt) {
  const FloatState ours;
  held(impl_).observe(prompt);
}
void Sampler::accept(TokenId token) {
  const FloatState ours;
  held(impl_).accept(token);
}
std::uint64_t Sampler::seed() const noexcept { return impl_ != nullptr ? impl_->seed() : 0; }

void SamplerAccess::use_kernels(Sampler& sampler, std::string_view kernel_set) {
  sampler.impl_->use_kernels(row_kernels(kernel_set));
}
void SamplerAccess::check(const Sampler& sampler, std::size_t vocab_size) {
  const FloatState ours;
  held(sampler.impl_).check(vocab_size);
}
void SamplerAccess::check_mask(const Sampler& sampler, std::span<const std::uint32_t> allowed,
                               std::size_t vocab_size) {
  held(sampler.impl_).check_allowed(allowed, vocab_size);
}
Sample SamplerAccess::force(Sampler& sampler, std::span<const float> logits, TokenId token) {
  const FloatState ours;
  return held(sampler.impl_).force(logits, token);
}
TokenId SamplerAccess::guess(Sampler& sampler, std::span<const TokenId> ahead,
                             std::span<const float> logits,
                             std::span<const std::uint32_t> allowed) {
  const FloatState ours;
  return held(sampler.impl_).guess(ahead, logits, allowed);
}
std::string_view SamplerAccess::kernels(const Sampler& sampler) noexcept {
  return sampler.impl_->kernels().name;
}

Sample Sampler::sample(std::span<const float> logits, std::span<const std::uint32_t> allowed) {
  Impl& impl = held(impl_);
  const FloatState ours;
  return impl.sample(logits, allowed);
}

}  // namespace dsv32
