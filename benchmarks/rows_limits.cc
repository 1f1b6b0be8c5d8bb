// The limits themselves: what every percentage is a percentage of.
#include <algorithm>

#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

Result read_limit(Bench& bench, int threads) {
  std::vector<double> rates;
  const double start = now();
  do rates.push_back(bench.read_rate(threads));
  while (now() - start < bench.seconds() / 2);
  std::sort(rates.begin(), rates.end());
  return {.value = rates[rates.size() / 2] / 1e9,
          .note = formatted("best {:.1f}; {} in two streams", rates.back() / 1e9, isa().read)};
}

Result compute_limit(Bench& bench, int threads) {
  std::vector<double> rates;
  const double start = now();
  do rates.push_back(bench.compute_rate(threads));
  while (now() - start < bench.seconds() / 4);
  std::sort(rates.begin(), rates.end());
  return {.value = rates[rates.size() / 2] / 1e9,
          .note = formatted("best {:.1f}; {} in registers", rates.back() / 1e9, isa().compute)};
}

const Register rows([](std::vector<Row>& out) {
  for (const int threads : {1, 2}) {
    out.push_back({.name = formatted("limit_dram_{}t", threads),
                   .shape = formatted("reading, {} threads", threads),
                   .unit = "GB/s",
                   .run = [threads](Bench& bench) { return read_limit(bench, threads); }});
    out.push_back({.name = formatted("limit_compute_{}t", threads),
                   .shape = formatted("multiply-adds, {} threads", threads),
                   .unit = "Gop/s",
                   .run = [threads](Bench& bench) { return compute_limit(bench, threads); }});
  }
});

}  // namespace
}  // namespace dsv32::bench
