#include "tests/waiting/hooked_backend.h"

#include <array>
#include <memory>
#include <mutex>
#include <utility>

#include "lib/backend/backend_kind.h"
#include "tests/support/forwarding_backend.h"

namespace dsv32 {
namespace {

struct Hook {
  std::mutex mutex;
  std::shared_ptr<const std::function<void()>> call;

  void set(std::shared_ptr<const std::function<void()>> value) {
    const std::lock_guard guard(mutex);
    call = std::move(value);
  }
  std::shared_ptr<const std::function<void()>> get() {
    const std::lock_guard guard(mutex);
    return call;
  }
};

Hook& hook() {
  static Hook the_hook;
  return the_hook;
}

class HookedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  void run(std::uint64_t key, FunctionRef<void()> pass) override {
    if (const auto call = hook().get()) (*call)();
    inner_->run(key, pass);
  }

  const BackendInfo& info() const override { return b_->info(); }
  std::string_view kernel_set() const override { return b_->kernel_set(); }
  Workers workers() const override { return b_->workers(); }
  StepShapes shapes() const override { return b_->shapes(); }
  void reserve(const BackendLimits& limits) override { b_->reserve(limits); }
  std::size_t scratch_bytes() const override { return b_->scratch_bytes(); }
  WeightHandle bind(const Linear& w, BindProgress progress) override {
    return b_->bind(w, progress);
  }
  ExpertsHandle bind_experts(std::span<const Linear> experts, BindProgress progress) override {
    return b_->bind_experts(experts, progress);
  }
  std::shared_ptr<void> allocate(std::size_t bytes) override { return b_->allocate(bytes); }
  void upload(TensorView dst, const void* src) override { b_->upload(dst, src); }
  void download(std::span<const Download> parts) override { b_->download(parts); }
  void copy(TensorView dst, TensorView src) override { b_->copy(dst, src); }
  void synchronize() override { b_->synchronize(); }

  void embed(const BatchView& b, const BoundWeight& table, TensorView out) override {
    b_->embed(b, table, out);
  }
  void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                    const Activation& out) override {
    b_->add_rms_norm(x, residual, gain, eps, out);
  }
  void silu_mul(TensorView gate, TensorView up, const Activation& out) override {
    b_->silu_mul(gate, up, out);
  }
  void copy_rows(TensorView from, TensorView from_rows, TensorView to,
                 TensorView to_rows) override {
    b_->copy_rows(from, from_rows, to, to_rows);
  }
  void linear(const BoundWeight& w, const Activation& x, TensorView out) override {
    b_->linear(w, x, out);
  }
  void grouped_linear(const BoundExperts& experts, const Activation& x, TensorView offsets,
                      TensorView out) override {
    b_->grouped_linear(experts, x, offsets, out);
  }
  void mla_store(const BatchView& b, TensorView kv_a, TensorView gain, const PagedKv& kv) override {
    b_->mla_store(b, kv_a, gain, kv);
  }
  void mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape, TensorView q,
                  TensorView q_latent) override {
    b_->mla_absorb(b, kv_b, shape, q, q_latent);
  }
  void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv, TensorView indices,
                  float scale, TensorView out_latent) override {
    b_->sparse_mla(q_latent, shape, kv, indices, scale, out_latent);
  }
  void mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                  const Activation& out) override {
    b_->mla_expand(kv_b, shape, out_latent, out);
  }
  void index_store(const BatchView& b, const IndexerShape& shape, TensorView k, TensorView gain,
                   TensorView bias, const PagedKv& kv) override {
    b_->index_store(b, shape, k, gain, bias, kv);
  }
  void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                    TensorView head_weights, const PagedKv& kv, TensorView indices,
                    TensorView nan_queries) override {
    b_->index_select(b, shape, q, head_weights, kv, indices, nan_queries);
  }
  void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                TensorView weights) override {
    b_->moe_gate(scores, bias, gate, ids, weights);
  }
  void moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                    const Activation& out, TensorView offsets, TensorView rows) override {
    b_->moe_dispatch(x, ids, first_expert, out, offsets, rows);
  }
  void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                   TensorView out) override {
    b_->moe_combine(x, rows, weights, shared, out);
  }

 private:
  std::unique_ptr<Backend> b_;
};

std::unique_ptr<Backend> open_hooked(const BackendOptions& options) {
  return std::make_unique<HookedBackend>(cpu_backend_kind.open(options));
}

}  // namespace

// This program's list, instead of the library's.
std::span<const BackendKind* const> backend_kinds() {
  static const BackendKind kind = {.device = Device::cpu,
                                   .devices = cpu_backend_kind.devices,
                                   .open = open_hooked,
                                   .shapes = cpu_backend_kind.shapes,
                                   .scratch_bytes = cpu_backend_kind.scratch_bytes,
                                   .available_memory = cpu_backend_kind.available_memory};
  static const std::array<const BackendKind*, 1> kinds = {&kind};
  return kinds;
}

namespace test {

PassHook::PassHook(std::function<void()> call) {
  hook().set(std::make_shared<const std::function<void()>>(std::move(call)));
}
PassHook::~PassHook() { hook().set(nullptr); }

}  // namespace test
}  // namespace dsv32
