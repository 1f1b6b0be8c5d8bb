// Attention of one decode step at full width: indexer, top-k, sparse and dense MLA, and their
// ratio.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "benchmarks/attention.h"
#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr double kBaseline = 0.75;  // of peak that a baseline must reach

std::string thousands(int n) { return formatted("{}k", n / 1024); }

std::string speed(const Paired& p, double operations) {
  return formatted("{:.3f} ms, {:.0f} Gop/s; {}", 1e3 * p.time, operations / p.time / 1e9,
                   p.text());
}

Result indexer(Bench& bench, int length) {
  length = bench.pick(length, 512);
  AttentionBench attention(bench, length, 1);
  const Work work{.operations = kIndexerOperations * length};
  const Paired p = bench.against_limit(work, 1, [&] { attention.scores(bench.kernels(), length); });
  return {.value = p.ratio, .note = speed(p, work.operations)};
}

Result sparse_mla(Bench& bench, int threads) {
  const int listed = bench.pick(kIndexer.top_k, 64);
  AttentionBench attention(bench, bench.pick(131072, 1024), 1);
  const Work work{.operations = kAbsorbedOperations * listed};
  const Paired p = bench.against_limit(
      work, threads, [&] { attention.attend_listed(bench.backend(threads), listed); });
  return {.value = p.ratio, .note = speed(p, work.operations)};
}

Result dense_mla(Bench& bench, int length) {
  length = bench.pick(length, 128);
  AttentionBench attention(bench, length, 1);
  const Work work{.operations = kAbsorbedOperations * length};
  const Paired p =
      bench.against_limit(work, 1, [&] { attention.dense(bench.backend(1), length, 1); });
  return {.value = p.ratio, .note = speed(p, work.operations)};
}

double seconds_of(const std::function<void()>& call) {
  const double start = now();
  call();
  return now() - start;
}

// Void if the dense side is slow: a ratio to a bad baseline says nothing.
Result decode_ratio(Bench& bench, int length) {
  length = bench.pick(length, 2176);
  AttentionBench attention(bench, length, 1);
  Backend& backend = bench.backend(1);
  const double peak = bench.compute_rate(1);
  const Paired p =
      bench.compare([&] { return seconds_of([&] { attention.dense(backend, length, 1); }); },
                    [&] { return seconds_of([&] { attention.sparse(backend, length, 1); }); });
  const double part = kAbsorbedOperations * length / p.time / ((peak + bench.compute_rate(1)) / 2);
  const std::string note = formatted("dense {:.2f} ms ({:.0f} % of peak), sparse {:.2f} ms; {}",
                                     1e3 * p.time, 100 * part, 1e3 * p.reference, p.text());
  if (part < kBaseline && !bench.smoke()) return missed("void, baseline below 75 %: " + note);
  return {.value = p.ratio, .note = note};
}

// Where dense attention begins to cost more than the indexer and 2,048 keys.
Result crossover(Bench& bench) {
  const int step = bench.pick(128, 256), last = bench.pick(6144, 2304);
  AttentionBench attention(bench, last, 1);
  Backend& backend = bench.backend(1);
  const auto best = [&](const std::function<void()>& call) {
    double fastest = std::numeric_limits<double>::infinity();
    for (int i = 0; i < bench.pick(9, 1); ++i) fastest = std::min(fastest, seconds_of(call));
    return fastest;
  };
  double difference = 0;
  for (int length = kIndexer.top_k + step; length <= last; length += step) {
    const double dense = best([&] { attention.dense(backend, length, 1); });
    const double sparse = best([&] { attention.sparse(backend, length, 1); });
    if (dense >= sparse) {
      const double over = dense - sparse;
      const double back = difference < 0 ? over / (over - difference) * step : 0;
      return {.value = (length - back) / 1000,
              .note = formatted("{:.3f} ms each there", 1e3 * dense)};
    }
    difference = dense - sparse;
  }
  if (bench.smoke()) return {.value = last / 1000.0};
  return missed(formatted("dense is faster up to {} tokens", last));
}

const char* const kDistributions[] = {"normal", "lognormal", "ascending", "many ties"};

std::vector<float> distribution(int kind, int length) {
  std::vector<float> scores(static_cast<std::size_t>(length));
  fill_f32(scores.data(), length, 7);
  for (int i = 0; i < length; ++i) {
    float& x = scores[static_cast<std::size_t>(i)];
    if (kind == 1) x = std::exp(2 * x);
    if (kind == 2) x = static_cast<float>(i) / static_cast<float>(length) + 0.01f * x;
    if (kind == 3) x = std::max(0.0f, x - 1.5f);
  }
  return scores;
}

// Nanoseconds an element: of the table's kernel, and of std::nth_element over positions.
double top_k_time(Bench& bench, const std::vector<float>& scores) {
  const auto count = static_cast<int>(scores.size());
  std::vector<std::uint32_t> scratch(
      static_cast<std::size_t>(kernels::top_k_scratch(kIndexer.top_k)));
  std::vector<std::int32_t> positions(static_cast<std::size_t>(kIndexer.top_k));
  const double best = bench.best([&] {
    bench.kernels().top_k({.scores = scores.data(),
                           .scratch = scratch.data(),
                           .positions = positions.data(),
                           .count = count,
                           .top_k = kIndexer.top_k});
  });
  return 1e9 * best / count;
}

