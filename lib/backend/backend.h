// The seam between the model and the hardware.
#ifndef DSV32_LIB_BACKEND_BACKEND_H_
#define DSV32_LIB_BACKEND_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "dsv32/backend.h"

#include "lib/base/function_ref.h"
#include "lib/base/tensor.h"
#include "lib/base/thread_pool.h"

#include "kernels/params.h"

namespace dsv32 {

// One layer's cache. Byte formats: CacheLayout in kernels/params.h.
struct PagedKv {
  TensorView latent;     // [num_pages, kPageSize * latent_record] u8
  TensorView index_key;  // [num_pages, index_page] u8
  kernels::CacheLayout layout{};
  bool pow2_scales = true;
  bool rope_interleave = true;  // of the latent record's rotated part
};

// Attention's widths; config.json's names without `qk_` and `_head_dim`.
struct MlaShape {
  int heads = 0, nope = 0, rope = 0, v = 0, latent = 0;
  bool rope_interleave = true;
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

// What a Backend must be ready for, so that nothing is allocated in a pass, and what it may refuse.
struct BackendLimits {
  MlaShape mla;
  IndexerShape indexer;  // heads 0: none, then top_k is the longest context
  int max_context = 0;   // positions of one sequence
  int max_width = 0;     // the widest input of a linear
  int max_rows = 0;      // of a pass
  int max_sequences = 0;
  int num_experts = 0;
  int n_group = 0;
  Numerics numerics = Numerics::native;
  kernels::CacheLayout cache{};
  std::uint32_t weight_formats = 0;  // bit 1 << WeightFormat for each that the model has
};

// What a backend wants the shapes of a pass to be, so that it may record and replay it.
struct StepShapes {
  // Row counts that it has passes for, ascending: a pass is padded to the next one. Empty: any.
  std::span<const int> row_buckets{};
  bool fixed_width = false;  // lists of keys are as long as they may become, whatever the context
  int attention_rows = 64;   // of one call of the steps between indexer and expand
};

// The current batch, in backend memory. A row of padding has position -1 and slot -1: it is stored
// nowhere and sees no key.
struct BatchView {
  TensorView tokens;        // [1, num_tokens] i32
  TensorView positions;     // [1, num_tokens] i32
  TensorView slots;         // [1, num_tokens] i32, where each token's KV goes
  TensorView seq_of_token;  // [1, num_tokens] i32
  TensorView page_table;    // [num_seqs, max_pages] i32
  TensorView rope;          // [num_tokens, rope] f32: cosines, then sines
};

// A weight as its backend keeps it, in that backend's memory and layout: bind() makes it, nobody
// else reads it. It owns what it needs, but for what a checkpoint's mapping lends.
class BoundWeight {
 public:
  BoundWeight(std::int64_t out, std::int64_t in, bool fp8) : rows(out), cols(in), reads_fp8(fp8) {}
  virtual ~BoundWeight() = default;
  BoundWeight(const BoundWeight&) = delete;
  BoundWeight& operator=(const BoundWeight&) = delete;

  const std::int64_t rows, cols;  // [out, in]
  const bool reads_fp8;           // of an activation its FP8 form, where there is one
};

// One matrix of every expert of a layer, in the order of their ids.
class BoundExperts {
 public:
  BoundExperts(std::int64_t experts, std::int64_t out, std::int64_t in, bool fp8)
      : count(experts), rows(out), cols(in), read_fp8(fp8) {}
  virtual ~BoundExperts() = default;
  BoundExperts(const BoundExperts&) = delete;
  BoundExperts& operator=(const BoundExperts&) = delete;

  const std::int64_t count, rows, cols;  // [count, out, in]
  const bool read_fp8;                   // all of them
};

using WeightHandle = std::shared_ptr<const BoundWeight>;
using ExpertsHandle = std::shared_ptr<const BoundExperts>;

// What goes to the host: `from`, contiguous, and where to.
struct Download {
  void* to = nullptr;
  TensorView from;
};

// Told as bytes of weights are bound; what it throws ends the binding.
using BindProgress = FunctionRef<void(std::size_t bytes)>;

// One method per step of the forward pass, each total: no optional method, no default body. Shapes
// are checked here, once; kernels trust them. Outputs of dtype bf16 are the native numerics, f32
// the exact ones.
//
// Calls run in order, and may run later: until download() or synchronize() returns, a caller knows
// nothing of their outcome, an error of theirs comes from there, and the memory that they were
// given stays. Arguments are copied, handles stay alive as long as their model; bind() and
// bind_experts() have done their work when they return. Nothing but a Backend reads or writes the
// memory behind a TensorView of its own. Within one pass all stores into a layer's cache come
// before its reads: a query reads its own chunk from pages, too. One caller at a time.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendInfo& info() const = 0;
  virtual std::string_view kernel_set() const = 0;
  virtual StepShapes shapes() const = 0;
  virtual Workers workers() const = 0;  // of the host

