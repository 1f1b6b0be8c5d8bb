// Against llama.cpp (architecture deepseek32, Q8_0) on a model of the same two layers: one dense,
// one with 32 experts, random weights, of real width or small (everything in the caches, so that
// indexer and attention count). Both use every core that this process has.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <llama.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/harness.h"
#include "benchmarks/layer.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr int kSeed = 64;  // tokens that llama.cpp really computes; deeper caches repeat them

enum class Model { q8_0, bf16, mini };

// Files that bench_peers.sh makes.
const char* gguf_path(Model model) {
  return std::getenv(model == Model::mini   ? "DSV32_BENCH_GGUF_MINI"
                     : model == Model::bf16 ? "DSV32_BENCH_GGUF_BF16"
                                            : "DSV32_BENCH_GGUF");
}

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

struct Case {
  std::string name;
  std::vector<int> depths;  // several: passes that stand for the parts of a long prompt
  int count;                // tokens of one pass
  double goal;
  Model model = Model::q8_0;
};

// llama.cpp's threads wait for work by spinning, long after a pass, on a core that ours would have.
// Returns when this process uses no processor, or after a second.
void settle() {
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  for (int i = 0; i < 500; ++i) {
    const double before = cpu();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (cpu() - before < 2e-4) return;
  }
}

// Passes of both behind each depth; one token is decoded several times, as it is in a stream. The
// times of a case are means of passes, all depths together.
class Sides {
 public:
  Sides(Bench& bench, const Case& c) : bench_(bench), case_(c) {
    const int deepest = *std::max_element(c.depths.begin(), c.depths.end());
    peer_ = std::make_unique<Llama>(gguf_path(c.model), (deepest + c.count + 255) / 256 * 256);
    ours_ = std::make_unique<LayerBench>(bench, LayerOptions{.threads = usable_cores(),
                                                             .context = deepest + c.count,
                                                             .batch_tokens = std::max(512, c.count),
                                                             .dense_layers = 1,
                                                             .moe_layers = 1,
                                                             .experts = 32,
                                                             .logits = true,
                                                             .mini = c.model == Model::mini});
    ours_->fill();
  }

  double theirs() {
    double time = 0;
    for (const int depth : case_.depths) {
      if (filled_ != depth) peer_->fill(depth);
      filled_ = depth;
      for (int i = 0; i < passes(); ++i) time += peer_->step(depth, case_.count);
    }
    settle();
    return time / passes();
  }

  double ours() {
    double time = 0;
    work_.clear();
    for (const int depth : case_.depths) {
      for (int i = 0; i < passes(); ++i) {
        const double start = now();
        ours_->prefill(depth, case_.count);
        time += now() - start;
      }
      work_.push_back(ours_->pass_work(depth, case_.count));
    }
    return time / passes();
  }

  int passes() const { return case_.count == 1 ? 8 : 1; }

  // What our last passes would take at the limits of this moment, with nothing lost.
  double floor() {
    double time = 0;
    for (const Work& work : work_) time += bench_.limit_now(work, usable_cores());
    return time;
  }

 private:
  Bench& bench_;
  const Case& case_;
  std::unique_ptr<Llama> peer_;
  std::unique_ptr<LayerBench> ours_;
  int filled_ = -1;
  std::vector<Work> work_;
};

// In turns, with our own floor in between: no version of ours could be further ahead than that.
Result against(Bench& bench, const Case& c) {
  if (bench.smoke()) return skipped("a peer has no smoke run");
  const char* path = gguf_path(c.model);
  if (path == nullptr || !std::filesystem::exists(path))
    return skipped("there is no GGUF; run scripts/bench_peers.sh");
  Sides sides(bench, c);
  std::vector<double> floors;
  const Paired p = bench.compare([&] { return sides.theirs(); },
                                 [&] {
                                   const double time = sides.ours();
                                   floors.push_back(sides.floor());
                                   return time;
                                 });
  std::sort(floors.begin(), floors.end());
  const double floor = floors[floors.size() / 2];
  const double tokens = c.count * static_cast<double>(c.depths.size());
  std::string note = formatted("llama.cpp {:.2f} ms ({:.1f} tokens/s), here {:.2f} ms",
                               1e3 * p.time, tokens / p.time, 1e3 * p.reference);
  if (c.model != Model::mini) {  // whose weights never leave the caches
    note += formatted(", our floor {:.1f} ms: at most {:.2f} times on this machine", 1e3 * floor,
                      p.time / floor);
  }
  return {.value = p.ratio, .note = formatted("{}; {}", note, p.text())};
}

std::string shape(const Case& c) {
  std::string depths;
  for (const int depth : c.depths)
    depths += (depths.empty() ? "" : " and ") + std::to_string(depth);
  return formatted("{} tokens behind {}, {} against FP8, {}all cores", c.count, depths,
                   c.model == Model::bf16 ? "BF16" : "Q8_0",
                   c.model == Model::mini ? "16 heads, hidden size 1,024, " : "");
}

const Register registered([](std::vector<Row>& out) {
  const Case cases[] = {
      {"e2e_decode_vs_llama_64", {64}, 1, 1.6},
      {"e2e_decode_vs_llama_2k", {2048}, 1, 3},
      {"e2e_decode_vs_llama_8k", {8192}, 1, 5},
      {"e2e_decode_vs_llama_32k", {32768}, 1, 8},
      // Twice the bytes, twice the goal.
      {"e2e_decode_vs_llama_bf16_64", {64}, 1, 3.2, Model::bf16},
      // The goals are those of real width.
      {"e2e_decode_vs_llama_mini_64", {64}, 1, 0, Model::mini},
      {"e2e_decode_vs_llama_mini_2k", {2048}, 1, 0, Model::mini},
      {"e2e_decode_vs_llama_mini_8k", {8192}, 1, 0, Model::mini},
      {"e2e_decode_vs_llama_mini_32k", {32768}, 1, 0, Model::mini},
      {"e2e_prefill_vs_llama_256", {0}, 256, 2},
      // A prompt of 4,096 in passes of 512: the mean pass of each half, whose cost grows evenly.
      {"e2e_prefill_vs_llama_4k", {768, 2816}, 512, 2.5},
      {"e2e_prefill_vs_llama_2k", {2048}, 512, 6}};
  for (const Case& c : cases) {
    out.push_back({.name = c.name,
                   .shape = shape(c),
                   .unit = "times llama.cpp",
                   .goal = c.goal,
                   .basis = c.count == 1 ? "bytes of weights at DRAM's rate, then attention"
                                         : "operations at the peak",
                   .run = [c](Bench& bench) { return against(bench, c); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
