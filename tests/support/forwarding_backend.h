// A Backend that passes every call on: who wants to see some of them overrides those.
#ifndef DSV32_TESTS_SUPPORT_FORWARDING_BACKEND_H_
#define DSV32_TESTS_SUPPORT_FORWARDING_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "lib/backend/backend.h"

namespace dsv32 {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  const BackendInfo& info() const override { return inner_->info(); }
  std::string_view kernel_set() const override { return inner_->kernel_set(); }
  Workers workers() const override { return inner_->workers(); }
  StepShapes shapes() const override { return inner_->shapes(); }
  void reserve(const BackendLimits& limits) override { inner_->reserve(limits); }
  std::size_t scratch_bytes() const override { return inner_->scratch_bytes(); }
  WeightHandle bind(const Linear& w, BindProgress progress) override {
    return inner_->bind(w, progress);
  }
  ExpertsHandle bind_experts(std::span<const Linear> experts, BindProgress progress) override {
    return inner_->bind_experts(experts, progress);
  }
  std::shared_ptr<void> allocate(std::size_t bytes) override { return inner_->allocate(bytes); }
  void upload(TensorView dst, const void* src) override { inner_->upload(dst, src); }
  using Backend::download;
  void download(std::span<const Download> parts) override { inner_->download(parts); }
  void copy(TensorView dst, TensorView src) override { inner_->copy(dst, src); }
  void synchronize() override { inner_->synchronize(); }
  void run(std::uint64_t key, FunctionRef<void()> pass) override { inner_->run(key, pass); }

  void embed(const BatchView& b, const BoundWeight& table, TensorView out) override {
    inner_->embed(b, table, out);
  }
  void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                    const Activation& out) override {
    inner_->add_rms_norm(x, residual, gain, eps, out);
  }
  void silu_mul(TensorView gate, TensorView up, const Activation& out) override {
    inner_->silu_mul(gate, up, out);
  }
  void copy_rows(TensorView from, TensorView from_rows, TensorView to,
                 TensorView to_rows) override {
    inner_->copy_rows(from, from_rows, to, to_rows);
  }
  void linear(const BoundWeight& w, const Activation& x, TensorView out) override {
    inner_->linear(w, x, out);
  }
  void grouped_linear(const BoundExperts& experts, const Activation& x, TensorView offsets,
                      TensorView out) override {
    inner_->grouped_linear(experts, x, offsets, out);
  }
  void mla_store(const BatchView& b, TensorView kv_a, TensorView gain, const PagedKv& kv) override {
    inner_->mla_store(b, kv_a, gain, kv);
  }
  void mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape, TensorView q,
                  TensorView q_latent) override {
    inner_->mla_absorb(b, kv_b, shape, q, q_latent);
  }
  void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv, TensorView indices,
                  float scale, TensorView out_latent) override {
    inner_->sparse_mla(q_latent, shape, kv, indices, scale, out_latent);
  }
  void mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                  const Activation& out) override {
    inner_->mla_expand(kv_b, shape, out_latent, out);
  }
  void index_store(const BatchView& b, const IndexerShape& shape, TensorView k, TensorView gain,
                   TensorView bias, const PagedKv& kv) override {
    inner_->index_store(b, shape, k, gain, bias, kv);
  }
  void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                    TensorView head_weights, const PagedKv& kv, TensorView indices,
                    TensorView nan_queries) override {
    inner_->index_select(b, shape, q, head_weights, kv, indices, nan_queries);
  }
  void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                TensorView weights) override {
    inner_->moe_gate(scores, bias, gate, ids, weights);
  }
  void moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                    const Activation& out, TensorView offsets, TensorView rows) override {
    inner_->moe_dispatch(x, ids, first_expert, out, offsets, rows);
  }
  void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                   TensorView out) override {
    inner_->moe_combine(x, rows, weights, shared, out);
  }

 protected:
  const std::unique_ptr<Backend> inner_;
};

}  // namespace dsv32

#endif  // DSV32_TESTS_SUPPORT_FORWARDING_BACKEND_H_