  // Before any weight is bound. Takes the scratch; throws unsupported, with the reason, for what it
  // cannot do.
  virtual void reserve(const BackendLimits& limits) = 0;
  virtual std::size_t scratch_bytes() const = 0;  // of reserve()

  // `w` views a checkpoint's mapping: the CPU keeps that view, a device copies piece by piece.
  virtual WeightHandle bind(const Linear& w, BindProgress progress) = 0;
  virtual ExpertsHandle bind_experts(std::span<const Linear> experts, BindProgress progress) = 0;

  // Memory and order. Only contiguous views cross to the host and back.
  virtual std::shared_ptr<void> allocate(std::size_t bytes) = 0;  // aligned to 64; out_of_memory
  virtual void upload(TensorView dst, const void* src) = 0;       // has read src when it returns
  // Waits. All parts in one call: a device that replays a pass takes them with it.
  virtual void download(std::span<const Download> parts) = 0;
  void download(void* dst, TensorView src) {
    const Download one{dst, src};
    download({&one, 1});
  }
  virtual void copy(TensorView dst, TensorView src) = 0;  // of one shape, contiguous both
  virtual void synchronize() = 0;
  // Calls `pass`, whose calls depend on nothing but `key`: they may be recorded under it, and the
  // record replayed the next time instead of calling. Key 0: never recorded.
  virtual void run(std::uint64_t key, FunctionRef<void()> pass) = 0;

  // dense. A residual without data: no addition (first layer, q_a norm). x may be part of wider
  // rows.
  virtual void embed(const BatchView& b, const BoundWeight& table, TensorView out) = 0;
  virtual void add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                            const Activation& out) = 0;
  virtual void silu_mul(TensorView gate, TensorView up, const Activation& out) = 0;
  // to[to_rows[i]] = from[from_rows[i]]; a list [1, n] i32 without data is 0, 1, 2, ..; a pair with
  // a -1 is left out. No two pairs share a target, nor does one read what another writes.
  virtual void copy_rows(TensorView from, TensorView from_rows, TensorView to,
                         TensorView to_rows) = 0;

  // gemm: the order of sums is in kernels/params.h. offsets [1, experts + 1] i32: rows of x.
  virtual void linear(const BoundWeight& w, const Activation& x, TensorView out) = 0;
  virtual void grouped_linear(const BoundExperts& experts, const Activation& x, TensorView offsets,
                              TensorView out) = 0;

  // mla: RoPE pairs (2i, 2i + 1), or (i, i + rope / 2) if cache and shape say so
  virtual void mla_store(const BatchView& b, TensorView kv_a, TensorView gain,
                         const PagedKv& kv) = 0;
  virtual void mla_absorb(const BatchView& b, const BoundWeight& kv_b, const MlaShape& shape,
                          TensorView q, TensorView q_latent) = 0;
  virtual void sparse_mla(TensorView q_latent, const MlaShape& shape, const PagedKv& kv,
                          TensorView indices, float scale, TensorView out_latent) = 0;
  virtual void mla_expand(const BoundWeight& kv_b, const MlaShape& shape, TensorView out_latent,
                          const Activation& out) = 0;

  // indexer: RoPE pairs (i, i + rope / 2), or (2i, 2i + 1) if the shape says so
  virtual void index_store(const BatchView& b, const IndexerShape& shape, TensorView k,
                           TensorView gain, TensorView bias, const PagedKv& kv) = 0;
  // Scores and top-k in one step, a tile of queries at a time, so that no score matrix exists.
  // `indices` [num_tokens, top_k]: slots in ascending position, -1 only at the end. `q` without
  // data (no indexer): every visible key, top_k at least as many. `nan_queries` [1, num_tokens]
  // i32, if it has data: one more for each query that chose among scores of which one is NaN, so
  // that its choice means nothing.
  virtual void index_select(const BatchView& b, const IndexerShape& shape, TensorView q,
                            TensorView head_weights, const PagedKv& kv, TensorView indices,
                            TensorView nan_queries) = 0;

  // moe. rows [num_tokens, top] i32: where dispatch put each copy of a token, -1 for an expert that
  // is none of [first_expert, first_expert + experts), those of `offsets` [1, experts + 1].
  // Dispatch leaves out a form of x without data. Combine leaves out rows of -1, and `shared`
  // without data; an f32 `out` gets the sum unrounded.
  virtual void moe_gate(TensorView scores, TensorView bias, const GateParams& gate, TensorView ids,
                        TensorView weights) = 0;
  virtual void moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                            const Activation& out, TensorView offsets, TensorView rows) = 0;
  virtual void moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                           TensorView out) = 0;
};

}  // namespace dsv32

#endif  // DSV32_LIB_BACKEND_BACKEND_H_
