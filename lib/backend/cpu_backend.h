// The CPU's Backend, shared by its two source files.
#ifndef DSV32_LIB_BACKEND_CPU_BACKEND_H_
#define DSV32_LIB_BACKEND_CPU_BACKEND_H_

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lib/backend/backend.h"
#include "lib/backend/backend_kind.h"
#include "lib/backend/views.h"
#include "lib/base/function_ref.h"
#include "lib/base/thread_pool.h"

#include "kernels/cpu/table.h"

namespace dsv32 {

// Any number of rows, lists as long as the context asks.
inline constexpr StepShapes kCpuShapes = {.attention_rows = kernels::kRowTile};

// A matrix where the checkpoint has it, as the kernels take it.
struct CpuMatrix {
  explicit CpuMatrix(const Linear& linear);

  Linear w;
  kernels::Matrix matrix;
};

class CpuWeight final : public BoundWeight {
 public:
  explicit CpuWeight(const Linear& w);
  const CpuMatrix matrix;
};

class CpuExperts final : public BoundExperts {
 public:
  explicit CpuExperts(std::span<const Linear> experts);
  std::span<const CpuMatrix> matrices() const { return matrices_; }

 private:
  std::vector<CpuMatrix> matrices_;
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);

  const BackendInfo& info() const override { return info_; }
  std::string_view kernel_set() const override { return kernels_->name; }

  StepShapes shapes() const override { return kCpuShapes; }
  Workers workers() const override { return pool_.workers(); }

  void reserve(const BackendLimits& limits) override;
  std::size_t scratch_bytes() const override;
  WeightHandle bind(const Linear& w, BindProgress progress) override;
  ExpertsHandle bind_experts(std::span<const Linear> experts, BindProgress progress) override;
  std::shared_ptr<void> allocate(std::size_t bytes) override;
  void upload(TensorView dst, const void* src) override;
  using Backend::download;
  void download(std::span<const Download> parts) override;
  void copy(TensorView dst, TensorView src) override;
  void synchronize() override {}
  void run(std::uint64_t, FunctionRef<void()> pass) override { pass(); }

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
  // Splits [0, count) into ranges of at least `grain` and calls body(first, last, worker).
  void ranges(std::int64_t count, std::int64_t grain,
              FunctionRef<void(int first, int last, int worker)> body);
  float* worker_scratch(int worker) { return worker_scratch_ + worker * worker_floats_; }
  void quantise_all(const Activation& a);  // fills its FP8 form, if it has one
  // Rows [first, first + count) of x through one weight.
  struct Segment {
    const CpuMatrix* w;
    std::int64_t first, count;
  };
  void run_segments(std::span<const Segment> segments, const Activation& x, TensorView out);
  void pack_rows(const Linear& w, const Activation& x);
  // A tile of tokens: their queries into index_q_ and index_weights_, then their lists of keys.
  void query_tile(const BatchView& b, const IndexerShape& shape, TensorView q,
                  TensorView head_weights, const PagedKv& kv, std::int64_t first_token);
  void select_tile(const BatchView& b, const IndexerShape& shape, const PagedKv& kv,
                   std::int64_t first_token, TensorView indices, TensorView nan_queries);

  const kernels::CpuKernels* kernels_ = nullptr;
  BackendInfo info_;
  ThreadPool pool_;
  BackendLimits limits_;
  std::shared_ptr<void> scratch_;
  std::byte* packed_ = nullptr;      // [kLinearRows, packed_row_bytes(max_width)]
  float* index_q_ = nullptr;         // [kRowTile, heads, dim]
  float* index_weights_ = nullptr;   // [kRowTile, heads]
  float* index_scores_ = nullptr;    // [kRowTile, max_context]
  float* worker_scratch_ = nullptr;  // [workers, worker_floats_]
  std::int64_t worker_floats_ = 0;
};

// Float counts of reserve()'s parts.
struct CpuScratch {
  std::int64_t packed = 0, index_q = 0, index_weights = 0, index_scores = 0, worker = 0;

  explicit CpuScratch(const BackendLimits& limits);
  std::int64_t total(int workers) const;
};

// Bytes of reserve()'s scratch with so many workers.
std::size_t cpu_scratch_bytes(const BackendLimits& limits, int workers);

// Of a handle that this backend made; there are no others in a model.
inline const CpuMatrix& matrix_of(const BoundWeight& w) {
  return static_cast<const CpuWeight&>(w).matrix;
}

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_CPU_BACKEND_H_
