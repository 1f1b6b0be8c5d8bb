// bind_weights: the walk, then aligned f32 copies of gains and biases.
#include "lib/weights/weights.h"

#include <utility>
#include <vector>

#include "lib/base/check.h"
#include "lib/base/floats.h"
#include "lib/weights/binder.h"

namespace dsv32 {
namespace {

// Every norm gain and bias of a model, 8 MB at full size.
template <class Visit>
void for_each_gain(LayerWeights& layer, Visit&& visit) {
  visit(layer.input_layernorm);
  visit(layer.post_attention_layernorm);
  visit(layer.attention.q_a_norm);
  visit(layer.attention.kv_a_norm);
  if (layer.indexer) {
    visit(layer.indexer->k_norm);
    visit(layer.indexer->k_bias);
  }
  if (layer.moe) visit(layer.moe->e_score_correction_bias);
}

template <class Visit>
void for_each_gain(ModelWeights& weights, Visit&& visit) {
  visit(weights.norm);
  for (LayerWeights& layer : weights.layers) for_each_gain(layer, visit);
  if (!weights.mtp) return;
  visit(weights.mtp->enorm);
  visit(weights.mtp->hnorm);
  visit(weights.mtp->shared_head_norm);
  for_each_gain(weights.mtp->layer, visit);
}

}  // namespace

ModelWeights bind_weights(const ModelConfig& config, const Shards& shards, Backend& backend,
                          const BindOptions& options) {
  BindOptions at_least_scales = options;
  if (options.verify == Verify::headers) at_least_scales.verify = Verify::scales;
  Binder binder(config, shards, at_least_scales);
  binder.walk();
  const std::vector<Problem> problems = binder.problems();
  if (!problems.empty()) throw Error(problems.front().code, problems.front().message);
  ModelWeights weights = std::move(binder.weights);
  std::int64_t floats = 0;
  for_each_gain(weights, [&](TensorView& gain) { floats += (gain.cols + 15) / 16 * 16; });
  weights.gains = backend.allocate(static_cast<std::size_t>(floats) * sizeof(float));
  auto* next = static_cast<float*>(weights.gains.get());
  for_each_gain(weights, [&](TensorView& gain) {
    std::vector<float> values(static_cast<std::size_t>(gain.cols));
    for (std::int64_t i = 0; i < gain.cols; ++i)
      values[static_cast<std::size_t>(i)] =
          read_element(gain.data, gain.dtype, static_cast<std::size_t>(i));
    const TensorView copy{.data = reinterpret_cast<std::byte*>(next),
                          .dtype = DType::f32,
                          .rows = 1,
                          .cols = gain.cols,
                          .stride = gain.cols};
    backend.upload(copy, values.data());
    gain = copy;
    next += (gain.cols + 15) / 16 * 16;
  });
  return weights;
}

}  // namespace dsv32
