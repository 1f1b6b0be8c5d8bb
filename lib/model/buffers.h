// Every activation buffer with its size. The same code counts bytes for a plan and lays the
// buffers out in memory.
#ifndef DSV32_LIB_MODEL_BUFFERS_H_
#define DSV32_LIB_MODEL_BUFFERS_H_

#include <cstddef>

#include "dsv32/config.h"
#include "dsv32/types.h"

#include "lib/backend/backend.h"
#include "lib/base/tensor.h"
#include "lib/model/step_inputs.h"

namespace dsv32 {

struct BufferOptions {
  Numerics numerics = Numerics::native;
  int max_batch_tokens = 0;
  int max_sequences = 16;
  int max_context = 0;      // positions of the longest possible sequence
  int attention_rows = 64;  // StepShapes' of the backend
  bool mtp = false;
};

// n = max_batch_tokens, t = min(n, attention_rows), k = num_experts_per_tok. Activations are bf16,
// or f32 in the exact numerics; those marked q have an FP8 form beside it.
struct Buffers {
  Buffers(const ModelConfig& config, const BufferOptions& options, std::byte* memory);

  TensorView inputs;                   // [1, InputBlock::bytes()] u8
  TensorView embedded;                 // [n, hidden] f32: the first norm reads it unrounded
  TensorView x, residual;              // [n, hidden]
  Activation h;                        // [n, hidden] q
  TensorView q_a;                      // [n, q_lora_rank]
  Activation q_a_normed;               // [n, q_lora_rank] q
  TensorView q;                        // [n, heads * (nope + rope)]
  TensorView kv_a;                     // [n, kv_lora_rank + rope]
  Activation attention;                // [n, heads * v] q
  TensorView index_k;                  // [n, index_head_dim]
  TensorView index_q;                  // [n, index_n_heads * index_head_dim]
  TensorView index_weights;            // [n, index_n_heads] f32
  TensorView indices;                  // [t, index_topk or max_context] i32
  TensorView q_latent;                 // [t, heads * (kv_lora_rank + rope)]
  TensorView out_latent;               // [t, heads * kv_lora_rank]
  TensorView mlp_gate, mlp_up;         // [n, max(intermediate, shared width)]
  Activation mlp_hidden;               // the same, q
  TensorView gate_scores;              // [n, n_routed_experts] f32
  TensorView expert_ids, expert_rows;  // [n, k] i32
  TensorView expert_weights;           // [n, k] f32
  TensorView expert_offsets;           // [1, n_routed_experts + 1] i32
  Activation dispatched;               // [n * k, hidden] q
  TensorView expert_gate, expert_up;   // [n * k, moe_intermediate_size]
  Activation expert_hidden;            // the same, q
  TensorView expert_out;               // [n * k, hidden]
  TensorView shared_out;               // [n, hidden]
  TensorView row_x, row_residual;      // [kLogitsTile, hidden]
  Activation row_h;                    // the same
  TensorView logits;                   // [kLogitsTile, vocab] f32
  Activation final_h;                  // [n, hidden]; MTP only, like the rest
  TensorView mtp_hidden;               // [n, hidden]
  Activation mtp_input;                // [n, 2 * hidden]

  std::size_t bytes = 0;  // of all, each aligned to 64
};

StepCapacity step_capacity(const ModelConfig& config, const BufferOptions& options);

// What a Backend must be ready for, but for the cache's layout and the weights' formats.
BackendLimits backend_limits(const ModelConfig& config, const BufferOptions& options);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_BUFFERS_H_
