// Runs two models over the same tokens and compares what they predict.
#include "cli/compare_models.h"

#include <algorithm>
#include <cmath>

#include "dsv32/session.h"

namespace cli {
namespace {

constexpr std::size_t kStep = 32;  // tokens: 16 MB of logits a model at full size

double log_sum(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  return top + std::log(sum);
}

// A session that keeps the logits of what it appended last.
class Reader {
 public:
  explicit Reader(const dsv32::Model& model) : session_(model) {
    session_.observe({.logits = true}, [this](const dsv32::Trace& trace) {
      logits_.insert(logits_.end(), trace.logits.begin(), trace.logits.end());
    });
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  std::span<const float> read(std::span<const dsv32::TokenId> tokens, std::stop_token cancel) {
    logits_.clear();
    session_.append(tokens, std::move(cancel));
    return logits_;
  }

 private:
  dsv32::Session session_;
  std::vector<float> logits_;
};

std::ptrdiff_t best(std::span<const float> row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

}  // namespace

double divergence(std::span<const float> p, std::span<const float> q) {
  const double p_sum = log_sum(p), q_sum = log_sum(q);
  double result = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - p_sum;
    result += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_sum));
  }
  return std::max(result, 0.0);
}

Comparison compare_models(const dsv32::Model& first, const dsv32::Model& second,
                          std::span<const std::vector<dsv32::TokenId>> texts,
                          const std::function<void(double)>& on_progress, std::stop_token cancel) {
  const auto vocab = static_cast<std::size_t>(first.config().vocab_size);
  Comparison result;
  std::size_t total = 0, agreed = 0;
  for (const auto& text : texts) total += text.size();
  for (const auto& text : texts) {
    Reader one(first), two(second);
    for (std::size_t at = 0; at < text.size(); at += kStep) {
      const auto tokens = std::span(text).subspan(at, std::min(kStep, text.size() - at));
      const std::span<const float> a = one.read(tokens, cancel), b = two.read(tokens, cancel);
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto p = a.subspan(i * vocab, vocab), q = b.subspan(i * vocab, vocab);
        const double kl = divergence(p, q);
        result.mean_kl += kl;
        result.max_kl = std::max(result.max_kl, kl);
        agreed += best(p) == best(q) ? 1U : 0U;
      }
      result.tokens += tokens.size();
      on_progress(static_cast<double>(result.tokens) / static_cast<double>(total));
    }
  }
  result.mean_kl /= static_cast<double>(std::max<std::size_t>(result.tokens, 1));
  result.top1 =
      static_cast<double>(agreed) / static_cast<double>(std::max<std::size_t>(result.tokens, 1));
  return result;
}

}  // namespace cli
