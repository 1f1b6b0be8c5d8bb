// A Backend that passes every step on to another one, adds up the time of a layer's two halves and
// of each step, and can leave a half out: so that a benchmark times the model's own forward pass in
// parts, and fills a cache of any length without computing what would be in it.
#ifndef DSV32_BENCHMARKS_TRACED_BACKEND_H_
#define DSV32_BENCHMARKS_TRACED_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/clock.h"
#include "tests/support/forwarding_backend.h"

namespace dsv32::bench {

class TracedBackend final : public ForwardingBackend {
 public:
  explicit TracedBackend(std::unique_ptr<Backend> inner);

  struct Seconds {
    double select = 0;       // indexer scores and top-k
    double attend = 0;       // attention over the keys
    double projections = 0;  // the rest of the attention half
    double mlp = 0;          // MoE or dense MLP, with the norm before it
  };
  Seconds seconds{};                    // since the last reset
  std::int64_t distinct_experts = 0;    // that had rows, summed over the layers
  std::map<std::string, double> steps;  // seconds by step since the start, "linear OUTxIN"

  // A half that is left out costs next to nothing; its outputs are random values. The caches are
  // written in any case.
  bool skip_attention = false, skip_mlp = false;

  void reset() {
    seconds = {};
    distinct_experts = 0;
    norms_ = 0;
  }
  // The steps that took at least a hundredth of all, longest first: "attend 7 %, ...".
  std::string shares() const;

  void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                    const Activation& out) override {
    if (residual.data != nullptr) ++norms_;
    timed("norm", rest(), [&] { inner_->add_rms_norm(x, residual, gain, eps, out); });
  }
  void silu_mul(TensorView gate, TensorView up, const Activation& out) override {
    if (!skipped()) timed("silu_mul", rest(), [&] { inner_->silu_mul(gate, up, out); });
  }
  void linear(const BoundWeight& w, const Activation& x, TensorView out) override {
    if (skipped()) return fill(out);
    timed(name_of("linear", w.rows, w.cols), rest(), [&] { inner_->linear(w, x, out); });
  }
  void grouped_linear(const BoundExperts& experts, const Activation& x, TensorView offsets,
                      TensorView out) override {
    if (skipped()) return;
    timed(name_of("experts", experts.rows, experts.cols), rest(),
          [&] { inner_->grouped_linear(experts, x, offsets, out); });
  }
  void mla_store(const BatchView& b, TensorView kv_a, TensorView gain, const PagedKv& kv) override {
    timed("mla_store", rest(), [&] { inner_->mla_store(b, kv_a, gain, kv); });
  }
  void mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape, TensorView q,
                  TensorView q_latent) override {
    if (skipped()) return;
    timed("absorb", rest(), [&] { inner_->mla_absorb(b, kv_b, shape, q, q_latent); });
  }
  void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv, TensorView indices,
                  float scale, TensorView out_latent) override {
    if (skipped()) return;
    timed("attend", seconds.attend,
          [&] { inner_->sparse_mla(q_latent, shape, kv, indices, scale, out_latent); });
  }
  void mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                  const Activation& out) override {
    if (skipped()) return;
    timed("expand", rest(), [&] { inner_->mla_expand(kv_b, shape, out_latent, out); });
  }
  void index_store(const BatchView& b, const IndexerShape& shape, TensorView k, TensorView gain,
                   TensorView bias, const PagedKv& kv) override {
    timed("index_store", rest(), [&] { inner_->index_store(b, shape, k, gain, bias, kv); });
  }
  void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                    TensorView head_weights, const PagedKv& kv, TensorView indices,
                    TensorView nan_queries) override {
    if (skipped()) return;
    timed("select", seconds.select,
          [&] { inner_->index_select(b, shape, q, head_weights, kv, indices, nan_queries); });
  }
  void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                TensorView weights) override {
    if (skipped()) return;
    timed("moe_gate", rest(), [&] { inner_->moe_gate(scores, bias, gate, ids, weights); });
  }
  void moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                    const Activation& out, TensorView offsets, TensorView rows) override {
    if (skipped()) return;
    timed("dispatch", rest(),
          [&] { inner_->moe_dispatch(x, ids, first_expert, out, offsets, rows); });
    count_experts(offsets);
  }
  void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                   TensorView out) override {
    if (skipped()) return;
    timed("combine", rest(), [&] { inner_->moe_combine(x, rows, weights, shared, out); });
  }

 private:
  // A residual is added once before the attention half (but not in the first layer) and once before
  // the other half.
  bool in_mlp() const { return norms_ % 2 == 1; }
  bool skipped() const { return in_mlp() ? skip_mlp : skip_attention; }
  void fill(TensorView out) const;
  void count_experts(TensorView offsets);
  static std::string name_of(const char* step, std::int64_t out, std::int64_t in);
  template <class Step>
  void timed(const std::string& name, double& sum, Step&& step) {
    double& part = steps[name];
    const double start = now();
    std::forward<Step>(step)();
    const double time = now() - start;
    sum += time;
    part += time;
  }
  double& rest() { return in_mlp() ? seconds.mlp : seconds.projections; }

  std::vector<std::byte> noise_;  // bf16
  int norms_ = 0;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_TRACED_BACKEND_H_
