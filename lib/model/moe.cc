// One layer's gate, dispatch, experts, combine; and the dense MLP.
#include <algorithm>

#include "lib/model/forward.h"
#include "lib/model/pass.h"

namespace dsv32 {

void Forward::mlp(const MlpWeights& w, const Activation& x, TensorView out) {
  const std::int64_t n = x.dense.rows, width = w.gate.bound->rows;
  const TensorView gate = shaped(buffers_.mlp_gate, n, width),
                   up = shaped(buffers_.mlp_up, n, width);
  const Activation hidden = shaped(buffers_.mlp_hidden, n, width);
  backend_.linear(*w.gate.bound, x, gate);
  backend_.linear(*w.up.bound, x, up);
  backend_.silu_mul(gate, up, hidden);
  backend_.linear(*w.down.bound, hidden, out);
}

void Forward::moe(Pass& pass, const MoeWeights& w) {
  const std::int64_t n = pass.n, top = config_.num_experts_per_tok, hidden = config_.hidden_size;
  const Activation h = shaped(buffers_.h, n, hidden);
  const TensorView scores = buffers_.gate_scores.slice(0, n), ids = buffers_.expert_ids.slice(0, n);
  const TensorView weights = buffers_.expert_weights.slice(0, n),
                   rows = buffers_.expert_rows.slice(0, n);
  backend_.linear(*w.gate.bound, h, scores);
  backend_.moe_gate(scores, w.e_score_correction_bias,
                    {.n_group = config_.n_group,
                     .topk_group = config_.topk_group,
                     .routed_scaling_factor = config_.routed_scaling_factor,
                     .norm_topk_prob = config_.norm_topk_prob},
                    ids, weights);
  if (pass.observed && pass.batch.experts) record_experts(pass, ids);
  const Activation dispatched = buffers_.dispatched.slice(0, n * top);
  const TensorView gate = buffers_.expert_gate.slice(0, n * top),
                   up = buffers_.expert_up.slice(0, n * top);
  const Activation expert_hidden = buffers_.expert_hidden.slice(0, n * top);
  const TensorView expert_out = buffers_.expert_out.slice(0, n * top);
  Activation routed = h;
  if (h.fp8.data && w.expert_gate.bound->read_fp8 && w.expert_up.bound->read_fp8)
    routed.dense.data = nullptr;
  backend_.moe_dispatch(routed, ids, 0, dispatched, buffers_.expert_offsets, rows);
  backend_.grouped_linear(*w.expert_gate.bound, dispatched, buffers_.expert_offsets, gate);
  backend_.grouped_linear(*w.expert_up.bound, dispatched, buffers_.expert_offsets, up);
  backend_.silu_mul(gate, up, expert_hidden);
  backend_.grouped_linear(*w.expert_down.bound, expert_hidden, buffers_.expert_offsets, expert_out);
  const TensorView shared = shaped(buffers_.shared_out, n, hidden);
  mlp(w.shared_experts, h, shared);
  backend_.moe_combine(expert_out, rows, weights, shared, shaped(buffers_.x, n, hidden));
}

// For observers.
void Forward::record_experts(Pass& pass, TensorView ids) {
  std::vector<std::int32_t>& out = pass.observed->experts;
  const std::size_t before = out.size(), rows = pass.rows.size();
  out.resize(before + rows * static_cast<std::size_t>(ids.cols));
  backend_.download(out.data() + before, ids.slice(0, static_cast<std::int64_t>(rows)));
}

}  // namespace dsv32
