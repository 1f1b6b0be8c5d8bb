// FP8 weights as they lie in a file times a few rows (gemv) and many (gemm), at the shapes of an
// expert.
#include <algorithm>
#include <string>

#include "benchmarks/harness.h"
#include "benchmarks/linear.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

std::vector<LinearPool::Shape> expert_shapes(const Bench& bench) {
  const std::int64_t hidden = bench.pick(7168, 512), width = bench.pick(2048, 256);
  return {{width, hidden}, {hidden, width}};
}

std::string absolute(const Paired& p, const Work& work) {
  return formatted("{:.1f} GB/s, {:.0f} Gop/s; {}", work.bytes / p.time / 1e9,
                   work.operations / p.time / 1e9, p.text());
}

struct Case {
  int rows;
  int threads = 1;
  WeightFormat format = WeightFormat::fp8_pow2;
  int group = kernels::kBlock;
  bool peak_only = false;  // of the compute peak, whatever DRAM gives
};

Paired measure(Bench& bench, const Case& c, Work* last) {
  LinearPool pool(bench, bench.backend(c.threads), expert_shapes(bench), c.rows, c.format, c.group);
  return bench.against_limit(c.threads, [&] {
    Work work = pool.next();
    *last = work;
    if (c.peak_only) work.bytes = 0;
    return work;
  });
}

Result linear(Bench& bench, const Case& c) {
  Work work;
  const Paired p = measure(bench, c, &work);
  return {.value = p.ratio, .note = absolute(p, work)};
}

// Rows with odd scales, as a part of the rows with powers of two, in turns.
Result odd_against_pow2(Bench& bench, int rows) {
  LinearPool pow2(bench, bench.backend(1), expert_shapes(bench), rows, WeightFormat::fp8_pow2);
  LinearPool odd(bench, bench.backend(1), expert_shapes(bench), rows, WeightFormat::fp8);
  const auto seconds = [](LinearPool& pool) {
    const double start = now();
    for (int i = 0; i < 2; ++i) pool.next();
    return (now() - start) / 2;
  };
  const Paired p = bench.compare([&] { return seconds(pow2); }, [&] { return seconds(odd); });
  return {.value = p.ratio,
          .note = formatted("{:.2f} ms against {:.2f} ms; {}", 1e3 * p.reference, 1e3 * p.time,
                            p.text())};
}

// The speed-up by a second thread, over the limit's own speed-up in the same minute (which is far
// below two where two processors share a core).
Result scaling(Bench& bench, int rows, bool memory) {
  LinearPool pools[] = {
      {bench, bench.backend(1), expert_shapes(bench), rows, WeightFormat::fp8_pow2},
      {bench, bench.backend(2), expert_shapes(bench), rows, WeightFormat::fp8_pow2}};
  const auto limit = [&](int threads) {
    return memory ? bench.read_rate(threads) : bench.compute_rate(threads);
  };
  std::vector<double> one, two;
  // Units of the limit's work that fit into one call.
  const auto units = [&](int threads) {
    const double before = limit(threads), start = now();
    int calls = 0;
    do {
      pools[threads - 1].next();
      ++calls;
    } while (now() - start < bench.pick(0.03, 0.0));
    const double time = (now() - start) / calls;
    (threads == 1 ? one : two).push_back(time);
    return time * (before + limit(threads)) / 2;
  };
  const Paired p = bench.compare([&] { return units(1); }, [&] { return units(2); });
  std::sort(one.begin(), one.end());
  std::sort(two.begin(), two.end());
  const double speedup = one[one.size() / 2] / two[two.size() / 2];
  return {.value = p.ratio,
          .note = formatted("{:.2f} times faster, the limit itself {:.2f}; {}", speedup,
                            speedup / p.ratio, p.text())};
}

