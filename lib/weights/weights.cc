// read_weights is the walk over the files, bind_weights the hand-over to a backend.
#include "lib/weights/weights.h"

#include <algorithm>
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

// Every matrix; experts by `visit_experts`.
template <class Visit>
void for_each_matrix(MlpWeights& mlp, Visit&& visit) {
  visit(mlp.gate);
  visit(mlp.up);
  visit(mlp.down);
}

template <class Visit, class VisitExperts>
void for_each_matrix(LayerWeights& layer, Visit&& visit, VisitExperts&& visit_experts) {
  AttentionWeights& a = layer.attention;
  for (Weight* w : {&a.q_a, &a.q_b, &a.kv_a, &a.kv_b, &a.o}) visit(*w);
  if (layer.indexer) {
    for (Weight* w : {&layer.indexer->wq_b, &layer.indexer->wk, &layer.indexer->weights}) visit(*w);
  }
  if (layer.mlp) for_each_matrix(*layer.mlp, visit);
  if (!layer.moe) return;
  visit(layer.moe->gate);
  for_each_matrix(layer.moe->shared_experts, visit);
  visit_experts(layer.moe->expert_gate);
  visit_experts(layer.moe->expert_up);
  visit_experts(layer.moe->expert_down);
}

template <class Visit, class VisitExperts>
void for_each_matrix(ModelWeights& weights, Visit&& visit, VisitExperts&& visit_experts) {
  visit(weights.embed_tokens);
  visit(weights.lm_head);
  for (LayerWeights& layer : weights.layers) for_each_matrix(layer, visit, visit_experts);
  if (!weights.mtp) return;
  MtpWeights& mtp = *weights.mtp;
  for (Weight* w : {&mtp.embed_tokens, &mtp.eh_proj, &mtp.shared_head}) visit(*w);
  for_each_matrix(mtp.layer, visit, visit_experts);
}

void bind_gains(ModelWeights& weights, Backend& backend) {
  std::int64_t floats = 0;
  for_each_gain(weights, [&](TensorView& gain) { floats += (gain.cols + 15) / 16 * 16; });
  weights.gains = backend.allocate(static_cast<std::size_t>(floats) * sizeof(float));
  auto* next = static_cast<std::byte*>(weights.gains.get());
  for_each_gain(weights, [&](TensorView& gain) {
    std::vector<float> values(static_cast<std::size_t>(gain.cols));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = read_element(gain.data, gain.dtype, i);
    gain = {.data = next, .dtype = DType::f32, .rows = 1, .cols = gain.cols, .stride = gain.cols};
    backend.upload(gain, values.data());
    next += (gain.cols + 15) / 16 * 64;
  });
}

}  // namespace

ModelWeights read_weights(const ModelConfig& config, const Shards& shards,
                          const BindOptions& options,
                          FunctionRef<void(const std::string& message)> warn) {
  BindOptions at_least_scales = options;
  if (options.verify == Verify::headers) at_least_scales.verify = Verify::scales;
  Binder binder(config, shards, at_least_scales);
  binder.walk();
  const std::vector<Problem> problems = binder.problems();
  if (!problems.empty()) throw Error(problems.front().code, problems.front().message);
  if (const std::string unused = binder.unused(); !unused.empty()) warn(unused);
  return std::move(binder.weights);
}

std::uint32_t weight_formats(const ModelWeights& weights) {
  std::uint32_t formats = 0;
  const auto add = [&](const Linear& w) { formats |= 1u << static_cast<unsigned>(w.format); };
  for_each_matrix(
      const_cast<ModelWeights&>(weights), [&](const Weight& w) { add(w.file); },
      [&](const Experts& e) { std::for_each(e.file.begin(), e.file.end(), add); });
  return formats;
}

void bind_weights(ModelWeights& weights, Backend& backend, BindProgress progress) {
  const auto bind = [&](Weight& w) {
    if (!w.bound) w.bound = backend.bind(w.file, progress);
    w.file = {};
  };
  // MTP may share the main model's tables: one tensor, one handle.
  const auto share = [&](Weight& main, Weight& copy) {
    const bool same = main.file.weight.data == copy.file.weight.data;
    bind(main);
    if (same) copy.bound = main.bound;
  };
  if (weights.mtp) {
    share(weights.embed_tokens, weights.mtp->embed_tokens);
    share(weights.lm_head, weights.mtp->shared_head);
  }
  for_each_matrix(weights, bind, [&](Experts& e) {
    e.bound = backend.bind_experts(e.file, progress);
    e.file = {};
  });
  bind_gains(weights, backend);
}

}  // namespace dsv32
