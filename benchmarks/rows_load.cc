// Opening and loading checkpoints, and the memory that a loaded model takes.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/harness.h"
#include "lib/base/check.h"
#include "lib/model/forward.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

constexpr double kMegabyte = 1e6;

// Checkpoints that bench.sh makes: `fake` has every tensor of DeepSeek-V3.2 and no values, `real`
// has few layers of real width. Smoke runs take the bundled model.
fs::path model_folder(const Bench& bench, const char* name) {
  if (bench.smoke()) return fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
  const char* models = std::getenv("DSV32_BENCH_MODELS");
  return (models ? fs::path(models) : fs::path(DSV32_SOURCE_DIR) / "build/bench-models") / name;
}

// Bytes of a line of /proc/self/status.
double status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return 1024 * std::atof(line.c_str() + key.size() + 1);
  }
  return 0;
}

double anonymous() { return status_bytes("RssAnon"); }

std::string no_model(const fs::path& folder) {
  return fs::exists(folder / "config.json") ? "" : "there is no " + folder.string();
}

// Milliseconds over 50 ms + 2 us a tensor.
double allowed_part(double seconds, std::size_t tensors) {
  return seconds / (0.050 + 2e-6 * static_cast<double>(tensors));
}

Result open_index(Bench& bench) {
  const fs::path folder = model_folder(bench, "fake");
  if (const std::string no = no_model(folder); !no.empty()) return missed(no);
  std::size_t tensors = 0;
  const double before = anonymous();
  double grown = 0;
  const double time = bench.best([&] {
    const Checkpoint checkpoint = Checkpoint::open(folder);
    tensors = checkpoint.tensors().size();
    grown = std::max(grown, anonymous() - before);
  });
  return {.value = allowed_part(time, tensors),
          .note = fmt::format("{} tensors in {:.0f} ms, {:.0f} MB of memory", tensors, 1e3 * time,
                              grown / kMegabyte)};
}

LoadOptions load_options(const Bench& bench) {
  return {.backend = bench.backend_options(0),
          .kv_cache_tokens = 4096,
          .max_batch_tokens = bench.pick(2048, 64)};
}

Result load_model(Bench& bench) {
  const fs::path folder = model_folder(bench, "real");
  if (const std::string no = no_model(folder); !no.empty()) return missed(no);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const std::size_t tensors = checkpoint.tensors().size();
  double copied = 0, weights = 0;
  const double before = anonymous();
  const double time = bench.best([&] {
    const Model model = Model::load(folder, load_options(bench));
    const MemoryUsage use = model.memory_usage();
    weights = static_cast<double>(use.weight_bytes);
    copied = std::max(copied, anonymous() - before);
  });
  return {
      .value = allowed_part(time, tensors),
      .note = fmt::format("{} tensors, {:.2f} GB mapped, {:.0f} MB of memory touched, {:.0f} ms",
                          tensors, weights / 1e9, copied / kMegabyte, 1e3 * time)};
}

// Anonymous memory of a loaded model above weights and cache. It does not grow with the number of
// layers, so what may be used is a part of all of DeepSeek-V3.2's weights.
Result memory_overhead(Bench& bench) {
  constexpr double kWeights = 671.9e9;
  const fs::path folder = model_folder(bench, "real");
  if (const std::string no = no_model(folder); !no.empty()) return missed(no);
  const double before = anonymous();
  const Model model = Model::load(folder, load_options(bench));
  Session session(model);
  const std::vector<TokenId> prompt(static_cast<std::size_t>(bench.pick(256, 16)), 5);
  session.append(prompt);
  const MemoryUsage use = model.memory_usage();
  // Pages of buffers that this prompt was too short to touch count, too.
  const double touched = anonymous() - before - static_cast<double>(use.kv_cache_bytes);
  const double overhead = std::max(touched, static_cast<double>(use.activation_bytes));
  return {.value = overhead / (0.02 * kWeights + 256 * 1024 * 1024),
          .note = fmt::format("{:.0f} MB planned, {:.0f} MB touched by a short prompt",
                              static_cast<double>(use.activation_bytes) / kMegabyte,
                              touched / kMegabyte)};
}

Result kv_bytes(Bench&) {
  const std::size_t page = cache_bytes(ModelConfig{}, Numerics::native, KvFormat::fp8, false, 1);
  return {.value = static_cast<double>(page) / kernels::kPageSize,
          .note = "61 layers of 656 + 132"};
}

const Register rows([](std::vector<Row>& out) {
  out.push_back({.name = "load_index",
                 .shape = "163 files, 92,425 tensors: every header read and checked",
                 .unit = "of 50 ms + 2 us a tensor",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "nothing is read but headers",
                 .run = open_index});
  out.push_back({.name = "load_model",
                 .shape = "2 layers of real width, bound and ready to run",
                 .unit = "of 50 ms + 2 us a tensor",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "weights stay where they lie: no copy",
                 .run = load_model});
  out.push_back({.name = "memory_overhead",
                 .shape = "real width, 2,048 tokens a pass",
                 .unit = "of 2 % of 671.9 GB + 256 MiB",
                 .goal = 1,
                 .higher_is_better = false,
                 .basis = "activations and scratch, all that is neither weights nor cache",
                 .run = memory_overhead});
  out.push_back({.name = "kv_bytes_a_token",
                 .shape = "DeepSeek-V3.2, FP8 cache",
                 .unit = "bytes",
                 .goal = 48068,
                 .higher_is_better = false,
                 .basis = "exactly 61 x (656 + 132)",
                 .run = kv_bytes});
});

}  // namespace
}  // namespace dsv32::bench
