// An Engine's steps against llama.cpp's parallel sequences, on the same two layers of real width.
#include <algorithm>
#include <filesystem>
#include <vector>

#include "benchmarks/answers.h"
#include "benchmarks/harness.h"
#include "benchmarks/peers/llama.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr int kPrompt = 64, kContext = 4096;
constexpr std::size_t kCache = 65536;

// What reading the weights of such a step takes at the limit of this moment, which no version of
// ours could be ahead of.
Result against(Bench& bench, int count) {
  if (bench.smoke()) return skipped("a peer has no smoke run");
  const char* path = gguf_path(GgufModel::q8_0);
  if (path == nullptr || !std::filesystem::exists(path))
    return skipped("there is no GGUF; run scripts/bench_peers.sh");
  const std::filesystem::path folder = model_folder(bench);
  if (const std::string no = missing(folder); !no.empty()) return skipped(no);
  Llama peer(path, kContext, count);
  peer.prompt(kPrompt);
  const Model model = Model::load(folder, {.backend = bench.backend_options(usable_cores()),
                                           .kv_cache_tokens = kCache,
                                           .max_batch_tokens = 2048,
                                           .max_sequences = count});
  SideBySide ours(model, count, kCache);
  const Work work{.bytes = bytes_read(Checkpoint::open(folder), count)};
  constexpr int kSteps = 8;
  std::vector<double> floors;
  const Paired p = bench.compare(
      [&] {
        double time = 0;
        for (int i = 0; i < kSteps; ++i) time += peer.decode();
        settle();
        return time / kSteps;
      },
      [&] {
        double time = 0;
        for (int i = 0; i < kSteps; ++i) time += ours.step_seconds();
        floors.push_back(bench.limit_now(work, usable_cores()));
        return time / kSteps;
      });
  std::sort(floors.begin(), floors.end());
  const double floor = floors[floors.size() / 2];
  return {.value = floor / p.reference,
          .note = formatted(
              "{:.2f} times llama.cpp, at most {:.2f} on this machine: {:.2f} ms a step, "
              "llama.cpp {:.2f} ms without drawing, our floor {:.2f} ms; {}",
              p.ratio, p.time / floor, 1e3 * p.reference, 1e3 * p.time, 1e3 * floor, p.text())};
}

const Register registered([](std::vector<Row>& out) {
  for (const int n : {1, 4, 8}) {
    out.push_back(
        {.name = formatted("engine_vs_llama_{}", n),
         .shape = formatted("{} answers behind {} tokens, Q8_0 against FP8, all cores", n, kPrompt),
         .unit = "floor over measured",
         .goal = 0.9,
         .basis = "bytes of weights at DRAM's rate, experts chosen evenly",
         .run = [n](Bench& bench) { return against(bench, n); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
