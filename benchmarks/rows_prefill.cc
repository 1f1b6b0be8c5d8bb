// Attention of a whole prefill: sparse against masked multi-head and against dense absorbed. Both
// sides are sampled at 16 positions of the prompt and averaged, in turns.
#include <algorithm>
#include <functional>
#include <string>

#include "benchmarks/attention.h"
#include "benchmarks/harness.h"
#include "benchmarks/mha.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr int kSamples = 16;
constexpr int kQueries = 48;        // of a sparse pass; smoke runs take two
constexpr int kDenseQueries = 8;    // of a dense one: its time is long enough
constexpr double kBaseline = 0.75;  // of the peak that a baseline must reach
constexpr double kPatience = 60;    // seconds for all samples of the sparse side

double seconds_of(const std::function<void()>& call) {
  const double start = now();
  call();
  return now() - start;
}

struct Side {
  std::function<double(int length)> time;  // seconds a query behind length - 1 keys
  double operations;                       // of a query and a key
};

Result prefill_ratio(Bench& bench, int prompt, const Side& baseline) {
  const int queries = bench.pick(kQueries, 2);
  AttentionBench attention(bench, prompt, queries);
  Backend& backend = bench.backend(1);
  double dense = 0, sparse = 0, limit = 0;
  for (int i = 0; i < kSamples; ++i) {
    int length = static_cast<int>((i + 0.5) * prompt / kSamples);
    length = std::max(length / kMhaKeys, 1) * kMhaKeys;
    const double before = bench.compute_rate(1);
    dense += baseline.time(length);
    const double peak = (before + bench.compute_rate(1)) / 2;
    limit += baseline.operations * length / peak;
    sparse += seconds_of([&] { attention.sparse(backend, length, queries); }) / queries;
    if (sparse * queries > kPatience && i + 1 < kSamples)
      return missed(formatted("{} samples already took {:.0f} s", i + 1, sparse * queries));
  }
  const std::string note =
      formatted("baseline {:.2f} ms a query ({:.0f} % of peak), sparse {:.2f} ms",
                1e3 * dense / kSamples, 100 * limit / dense, 1e3 * sparse / kSamples);
  if (limit / dense < kBaseline && !bench.smoke())
    return missed("void, baseline below 75 %: " + note);
  return {.value = dense / sparse, .note = note};
}

Result against_mha(Bench& bench, int prompt) {
  prompt = bench.pick(prompt, 2048);
  if (!MhaHead::runs_here()) return skipped("the baseline needs AVX-512 with BF16");
  MhaHead head(prompt);
  head.attend(kMhaKeys * 4);
  const double wrong = head.deviation(kMhaKeys * 4);
  if (wrong > 0.02) return missed(formatted("the baseline is wrong by {:.3f}", wrong));
  return prefill_ratio(
      bench, prompt,
      {.time =
           [&](int length) {  // all heads are alike: some calls of one, for all 128
             const int calls = bench.smoke() ? 1 : std::max(3, 16384 / length);
             return seconds_of([&] {
                      for (int i = 0; i < calls; ++i) head.attend(length);
                    }) /
                    calls * kMla.heads / kMhaQueries;
           },
       .operations = kExpandedOperations});
}

Result against_absorbed(Bench& bench, int prompt) {
  prompt = bench.pick(prompt, 2048);
  AttentionBench attention(bench, prompt, kDenseQueries);
  const int queries = bench.pick(kDenseQueries, 1);
  return prefill_ratio(
      bench, prompt,
      {.time =
           [&](int length) {
             return seconds_of([&] { attention.dense(bench.backend(1), length, queries); }) /
                    queries;
           },
       .operations = kAbsorbedOperations});
}

const Register rows([](std::vector<Row>& out) {
  const struct {
    int prompt;
    double mha, absorbed;
  } cases[] = {{8192, 0.55, 1.8}, {32768, 1.5, 5}, {131072, 2.9, 10}};
  for (const auto& c : cases) {
    const int n = c.prompt;
    out.push_back({.name = formatted("dsa_prefill_vs_mha_{}k", n / 1024),
                   .shape = formatted("prompt of {}, over masked multi-head, 1 thread", n),
                   .unit = "times faster",
                   .goal = c.mha,
                   .basis = "0.59, 1.63, 3.27 if both ran at the same part of peak",
                   .run = [n](Bench& bench) { return against_mha(bench, n); }});
  }
  for (const auto& c : cases) {
    const int n = c.prompt;
    out.push_back({.name = formatted("dsa_prefill_vs_dense_{}k", n / 1024),
                   .shape = formatted("prompt of {}, over dense absorbed, 1 thread", n),
                   .unit = "times faster",
                   .goal = c.absorbed,
                   .basis = "2.0, 5.6, 11.1 if both ran at the same part of peak",
                   .run = [n](Bench& bench) { return against_absorbed(bench, n); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