void add_gemv(std::vector<Row>& out) {
  const struct {
    int rows;
    double goal;
  } cases[] = {{1, 0.92}, {2, 0.90}, {4, 0.80}, {8, 0.65}};
  for (const int threads : {1, 2}) {
    for (const auto& c : cases) {
      if (threads == 2 && c.rows > 1) continue;
      const Case one{.rows = c.rows, .threads = threads};
      out.push_back({.name = formatted("gemv_fp8_m{}{}", c.rows, threads == 2 ? "_2t" : ""),
                     .shape = formatted("{} rows, [2048, 7168] and [7168, 2048], {} threads",
                                        c.rows, threads),
                     .unit = "of min(DRAM, peak)",
                     .goal = threads == 2 ? 0.90 : c.goal,
                     .basis = "every weight byte is read once from DRAM",
                     .run = [one](Bench& bench) { return linear(bench, one); },
                     .per_table = true});
    }
  }
}

void add_gemm(std::vector<Row>& out) {
  const struct {
    int rows;
    double goal;
  } cases[] = {{16, 0.65}, {32, 0.75}, {64, 0.84}, {128, 0.88}, {256, 0.90}, {512, 0.91}};
  for (const auto& c : cases) {
    const Case one{.rows = c.rows, .peak_only = true};
    out.push_back({.name = formatted("gemm_fp8_m{}", c.rows),
                   .shape = formatted("{} rows, [2048, 7168] and [7168, 2048], 1 thread", c.rows),
                   .unit = "of peak",
                   .goal = c.goal,
                   .basis = "one order of sums for every number of rows; conversion amortises",
                   .run = [one](Bench& bench) { return linear(bench, one); },
                   .per_table = true});
  }
}

void add_odd(std::vector<Row>& out) {
  out.push_back(
      {.name = "gemv_fp8_odd_m1",
       .shape = "1 row, scales that are no powers of two, 1 thread",
       .unit = "of DRAM",
       .goal = 0.85,
       .basis = "one more multiply-add a block of 128",
       .run = [](Bench& b) { return linear(b, {.rows = 1, .format = WeightFormat::fp8}); },
       .per_table = true});
  for (const int rows : {16, 32, 64, 128, 256, 512}) {
    out.push_back({.name = formatted("gemm_fp8_odd_m{}", rows),
                   .shape = formatted("{} rows, scales that are no powers of two", rows),
                   .unit = "of gemm_fp8",
                   .goal = 0.60,
                   .basis = "a fresh sum for each block of 128, then both scales",
                   .run = [rows](Bench& bench) { return odd_against_pow2(bench, rows); },
                   .per_table = true});
  }
}

void add_compact(std::vector<Row>& out) {
  const struct {
    const char* name;
    Case one;
    double goal;
  } cases[] = {{"gemv_int8_m1", {.rows = 1, .format = WeightFormat::int8}, 0.90},
               {"gemv_int4_m1", {.rows = 1, .format = WeightFormat::int4}, 0.85},
               {"gemv_int4_g64_m1", {.rows = 1, .format = WeightFormat::int4, .group = 64}, 0.85}};
  for (const auto& c : cases) {
    const Case one = c.one;
    out.push_back({.name = c.name,
                   .shape = formatted("1 row, groups of {} columns, 1 thread", one.group),
                   .unit = "of DRAM",
                   .goal = c.goal,
                   .basis = "weights and scales are read once from DRAM",
                   .run = [one](Bench& bench) { return linear(bench, one); },
                   .per_table = true});
  }
}

const Register rows([](std::vector<Row>& out) {
  add_gemv(out);
  add_gemm(out);
  add_odd(out);
  add_compact(out);
  out.push_back({.name = "scale_2t_compute",
                 .shape = "gemm_fp8, 128 rows, 1 and 2 threads",
                 .unit = "of the peak's own ratio",
                 .goal = 0.95,
                 .basis = "1.9 times, where the peak doubles",
                 .run = [](Bench& bench) { return scaling(bench, 128, false); }});
  out.push_back({.name = "scale_2t_memory",
                 .shape = "gemv_fp8, 1 row, 1 and 2 threads",
                 .unit = "of DRAM's own ratio",
                 .goal = 0.95,
                 .basis = "two threads read as fast as DRAM lets two threads",
                 .run = [](Bench& bench) { return scaling(bench, 1, true); }});
});

}  // namespace
}  // namespace dsv32::bench
