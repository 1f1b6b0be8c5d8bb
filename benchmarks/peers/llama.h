// llama.cpp (architecture deepseek32) on the random models that bench_peers.sh makes.
#ifndef DSV32_BENCHMARKS_PEERS_LLAMA_H_
#define DSV32_BENCHMARKS_PEERS_LLAMA_H_

#include <llama.h>
#include <memory>

namespace dsv32::bench {

enum class GgufModel { q8_0, bf16, mini };

// Files that bench_peers.sh makes; null without them.
const char* gguf_path(GgufModel model);

class Llama {
 public:
  // `sequences` of `context` tokens each.
  Llama(const char* path, int context, int sequences = 1);

  // Seconds of computing `count` tokens behind `depth` others, which stay.
  double step(int depth, int count);
  // Seconds of one more token of each sequence, which stays, with logits for all of them.
  double decode();

  // Sequence 0 has `depth` tokens.
  void fill(int depth);
  // Each sequence has `depth` tokens of its own.
  void prompt(int depth);

 private:
  struct FreeModel {
    void operator()(llama_model* model) const { llama_model_free(model); }
  };
  struct FreeContext {
    void operator()(llama_context* context) const { llama_free(context); }
  };
  struct FreeBatch {
    void operator()(llama_batch* batch) const {
      llama_batch_free(*batch);
      delete batch;
    }
  };
  double run(llama_batch batch);

  int sequences_, depth_ = 0;
  std::unique_ptr<llama_model, FreeModel> model_;
  std::unique_ptr<llama_context, FreeContext> context_;
  std::unique_ptr<llama_batch, FreeBatch> batch_;
  int next_ = 0;
};

// llama.cpp's threads wait for work by spinning, long after a pass, on a core that ours would have.
// Returns when this process uses no processor, or after a second.
void settle();

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_PEERS_LLAMA_H_
