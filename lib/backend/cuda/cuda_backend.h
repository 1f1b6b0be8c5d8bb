// The Backend of an NVIDIA GPU: checks shapes, and calls the kernels of smxx.
#ifndef DSV32_LIB_BACKEND_CUDA_CUDA_BACKEND_H_
#define DSV32_LIB_BACKEND_CUDA_CUDA_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "lib/backend/backend.h"
#include "lib/backend/cuda/gpu.h"
#include "lib/backend/cuda/stream.h"

namespace dsv32::cuda {

// Of few rows, which are those of decoding: each has a graph. Longer passes are as long as they
// are.
inline constexpr int kRowBuckets[] = {1, 2, 4, 8, 16, 32, 64};
inline constexpr StepShapes kCudaShapes = {
    .row_buckets = kRowBuckets, .fixed_width = true, .attention_rows = 64};

class CudaWeight final : public BoundWeight {
 public:
  CudaWeight(const Linear& w, std::shared_ptr<void> memory, const kernels::Matrix& on_device)
      : BoundWeight(w.weight.rows, w.weight.cols, w.reads_fp8()),
        matrix(on_device),
        memory_(std::move(memory)) {}

  const kernels::Matrix matrix;

 private:
  std::shared_ptr<void> memory_;
};

class CudaExperts final : public BoundExperts {
 public:
  // Whether there are weights that tensor cores can take, and others.
  struct Kinds {
    bool exact_in_bf16 = false, others = false;
  };
  CudaExperts(std::span<const Linear> experts, bool fp8, Kinds kinds, std::shared_ptr<void> memory)
      : BoundExperts(static_cast<std::int64_t>(experts.size()), experts[0].weight.rows,
                     experts[0].weight.cols, fp8),
        memory_(std::move(memory)),
        kinds_(kinds) {}

  const kernels::Matrix* matrices() const {  // [count], on the device
    return static_cast<const kernels::Matrix*>(memory_.get());
  }
  const Kinds& kinds() const { return kinds_; }

 private:
  std::shared_ptr<void> memory_;
  Kinds kinds_;
};

// Parts of reserve()'s scratch, in floats.
struct CudaScratch {
  std::int64_t index_q = 0, index_weights = 0, index_scores = 0;

  explicit CudaScratch(const BackendLimits& limits);
  std::size_t bytes() const;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(std::shared_ptr<Gpu> device);

  const BackendInfo& info() const override { return device_->facts().info; }
  std::string_view kernel_set() const override { return kKernelSet; }
  StepShapes shapes() const override { return kCudaShapes; }
  Workers workers() const override { return {}; }

  void reserve(const BackendLimits& limits) override;
  std::size_t scratch_bytes() const override { return CudaScratch(limits_).bytes(); }
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

 private:
  // Copies a weight's values and scales into `memory`, from `offset` on, which moves behind them.
  kernels::Matrix take_over(const Linear& w, std::byte* memory, std::size_t& offset,
                            BindProgress progress);
  // Of at most kCudaShapes.attention_rows queries: as many as there is scratch for.
  void select_tile(const BatchView& b, const IndexerShape& shape, TensorView q,
                   TensorView head_weights, const PagedKv& kv, TensorView indices,
                   TensorView nan_queries);
  void spread_rows(TensorView from, TensorView to, TensorView rows);

  std::shared_ptr<Gpu> device_;
  Stream stream_;
  BackendLimits limits_;
  std::shared_ptr<void> scratch_;
  float *index_q_ = nullptr, *index_weights_ = nullptr, *index_scores_ = nullptr;  // parts of it
};

// Of a handle that this backend made; there are no others in a model.
inline const kernels::Matrix& matrix_of(const BoundWeight& w) {
  return static_cast<const CudaWeight&>(w).matrix;
}

}  // namespace dsv32::cuda

#endif  // DSV32_LIB_BACKEND_CUDA_CUDA_BACKEND_H_
