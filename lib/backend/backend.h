// The seam between the model and the hardware. Two implementations: CPU and CUDA.
#ifndef DSV32_LIB_BACKEND_BACKEND_H_
#define DSV32_LIB_BACKEND_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "dsv32/backend.h"

#include "lib/base/tensor.h"

#include "kernels/params.h"

namespace dsv32 {

// One layer's cache. Byte formats: CacheLayout in kernels/params.h.
struct PagedKv {
  TensorView latent;     // [num_pages, kPageSize * latent_record] u8
  TensorView index_key;  // [num_pages, index_page] u8
  kernels::CacheLayout layout;
  bool pow2_scales = true;
};

struct GateParams {
  int n_group, topk_group;
  float routed_scaling_factor;
  bool norm_topk_prob;
};

// The current batch, in backend memory.
struct BatchView {
  TensorView tokens;        // [num_tokens] i32
  TensorView positions;     // [num_tokens] i32
  TensorView slots;         // [num_tokens] i32, where each token's KV goes
  TensorView seq_of_token;  // [num_tokens] i32
  TensorView page_table;    // [num_seqs, max_pages] i32
  TensorView logits_rows;   // [num_logits] i32
};

// One method per step of the forward pass, each total: no optional method, no default body, no
// `false` for "not here". Shapes are checked here, once; kernels trust them. Calls are
// asynchronous and in order; their arguments must live until synchronize(). Within one pass all
// stores into the caches come before the reads: a query reads its own chunk from pages, too.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendInfo& info() const = 0;

  // Memory and order.
  virtual std::shared_ptr<void> allocate(std::size_t bytes) = 0;
  // The CPU hands the view back (nothing is copied); CUDA uploads and tiles.
  virtual TensorView bind_weight(TensorView mapped) = 0;
  virtual void upload(TensorView dst, const void* src) = 0;
  virtual void download(void* dst, TensorView src) = 0;   // waits
  virtual void copy(TensorView dst, TensorView src) = 0;  // a page, when a fork writes
  virtual void synchronize() = 0;
  virtual void* native_stream() = 0;  // for the communicator; null on the CPU
  // Calls `pass`. May record it under `key` and replay the record the next time.
  virtual void run(std::uint64_t key, const std::function<void()>& pass) = 0;

  // dense. A residual without data: no addition (first layer, q_a norm).
  virtual void embed(const BatchView& b, TensorView table, TensorView out) = 0;
  virtual void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                            Activation out) = 0;
  virtual void silu_mul(TensorView gate, TensorView up, Activation out) = 0;
  virtual void gather_rows(TensorView x, TensorView rows, TensorView out) = 0;

  // gemm: the order of sums is in kernels/params.h
  virtual void linear(const Linear& w, const Activation& x, TensorView out) = 0;
  virtual void grouped_linear(std::span<const Linear> experts, const Activation& x,
                              TensorView offsets, TensorView out) = 0;

  // mla: RoPE pairs (2i, 2i + 1)
  virtual void mla_store(const BatchView& b, TensorView kv_a, TensorView gain, TensorView rope,
                         PagedKv kv) = 0;
  virtual void mla_absorb(const BatchView& b, const Linear& kv_b, TensorView q, TensorView rope,
                          TensorView q_latent) = 0;
  virtual void sparse_mla(TensorView q_latent, PagedKv kv, TensorView indices, float scale,
                          TensorView out_latent) = 0;
  virtual void mla_expand(const Linear& kv_b, TensorView out_latent, Activation out) = 0;

  // indexer: RoPE pairs (i, i + 32)
  virtual void index_store(const BatchView& b, TensorView k, TensorView gain, TensorView bias,
                           TensorView rope, PagedKv kv) = 0;
  // Scores and top-k in one step, a tile of queries at a time, so that no score matrix exists.
  // `indices` [num_tokens, top_k]: slots in ascending position, -1 only at the end. `q` without
  // data (no indexer): every visible key, top_k at least as many.
  virtual void index_select(const BatchView& b, TensorView q, TensorView head_weights,
                            TensorView rope, PagedKv kv, TensorView indices) = 0;

  // moe
  virtual void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                        TensorView weights) = 0;
  virtual void moe_dispatch(const Activation& x, TensorView ids, Activation out,
                            TensorView offsets) = 0;
  virtual void moe_combine(TensorView x, TensorView ids, TensorView weights, TensorView shared,
                           TensorView out) = 0;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);
std::unique_ptr<Backend> open_cuda_backend(
    const BackendOptions& options);  // loads libdsv32_cuda.so

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_BACKEND_H_