double nth_element_time(Bench& bench, const std::vector<float>& scores) {
  std::vector<std::int32_t> order(scores.size());
  const double best = bench.best([&] {
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
    std::nth_element(order.begin(), order.begin() + kIndexer.top_k - 1, order.end(),
                     [&](std::int32_t a, std::int32_t b) {
                       const float x = scores[static_cast<std::size_t>(a)],
                                   y = scores[static_cast<std::size_t>(b)];
                       return x > y || (x == y && a < b);
                     });
  });
  return 1e9 * best / static_cast<double>(scores.size());
}

Result top_k(Bench& bench, int length, bool worst) {
  length = bench.pick(length, 4096);
  std::string note;
  double slowest = 0, first = 0;
  for (int kind = 0; kind < 4; ++kind) {
    const double time = top_k_time(bench, distribution(kind, length));
    slowest = std::max(slowest, time);
    if (kind == 0) first = time;
    note += formatted("{} {:.2f}, ", kDistributions[kind], time);
  }
  note += formatted("nth_element {:.2f}", nth_element_time(bench, distribution(0, length)));
  return {.value = worst ? slowest : first, .note = note};
}

void add_indexer(std::vector<Row>& out) {
  const struct {
    int length;
    double scores, top_k;
  } cases[] = {{8192, 0.90, 1.0}, {32768, 0.90, 0.35}, {131072, 0.88, 0.12}};
  for (const auto& c : cases) {
    const int length = c.length;
    out.push_back({.name = "indexer_" + thousands(length),
                   .shape = formatted("64 heads of 128, {} FP8 keys, 1 thread", length),
                   .unit = "of peak",
                   .goal = c.scores,
                   .basis = "124 operations a byte: compute",
                   .run = [length](Bench& bench) { return indexer(bench, length); },
                   .per_table = true});
  }
  for (const auto& c : cases) {
    const int length = c.length;
    out.push_back({.name = "topk_" + thousands(length),
                   .shape = formatted("2,048 best of {} normal scores, exact, 1 thread", length),
                   .unit = "ns an element",
                   .goal = c.top_k,
                   .higher_is_better = false,
                   .basis = "one pass at the speed of the second-level cache",
                   .run = [length](Bench& bench) { return top_k(bench, length, false); },
                   .per_table = true});
  }
  for (const int length : {32768, 131072}) {
    out.push_back({.name = "topk_worst_" + thousands(length),
                   .shape = formatted("the same, worst of four distributions of {}", length),
                   .unit = "ns an element",
                   .goal = 1.0,
                   .higher_is_better = false,
                   .basis = "no distribution may fall back to sorting",
                   .run = [length](Bench& bench) { return top_k(bench, length, true); },
                   .per_table = true});
  }
}

void add_mla(std::vector<Row>& out) {
  out.push_back({.name = "mla_sparse",
                 .shape = "128 heads, 2,048 of 131,072 records, 1 query, 1 thread",
                 .unit = "of peak",
                 .goal = 0.85,
                 .basis = "425 operations a byte: compute; softmax and dequantising beside it",
                 .run = [](Bench& bench) { return sparse_mla(bench, 1); },
                 .per_table = true});
  out.push_back({.name = "mla_sparse_2t",
                 .shape = "the same on 2 threads",
                 .unit = "of peak",
                 .run = [](Bench& bench) { return sparse_mla(bench, 2); }});
  for (const int length : {2048, 8192, 32768, 131072}) {
    out.push_back({.name = "mla_dense_" + thousands(length),
                   .shape = formatted("128 heads, all of {} records, 1 query, 1 thread", length),
                   .unit = "of peak",
                   .goal = 0.83,
                   .basis = "as mla_sparse",
                   .run = [length](Bench& bench) { return dense_mla(bench, length); },
                   .per_table = length == 2048});
  }
  const struct {
    int length;
    double goal;
  } ratios[] = {{8192, 3.0}, {32768, 7.8}, {131072, 12.5}};
  for (const auto& r : ratios) {
    const int length = r.length;
    out.push_back(
        {.name = "dsa_decode_" + thousands(length),
         .shape = formatted("dense over sparse (indexer, top-k, 2,048 keys) at {}", length),
         .unit = "times faster",
         .goal = r.goal,
         .basis = "3.24, 8.24, 13.4 if both ran at the same part of peak",
         .run = [length](Bench& bench) { return decode_ratio(bench, length); }});
  }
  out.push_back({.name = "dsa_crossover",
                 .shape = "context at which sparse begins to win, 1 query, 1 thread",
                 .unit = "thousand tokens",
                 .goal = 2.6,
                 .higher_is_better = false,
                 .basis = "2,176 tokens on paper",
                 .run = crossover});
}

const Register rows([](std::vector<Row>& out) {
  add_indexer(out);
  add_mla(out);
});

}  // namespace
}  // namespace dsv32::bench
