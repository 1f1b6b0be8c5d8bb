// All weights of a model on one page: what the checkpoint's files hold, then a backend's handles to
// it. Names as in the checkpoint, without `_proj`.
#ifndef DSV32_LIB_WEIGHTS_WEIGHTS_H_
#define DSV32_LIB_WEIGHTS_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/config.h"

#include "lib/backend/backend.h"
#include "lib/base/tensor.h"

namespace dsv32 {

// One matrix: a view of the mapped file until it is bound, from then on a handle.
struct Weight {
  Linear file{};
  WeightHandle bound{};
};

// One matrix of every expert.
struct Experts {
  std::vector<Linear> file{};
  ExpertsHandle bound{};
};

struct AttentionWeights {
  Weight q_a;            // [q_lora_rank, hidden]
  TensorView q_a_norm;   // [1, q_lora_rank] f32
  Weight q_b;            // [heads * (nope + rope), q_lora_rank]
  Weight kv_a;           // [kv_lora_rank + rope, hidden]
  TensorView kv_a_norm;  // [1, kv_lora_rank] f32
  Weight kv_b;           // [heads * (nope + v), kv_lora_rank]
  Weight o;              // [hidden, heads * v]
};

struct IndexerWeights {
  Weight wq_b;        // [index_n_heads * index_head_dim, q_lora_rank]
  Weight wk;          // [index_head_dim, hidden]
  TensorView k_norm;  // [1, index_head_dim] f32, gain
  TensorView k_bias;  // [1, index_head_dim] f32
  Weight weights;     // weights_proj: [index_n_heads, hidden]
};

struct MlpWeights {
  Weight gate, up, down;  // [width, hidden], [width, hidden], [hidden, width]
};

struct MoeWeights {
  Weight gate;                         // [n_routed_experts, hidden]
  TensorView e_score_correction_bias;  // [1, n_routed_experts] f32
  Experts expert_gate, expert_up, expert_down;
  MlpWeights shared_experts;  // width n_shared_experts * moe_intermediate_size
};

struct LayerWeights {
  TensorView input_layernorm;           // [1, hidden] f32
  TensorView post_attention_layernorm;  // [1, hidden] f32
  AttentionWeights attention;
  std::optional<IndexerWeights> indexer;  // none: dense attention
  std::optional<MlpWeights> mlp;          // one of these two
  std::optional<MoeWeights> moe;
};

struct MtpWeights {
  Weight embed_tokens;      // the main one where the file has no copy
  TensorView enorm, hnorm;  // [1, hidden] f32
  Weight eh_proj;           // [hidden, 2 * hidden]: embedding first, hidden second
  LayerWeights layer;
  TensorView shared_head_norm;  // [1, hidden] f32
  Weight shared_head;           // [vocab, hidden]; the main one where the file has no copy
};

struct ModelWeights {
  Weight embed_tokens;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  TensorView norm;  // [1, hidden] f32
  Weight lm_head;   // [vocab, hidden]
  std::optional<MtpWeights> mtp;
  std::shared_ptr<void> gains;  // norms and biases in backend memory, f32
};

struct Shards;

struct BindOptions {
  bool mtp = false;           // bind the MTP layer, too; its tensors never count as unused
  bool allow_unused = false;  // tensors that are not of this model
  Verify verify = Verify::scales;
};

// Checks that the files hold every tensor that `config` calls for, of the right shape and type, and
// no other; the weights are views of the files then. Throws mismatch with the first ten names and
// the count. FP8 scales are read to choose each Linear's format (fp8_pow2 only if all are 0 or
// powers of two within 2^-100..2^100 and the config says ue8m0), whatever `verify` says. What is
// allowed but worth a word goes to `warn`.
ModelWeights read_weights(const ModelConfig& config, const Shards& shards,
                          const BindOptions& options,
                          FunctionRef<void(const std::string& message)> warn);

// Bits 1 << WeightFormat of the formats in use.
std::uint32_t weight_formats(const ModelWeights& weights);

// Hands every matrix to `backend` and replaces its view by the handle; gains and biases become
// aligned f32 copies in its memory. `progress` gets the bytes as they are bound.
void bind_weights(ModelWeights& weights, Backend& backend, BindProgress progress);

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_WEIGHTS_H_
