// A Backend that does nothing until it must: a stand-in for a device, to catch what a device would
// catch. Around another one, which computes.
#ifndef DSV32_TESTS_SUPPORT_DEFERRING_BACKEND_H_
#define DSV32_TESTS_SUPPORT_DEFERRING_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lib/backend/backend.h"
#include "tests/support/deferred_weights.h"
#include "tests/support/device_memory.h"

namespace dsv32::test {

struct DeferringOptions {
  std::uint32_t lacks = 0;                     // bits 1 << WeightFormat that it cannot do
  std::size_t staging = std::size_t{1} << 20;  // bytes of a weight that it takes at a time
};

// Every step and copy is queued with a copy of its arguments, and runs when somebody downloads or
// synchronizes; views that lie outside what was allocated, or that a step may not have, are an
// error then. Its memory is beyond the host's reach, and poisoned until written. It keeps its
// weights itself. A pass with a key is recorded the first time; from then on the record runs, and
// the pass is not called.
class DeferringBackend final : public Backend {
 public:
  explicit DeferringBackend(std::unique_ptr<Backend> inner, DeferringOptions options = {});
  ~DeferringBackend() override;

  static StepShapes wanted_shapes();

  const BackendInfo& info() const override { return inner_->info(); }
  std::string_view kernel_set() const override { return inner_->kernel_set(); }
  Workers workers() const override { return inner_->workers(); }
  StepShapes shapes() const override { return wanted_shapes(); }
  void reserve(const BackendLimits& limits) override;
  std::size_t scratch_bytes() const override { return inner_->scratch_bytes(); }
  WeightHandle bind(const Linear& w, BindProgress progress) override;
  ExpertsHandle bind_experts(std::span<const Linear> experts, BindProgress progress) override;
  std::shared_ptr<void> allocate(std::size_t bytes) override;
  void upload(TensorView dst, const void* src) override;
  using Backend::download;
  void download(std::span<const Download> parts) override;
  void copy(TensorView dst, TensorView src) override;
  void synchronize() override;
  void run(std::uint64_t key, FunctionRef<void()> pass) override;

  void embed(const BatchView& b, const BoundWeight& table, TensorView out) override;
  void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                    const Activation& out) override;
  void silu_mul(TensorView gate, TensorView up, const Activation& out) override;
  void copy_rows(TensorView from, TensorView from_rows, TensorView to, TensorView to_rows) override;
  void linear(const BoundWeight& w, const Activation& x, TensorView out) override;
  void grouped_linear(const BoundExperts& experts, const Activation& x, TensorView offsets,
                      TensorView out) override;
  void mla_store(const BatchView& b, TensorView kv_a, TensorView gain, const PagedKv& kv) override;
  void mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape, TensorView q,
                  TensorView q_latent) override;
  void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv, TensorView indices,
                  float scale, TensorView out_latent) override;
  void mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                  const Activation& out) override;
  void index_store(const BatchView& b, const IndexerShape& shape, TensorView k, TensorView gain,
                   TensorView bias, const PagedKv& kv) override;
  void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                    TensorView head_weights, const PagedKv& kv, TensorView indices,
                    TensorView nan_queries) override;
  void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                TensorView weights) override;
  void moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                    const Activation& out, TensorView offsets, TensorView rows) override;
  void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                   TensorView out) override;

  // For tests of itself.
  std::size_t queued() const { return queue_.size(); }
  std::size_t recorded() const { return records_.size(); }
  std::size_t replayed() const { return replayed_; }
  std::size_t weight_bytes() const { return *weight_bytes_; }  // of handles that live

 private:
  using Calls = std::vector<std::function<void()>>;

  void defer(std::function<void()> call);
  void run_queue();
  void refuse_in_record(const char* what) const;
  Linear take_over(const Linear& w, Owner& owner, BindProgress progress);
  std::byte* take_over(TensorView view, Owner& owner, BindProgress progress);

  // Arguments as the inner backend can read them; throw internal for what is not there.
  TensorView host(TensorView view) const { return memory_->host(view); }
  Activation host(Activation a) const;
  BatchView host(BatchView b) const;
  PagedKv host(PagedKv kv) const;

  std::unique_ptr<Backend> inner_;
  DeferringOptions options_;
  std::shared_ptr<DeviceMemory> memory_;
  std::shared_ptr<std::size_t> weight_bytes_;
  Calls queue_;
  Calls* recording_ = nullptr;
  std::map<std::uint64_t, Calls> records_;
  std::size_t replayed_ = 0;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_DEFERRING_BACKEND_H_
