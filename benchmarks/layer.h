// One or few layers of DeepSeek-V3.2 at full width (or a small one) on random weights, run by the
// model's own forward pass. The weights lie in Bench::codes(); where that is too small for 256
// experts, several share their bytes, far enough apart that each is read from DRAM every time.
#ifndef DSV32_BENCHMARKS_LAYER_H_
#define DSV32_BENCHMARKS_LAYER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "benchmarks/harness.h"
#include "benchmarks/traced_backend.h"
#include "lib/model/forward.h"

namespace dsv32::bench {

struct LayerOptions {
  int threads = 1;
  int context = 4096;     // positions of each sequence
  int sequences = 1;      // all read the same pages
  int batch_tokens = 64;  // of one pass, at most
  int dense_layers = 0, moe_layers = 1, experts = 256;
  bool logits = false;  // of the last token of a pass, too
  bool mini = false;    // few heads and narrow projections; indexer and cache of full size
};

class LayerBench {
 public:
  LayerBench(Bench& bench, const LayerOptions& options);

  // Fills the caches of positions [0, context) with random records.
  void fill();
  // One pass: `tokens` tokens behind `position` others of one sequence.
  void prefill(int position, int tokens);
  // One token of each of `count` sequences, at the last position.
  void decode(int count);

  TracedBackend& traced() { return *traced_; }
  const ModelConfig& config() const { return config_; }
  // Of one MoE layer.
  double attention_bytes() const;  // of the projections' weights
  double expert_bytes() const;     // of one expert
  double shared_bytes() const;     // of the shared expert and the gate

  // What one token does in the projections and the MLP, and at one position of the context.
  double linear_operations() const;
  double attention_operations(int position) const;
  // What the last pass had to do in all layers: `tokens` tokens behind `position` others.
  Work pass_work(int position, int tokens) const;

 private:
  Weight fp8(std::int64_t out, std::int64_t in);
  Weight bf16(std::int64_t out, std::int64_t in, float scale);
  TensorView gain(std::int64_t n);
  ModelWeights weights();
  LayerWeights layer(bool dense);
  void run(const Batch& batch);
  // Tokens at `positions`, of one sequence each or all of one.
  Batch batch(std::span<const int> positions, bool one_sequence);

  Bench& bench_;
  LayerOptions options_;
  ModelConfig config_;
  std::size_t next_code_ = 0;
  std::vector<float> scales_, ones_;
  std::deque<std::vector<std::byte>> dense_;
  std::unique_ptr<TracedBackend> traced_;
  std::unique_ptr<Forward> forward_;
  StepResult result_;
  std::int32_t next_token_ = 0;
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_LAYER_H_
