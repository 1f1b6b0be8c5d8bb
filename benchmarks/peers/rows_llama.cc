// Against llama.cpp (architecture deepseek32, Q8_0) on a model of the same two layers: one dense,
// one with 32 experts, random weights, of real width or small (everything in the caches, so that
// indexer and attention count). Both use every core that this process has.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/harness.h"
#include "benchmarks/layer.h"
#include "benchmarks/peers/llama.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

struct Case {
  std::string name;
  std::vector<int> depths;  // several: passes that stand for the parts of a long prompt
  int count;                // tokens of one pass
  double goal;
  GgufModel model = GgufModel::q8_0;
};

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
                                                             .mini = c.model == GgufModel::mini});
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
  if (c.model != GgufModel::mini) {  // whose weights never leave the caches
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
                   c.model == GgufModel::bf16 ? "BF16" : "Q8_0",
                   c.model == GgufModel::mini ? "16 heads, hidden size 1,024, " : "");
}

const Register registered([](std::vector<Row>& out) {
  const Case cases[] = {
      {"e2e_decode_vs_llama_64", {64}, 1, 1.6},
      {"e2e_decode_vs_llama_2k", {2048}, 1, 3},
      {"e2e_decode_vs_llama_8k", {8192}, 1, 5},
      {"e2e_decode_vs_llama_32k", {32768}, 1, 8},
      // Twice the bytes, twice the goal.
      {"e2e_decode_vs_llama_bf16_64", {64}, 1, 3.2, GgufModel::bf16},
      // The goals are those of real width.
      {"e2e_decode_vs_llama_mini_64", {64}, 1, 0, GgufModel::mini},
      {"e2e_decode_vs_llama_mini_2k", {2048}, 1, 0, GgufModel::mini},
      {"e2e_decode_vs_llama_mini_8k", {8192}, 1, 0, GgufModel::mini},
      {"e2e_decode_vs_llama_mini_32k", {32768}, 1, 0, GgufModel::mini},
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
