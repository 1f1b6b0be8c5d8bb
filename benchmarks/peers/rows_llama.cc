// Against llama.cpp (architecture deepseek32, Q8_0) on a model of the same two layers: one dense,
// one with 32 experts, real width, random weights. Both use every core that this process has.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <llama.h>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/harness.h"
#include "benchmarks/layer.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr int kSeed = 64;  // tokens that llama.cpp really computes; deeper caches repeat them

const char* gguf_path() { return std::getenv("DSV32_BENCH_GGUF"); }

struct FreeModel {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
struct FreeContext {
  void operator()(llama_context* context) const { llama_free(context); }
};

// Reads and appends plain values of a saved state.
class State {
 public:
  explicit State(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) {}
  template <class T>
  T take() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  const std::uint8_t* take(std::size_t count) {
    DSV32_CHECK(at_ + count <= bytes_.size(), io, "llama.cpp's state ends early");
    return bytes_.data() + std::exchange(at_, at_ + count);
  }
  bool at_end() const { return at_ == bytes_.size(); }
  template <class T>
  void put(T value) {
    put(reinterpret_cast<const std::uint8_t*>(&value), sizeof value);
  }
  void put(const std::uint8_t* data, std::size_t count) {
    bytes_.insert(bytes_.end(), data, data + count);
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

// The state of a sequence that repeats `from`'s cells until it has `depth`. The format is
// llama_kv_cache::state_write's, once for the latents and once for the indexer's keys.
std::vector<std::uint8_t> deepened(std::vector<std::uint8_t> from_bytes, std::uint32_t depth) {
  State from(std::move(from_bytes)), to({});
  to.put(from.take(8), 8);  // magic and sequence
  while (!from.at_end()) {
    const auto streams = from.take<std::uint32_t>(), cells = from.take<std::uint32_t>();
    DSV32_CHECK(streams == 1 && cells == kSeed, io, "llama.cpp's state is of another version");
    to.put(streams);
    to.put(depth);
    for (std::uint32_t i = 0; i < cells; ++i) from.take(12);
    for (std::uint32_t i = 0; i < depth; ++i) {
      to.put(static_cast<std::int32_t>(i));
      to.put(std::uint32_t{1});
      to.put(std::int32_t{0});
    }
    to.put(from.take<std::uint32_t>());  // transposed values: there are none
    const auto layers = from.take<std::uint32_t>();
    to.put(layers);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      to.put(from.take<std::int32_t>());
      const auto row = from.take<std::uint64_t>();
      to.put(row);
      const std::uint8_t* rows = from.take(row * cells);
      for (std::uint32_t i = 0; i < depth; ++i) to.put(rows + i % cells * row, row);
    }
  }
  return to.bytes();
}

class Llama {
 public:
  Llama(const char* path, int context) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_params model = llama_model_default_params();
    model_.reset(llama_model_load_from_file(path, model));
    DSV32_CHECK(model_ != nullptr, io, "llama.cpp does not load {}", path);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(context);
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = usable_cores();
    context_.reset(llama_init_from_model(model_.get(), params));
    DSV32_CHECK(context_ != nullptr, io, "llama.cpp makes no context");
  }

  // Seconds of computing `count` tokens behind `depth` others, which stay.
  double step(int depth, int count) {
    std::vector<llama_token> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(next_++ % 4096);
    const double start = now();
    const int failed = llama_decode(context_.get(), llama_batch_get_one(tokens.data(), count));
    DSV32_CHECK(failed == 0, io, "llama_decode: {}", failed);
    const double time = now() - start;
    llama_memory_seq_rm(llama_get_memory(context_.get()), 0, depth, -1);
    return time;
  }

  void fill(int depth) {
    llama_memory_clear(llama_get_memory(context_.get()), true);
    if (depth == 0) return;
    step(kSeed, kSeed);
    std::vector<std::uint8_t> state(llama_state_seq_get_size(context_.get(), 0));
    llama_state_seq_get_data(context_.get(), state.data(), state.size(), 0);
    if (depth == kSeed) return;
    state = deepened(std::move(state), static_cast<std::uint32_t>(depth));
    llama_memory_clear(llama_get_memory(context_.get()), true);
    DSV32_CHECK(llama_state_seq_set_data(context_.get(), state.data(), state.size(), 0) > 0, io,
                "llama.cpp does not take the state");
  }

 private:
  std::unique_ptr<llama_model, FreeModel> model_;
  std::unique_ptr<llama_context, FreeContext> context_;
  int next_ = 0;
};

// Times of one pass of `count` tokens behind `depth` others, in turns.
Result against(Bench& bench, int depth, int count) {
  if (bench.smoke()) return missed("a peer has no smoke run");
  if (gguf_path() == nullptr || !std::filesystem::exists(gguf_path()))
    return missed("there is no GGUF; run scripts/bench_peers.sh");
  const int context = (depth + count + 255) / 256 * 256;
  Llama peer(gguf_path(), context);
  peer.fill(depth);
  LayerBench ours(bench, {.threads = usable_cores(),
                          .context = depth + count,
                          .batch_tokens = std::max(512, count),
                          .dense_layers = 1,
                          .moe_layers = 1,
                          .experts = 32,
                          .logits = true});
  ours.fill();
  const Paired p = bench.compare([&] { return peer.step(depth, count); },
                                 [&] {
                                   const double start = now();
                                   ours.prefill(depth, count);
                                   return now() - start;
                                 });
  return {.value = p.ratio,
          .note = fmt::format("llama.cpp {:.1f} ms ({:.1f} tokens/s), here {:.1f} ms; {}",
                              1e3 * p.time, count / p.time, 1e3 * p.reference, p.text())};
}

const Register registered([](std::vector<Row>& out) {
  const struct {
    const char* name;
    int depth, count;
    double goal;
  } cases[] = {{"e2e_decode_vs_llama_64", 64, 1, 1.6},
               {"e2e_decode_vs_llama_2k", 2048, 1, 3},
               {"e2e_decode_vs_llama_8k", 8192, 1, 5},
               {"e2e_prefill_vs_llama_256", 0, 256, 2},
               {"e2e_prefill_vs_llama_2k", 2048, 512, 6}};
  for (const auto& c : cases) {
    const int depth = c.depth, count = c.count;
    out.push_back(
        {.name = c.name,
         .shape = fmt::format("{} tokens behind {}, Q8_0 against FP8, all cores", count, depth),
         .unit = "times llama.cpp",
         .goal = c.goal,
         .basis = count == 1 ? "it reads weights at half of DRAM's speed, masks keys"
                             : "it computes at 29 % of the peak, 4 % in attention",
         .run = [depth, count](Bench& bench) { return against(bench, depth, count); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
