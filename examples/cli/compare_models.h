// How far one model's predictions are from another's.
#ifndef EXAMPLES_CLI_COMPARE_MODELS_H_
#define EXAMPLES_CLI_COMPARE_MODELS_H_

#include <cstddef>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "dsv32/model.h"

namespace cli {

struct Comparison {
  std::size_t tokens = 0;
  double mean_kl = 0.0;  // nats, of the first model's distribution against the second's
  double max_kl = 0.0;
  double top1 = 0.0;  // share of positions with the same best token
};

// After every token of every text. Holds logits of a few tokens at a time.
Comparison compare_models(const dsv32::Model& first, const dsv32::Model& second,
                          std::span<const std::vector<dsv32::TokenId>> texts,
                          const std::function<void(double)>& on_progress, std::stop_token cancel);

// Sum over p log(p / q) of the softmax of two rows of logits.
double divergence(std::span<const float> p, std::span<const float> q);

}  // namespace cli

#endif  // EXAMPLES_CLI_COMPARE_MODELS_H_
