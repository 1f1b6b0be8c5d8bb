// The seam between the model and the hardware.
#ifndef DSV32_LIB_BACKEND_BACKEND_H_
#define DSV32_LIB_BACKEND_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "dsv32/backend.h"

#include "lib/base/tensor.h"

#include "kernels/params.h"

namespace dsv32 {

// One layer's cache. Byte formats: CacheLayout in kernels/params.h.
struct PagedKv {
  TensorView latent;     // [num_pages, kPageSize * latent_record] u8
  TensorView index_key;  // [num_pages, index_page] u8
  kernels::CacheLayout layout{};
  bool pow2_scales = true;
};

// Attention's widths; config.json's names without `qk_` and `_head_dim`.
struct MlaShape {
  int heads = 0, nope = 0, rope = 0, v = 0, latent = 0;
};

struct IndexerShape {
  int heads = 0, dim = 0, top_k = 0;
  bool rope_interleave = false;
};

struct GateParams {
  int n_group = 1, topk_group = 1;
  float routed_scaling_factor = 1.0f;
  bool norm_topk_prob = true;
};

// What a Backend must be ready for, so that nothing is allocated in a pass.
struct BackendLimits {
  MlaShape mla;
  IndexerShape indexer;  // heads 0: none, then top_k is the longest context
  int max_context = 0;   // positions of one sequence
  int max_width = 0;     // the widest input of a linear
  int num_experts = 0;
  int n_group = 0;
};

// The current batch, in backend memory.
struct BatchView {
  TensorView tokens;        // [1, num_tokens] i32
  TensorView positions;     // [1, num_tokens] i32
  TensorView slots;         // [1, num_tokens] i32, where each token's KV goes
  TensorView seq_of_token;  // [1, num_tokens] i32
  TensorView page_table;    // [num_seqs, max_pages] i32
  TensorView rope;          // [num_tokens, rope] f32: cosines, then sines
};

// One method per step of the forward pass, each total: no optional method, no default body. Shapes
// are checked here, once; kernels trust them. Calls are in order; their arguments must live until
// synchronize(). Within one pass all stores into a layer's cache come before its reads: a query
// reads its own chunk from pages, too. Outputs of dtype bf16 are the native numerics, f32 the exact
// ones.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendInfo& info() const = 0;
  virtual std::string_view kernel_set() const = 0;

  // Memory and order.
  virtual std::shared_ptr<void> allocate(std::size_t bytes) = 0;  // aligned to 64; out_of_memory
  virtual void reserve(const BackendLimits& limits) = 0;          // scratch, once
  virtual std::size_t scratch_bytes() const = 0;                  // of reserve()
  virtual TensorView bind_weight(TensorView mapped) = 0;          // the CPU hands the view back
  virtual void upload(TensorView dst, const void* src) = 0;
  virtual void download(void* dst, TensorView src) = 0;   // waits
  virtual void copy(TensorView dst, TensorView src) = 0;  // a page, when a fork writes
  virtual void synchronize() = 0;

  // dense. A residual without data: no addition (first layer, q_a norm). x may be part of wider
  // rows.
  virtual void embed(const BatchView& b, TensorView table, TensorView out) = 0;
  virtual void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                            const Activation& out) = 0;
  virtual void silu_mul(TensorView gate, TensorView up, const Activation& out) = 0;
  virtual void gather_rows(TensorView x, TensorView rows, TensorView out) = 0;

  // gemm: the order of sums is in kernels/params.h. offsets [1, experts + 1] i32: rows of x.
  virtual void linear(const Linear& w, const Activation& x, TensorView out) = 0;
  virtual void grouped_linear(std::span<const Linear> experts, const Activation& x,
                              TensorView offsets, TensorView out) = 0;

  // mla: RoPE pairs (2i, 2i + 1)
  virtual void mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                         const PagedKv& kv) = 0;
  virtual void mla_absorb(const BatchView& b, const Linear& kv_b, const MlaShape& shape,
                          TensorView q, TensorView q_latent) = 0;
  virtual void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                          TensorView indices, float scale, TensorView out_latent) = 0;
  virtual void mla_expand(const Linear& kv_b, const MlaShape& shape, TensorView out_latent,
                          const Activation& out) = 0;

  // indexer: RoPE pairs (i, i + rope / 2), or (2i, 2i + 1) if the shape says so
  virtual void index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                           TensorView gain, TensorView bias, const PagedKv& kv) = 0;
  // Scores and top-k in one step, a tile of queries at a time, so that no score matrix exists.
  // `indices` [num_tokens, top_k]: slots in ascending position, -1 only at the end. `q` without
  // data (no indexer): every visible key, top_k at least as many.
  virtual void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                            TensorView head_weights, const PagedKv& kv, TensorView indices) = 0;

  // moe. rows [num_tokens, top] i32: where dispatch put each copy of a token. It leaves out a form
  // of x without data.
  virtual void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                        TensorView weights) = 0;
  virtual void moe_dispatch(const Activation& x, TensorView ids, const Activation& out,
                            TensorView offsets, TensorView rows) = 0;
  virtual void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                           TensorView out) = 0;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

// Bytes of reserve()'s scratch with `workers` workers: for the plan.
std::size_t cpu_scratch_bytes(const BackendLimits& limits, int workers);

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_BACKEND_H_
