// Topic logits: maxima are exact, weights close to their twin, and of the same bits in every table.
#include <algorithm>
#include <limits>

#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;
using kernels::kLogitBlock;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A row of `count` logits in whole blocks, as the sampler lays it out.
std::vector<float> row_of(Data& data, std::int64_t count, float scale) {
  std::vector<float> row = data.floats(count, scale);
  row.resize(static_cast<std::size_t>((count + kLogitBlock - 1) / kLogitBlock * kLogitBlock),
             -kInfinity);
  return row;
}

std::int64_t blocks_of(const std::vector<float>& row) {
  return static_cast<std::int64_t>(row.size()) / kLogitBlock;
}

struct Maxima {
  std::vector<float> values;
  bool usable;
  bool operator==(const Maxima&) const = default;
};

Maxima maxima_of(const CpuKernels& kernel, const std::vector<float>& row) {
  Maxima out{.values = std::vector<float>(row.size() / kLogitBlock, -1.0f), .usable = false};
  kernel.logit_maxima({.row = row.data(),
                       .maxima = out.values.data(),
                       .usable = &out.usable,
                       .num_blocks = blocks_of(row)});
  return out;
}

struct Weights {
  std::vector<float> values;
  std::vector<double> sums;
  bool operator==(const Weights&) const = default;
};

Weights weights_of(const CpuKernels& kernel, const std::vector<float>& row, float best,
                   float scale) {
  Weights out{.values = std::vector<float>(row.size(), -1.0f),
              .sums = std::vector<double>(row.size() / kLogitBlock, -1.0)};
  kernel.logit_weights({.row = row.data(),
                        .weights = out.values.data(),
                        .sums = out.sums.data(),
                        .best = best,
                        .scale = scale,
                        .num_blocks = blocks_of(row)});
  return out;
}

constexpr std::int64_t kCounts[] = {1, 2, 7, 63, 64, 65, 127, 128, 1000, 1027, 129280};

TEST_CASE("logit_maxima equals its twin") {
  Data data(6);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const std::int64_t count : kCounts) {
      const std::vector<float> row = row_of(data, count, 4.0f);
      const Maxima maxima = maxima_of(table, row);
      CHECK(maxima.usable);
      CHECK(maxima == maxima_of(reference, row));
    }
    const std::vector<float> banned(3 * kLogitBlock, -kInfinity);
    CHECK(maxima_of(table, banned) == maxima_of(reference, banned));
    CHECK(maxima_of(table, banned) == Maxima{{-kInfinity, -kInfinity, -kInfinity}, true});
  });
}

TEST_CASE("logit_maxima sees a NaN or an infinity anywhere") {
  Data data(7);
  const auto check = [&](const CpuKernels& table) {
    for (int round = 0; round < 200; ++round) {
      std::vector<float> row = row_of(data, 300, 4.0f);
      const float bad[] = {std::nanf(""), -std::nanf(""), kInfinity};
      row[static_cast<std::size_t>(data.integer(0, 299))] = bad[round % 3];
      CHECK_FALSE(maxima_of(table, row).usable);
    }
  };
  for_tables([&](const CpuKernels& table, const CpuKernels&) { check(table); });
  for_tables([&](const CpuKernels&, const CpuKernels& reference) { check(reference); });
}

TEST_CASE("logit_weights is near its twin") {
  Data data(8);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const std::int64_t count : kCounts) {
      for (const float scale : {0.01f, 0.72f, 1.4426950f, 14.0f, 3e38f}) {
        const std::vector<float> row = row_of(data, count, 6.0f);
        float best = -kInfinity;
        for (const float x : row) best = std::max(best, x);
        const Weights out = weights_of(table, row, best, scale);
        const Weights twin = weights_of(reference, row, best, scale);
        Worst worst, worst_lost, worst_sum;
        for (std::size_t i = 0; i < row.size(); ++i) {
          const double want = twin.values[i], got = out.values[i];
          if (want == 0.0 || got == 0.0) {  // t is a rounded product: not at the same logit
            worst_lost.add(want + got);
            continue;
          }
          const double t = -std::log2(want);
          worst.add((got / want - 1.0) / (2e-7 + 1e-7 * t));
        }
        for (std::size_t b = 0; b < out.sums.size(); ++b) {
          if (twin.sums[b] < 1e-20) continue;
          worst_sum.add(out.sums[b] / twin.sums[b] - 1.0);
        }
        CHECK(worst.value() < 1.0);
        CHECK(worst_lost.value() <= 0x1p-123);
        CHECK(worst_sum.value() < 1e-5);  // its largest weights' exponents are below 70
        CHECK(out.values[static_cast<std::size_t>(std::max_element(row.begin(), row.end()) -
                                                  row.begin())] == 1.0f);
        if (row.back() == -kInfinity) CHECK(out.values.back() == 0.0f);
      }
    }
  });
}

TEST_CASE("passes over logits have the same bits in every table but the reference") {
  Data data(9);
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  const CpuKernels& portable = *tables.tables[tables.count - 2];
  REQUIRE(std::strcmp(portable.name, "generic") == 0);
  for (const std::int64_t count : kCounts) {
    for (const float scale : {0.01f, 0.72f, 1.4426950f, 14.0f, 3e38f}) {
      const std::vector<float> row = row_of(data, count, 5.0f);
      const Maxima maxima = maxima_of(portable, row);
      const float best = *std::max_element(maxima.values.begin(), maxima.values.end());
      const Weights weights = weights_of(portable, row, best, scale);
      for (int i = 0; i + 2 < tables.count; ++i) {
        INFO("table " << tables.tables[i]->name);
        CHECK(maxima_of(*tables.tables[i], row) == maxima);
        CHECK(weights_of(*tables.tables[i], row, best, scale) == weights);
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
