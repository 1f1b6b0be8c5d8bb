// The sampler: its distribution, its promise of equal tokens, and the attacks SA.
#include "dsv32/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/sampling/sampler_access.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

#include "kernels/cpu/table.h"

namespace dsv32::test {
namespace {

// Counts of `n` draws, each a step of one generator.
std::vector<int> histogram(const SamplingParams& params, const std::vector<float>& logits, int n) {
  Sampler sampler(params);
  std::vector<int> counts(logits.size());
  for (int i = 0; i < n; ++i) ++counts[static_cast<std::size_t>(sampler.sample(logits).token)];
  return counts;
}

// Pearson's statistic against `p`; tokens without probability must not be drawn.
double chi_square(const std::vector<int>& counts, const std::vector<double>& p) {
  double n = 0.0, sum = 0.0;
  for (const int count : counts) n += count;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0.0) {
      CHECK(counts[i] == 0);
      continue;
    }
    const double d = counts[i] - n * p[i];
    sum += d * d / (n * p[i]);
  }
  return sum;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature,
                            const std::vector<bool>& kept) {
  std::vector<double> p;
  double sum = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    p.push_back(kept[i] ? std::exp(static_cast<double>(logits[i]) / temperature) : 0.0);
    sum += p.back();
  }
  for (double& x : p) x /= sum;
  return p;
}

const std::vector<float> kLogits = {1.0f, 0.5f, 0.0f, -0.5f, 2.0f, -1.0f, 1.5f, 0.25f};
constexpr double kLimit = 24.32;  // chi-square, 7 degrees of freedom, p = 0.001

TEST_CASE("draws follow the distribution") {
  const std::vector<bool> all(8, true);
  CHECK(chi_square(histogram({.top_p = 1.0f, .seed = 1}, kLogits, 40000),
                   softmax(kLogits, 1.0, all)) < kLimit);
  CHECK(chi_square(histogram({.temperature = 0.7f, .top_p = 1.0f, .seed = 2}, kLogits, 40000),
                   softmax(kLogits, static_cast<double>(0.7f), all)) < kLimit);
  const std::vector<bool> best3 = {true, false, false, false, true, false, true, false};
  CHECK(chi_square(histogram({.top_p = 1.0f, .top_k = 3, .seed = 3}, kLogits, 40000),
                   softmax(kLogits, 1.0, best3)) < kLimit);
  // 0.38 + 0.23 + 0.14 < 0.8 <= that + 0.09
  const std::vector<bool> nucleus = {true, true, false, false, true, false, true, false};
  CHECK(chi_square(histogram({.top_p = 0.8f, .seed = 4}, kLogits, 40000),
                   softmax(kLogits, 1.0, nucleus)) < kLimit);
  const std::vector<bool> above = {true, false, false, false, true, false, true, false};
  CHECK(chi_square(histogram({.top_p = 1.0f, .min_p = 0.3f, .seed = 5}, kLogits, 40000),
                   softmax(kLogits, 1.0, above)) < kLimit);
}

TEST_CASE("equal seeds give equal tokens, on every compiler") {
  std::vector<TokenId> tokens;
  Sampler sampler({.top_p = 0.95f, .seed = 42});
  for (int i = 0; i < 24; ++i) tokens.push_back(sampler.sample(kLogits).token);
  // Fixed: a change here breaks every application's replay.
  const std::vector<TokenId> want = {6, 2, 1, 0, 4, 4, 4, 4, 6, 4, 6, 4,
                                     4, 4, 4, 0, 7, 4, 0, 4, 4, 4, 7, 4};
  CHECK(tokens == want);
  Sampler again({.top_p = 0.95f, .seed = 42});
  for (int i = 0; i < 5; ++i) again.accept(tokens[static_cast<std::size_t>(i)]);
  CHECK(again.sample(kLogits).token == tokens[5]);  // a step is all the state
}

TEST_CASE("greedy takes the lowest id of the best, and penalties and biases count") {
  Sampler greedy({.temperature = 0.0f});
  CHECK(greedy.sample(std::vector<float>{0, 3, 3, 1}).token == 1);
  Sampler banned({.temperature = 0.0f,
                  .logit_bias = {{1, -std::numeric_limits<float>::infinity()}, {3, 2.5f}}});
  CHECK(banned.sample(std::vector<float>{0, 3, 2, 1}).token == 3);
  Sampler penalised({.temperature = 0.0f, .presence_penalty = 1.5f});
  const std::vector<float> row = {0, 3, 2, 1};
  CHECK(penalised.sample(row).token == 1);
  CHECK(penalised.sample(row).token == 2);
  CHECK(penalised.sample(row).token == 1);
  Sampler repeated({.temperature = 0.0f, .repetition_penalty = 2.0f});
  repeated.observe(std::vector<TokenId>{1});
  CHECK(repeated.sample(row).token == 2);
  const std::vector<std::uint32_t> mask = {0b1001};
  CHECK(greedy.sample(row, mask).token == 3);
}

TEST_CASE("SA-03 SA-04 SA-05 parameters at and beyond their ends") {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  for (const float t : {-1.0f, nan, inf, -0.5f}) {
    check_error(ErrorCode::invalid_argument, "temperature", [&] { Sampler({.temperature = t}); });
  }
  for (const float t : {0.0f, 1e-7f, 1e-30f, 1e-44f}) {
    Sampler sampler({.temperature = t, .seed = 1});
    CHECK(sampler.sample(kLogits).token == 4);
  }
  for (const float p : {-0.1f, 1.1f, nan, inf}) {
    check_error(ErrorCode::invalid_argument, "top_p", [&] { Sampler({.top_p = p}); });
    check_error(ErrorCode::invalid_argument, "min_p", [&] { Sampler({.min_p = p}); });
  }
  for (const float p : {0.0f, 1e-9f}) {
    CHECK(histogram({.top_p = p, .seed = 1}, kLogits, 50)[4] == 50);
  }
  for (const int k : {-1, std::numeric_limits<int>::min()}) {
    check_error(ErrorCode::invalid_argument, "top_k", [&] { Sampler({.top_k = k}); });
  }
  CHECK(histogram({.top_k = 1, .seed = 1}, kLogits, 50)[4] == 50);
  CHECK_NOTHROW(Sampler({.top_k = 1000000}).sample(kLogits));
}

TEST_CASE("SA-07 SA-10 SA-14 foreign ids, lists and logits") {
  for (const TokenId token : {-1, 8, std::numeric_limits<TokenId>::min()}) {
    check_error(ErrorCode::invalid_argument, "logit_bias", [&] {
      Sampler({.logit_bias = {{token, 1.0f}}}).sample(kLogits);
    });
  }
  CHECK_THROWS_AS(Sampler({.top_logprobs = -1}), Error);
  CHECK(Sampler({.top_logprobs = 1}).sample(kLogits).top.size() == 1);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    check_error(ErrorCode::numeric, "token 1", [&] {
      Sampler().sample(std::vector<float>{0, bad, 1});
    });
  }
  check_error(ErrorCode::invalid_argument, "",
              [&] { Sampler().sample(kLogits, std::vector<std::uint32_t>{0}); });
  check_error(ErrorCode::invalid_argument, "", [&] {
    Sampler().sample(kLogits, std::vector<std::uint32_t>{1, 1});
  });
  check_error(ErrorCode::invalid_argument, "", [&] { Sampler().sample({}); });
}

TEST_CASE("log-probabilities are those of the raw logits") {
  Sampler sampler({.temperature = 0.0f, .top_logprobs = 3});
  const Sample sample = sampler.sample(kLogits);
  const auto p = softmax(kLogits, 1.0, std::vector<bool>(8, true));
  CHECK(std::fabs(static_cast<double>(sample.logprob) - std::log(p[4])) < 1e-6);
  REQUIRE(sample.top.size() == 3);
  CHECK(sample.top[1].token == 6);
  CHECK(std::fabs(static_cast<double>(sample.top[2].logprob) - std::log(p[0])) < 1e-6);
}

// A row of a real vocabulary's size, whose nucleus of thousands has many ties.
std::vector<float> large_row() {
  std::mt19937 random(7);
  std::vector<float> row(129280 - 5);
  for (float& x : row) x = static_cast<float>(random() % 4096) / 512.0f;
  return row;
}

TEST_CASE("cuts of a large row are those of a full sort") {
  const std::vector<float> row = large_row();
  std::vector<TokenId> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](TokenId t) {
    return static_cast<double>(row[static_cast<std::size_t>(t)]);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
  double total = 0.0, sum = 0.0;
  for (const TokenId t : order) total += std::exp(logit(t) - logit(order[0]));
  std::vector<std::size_t> place(row.size());
  for (std::size_t i = 0; i < order.size(); ++i) place[static_cast<std::size_t>(order[i])] = i;
  std::size_t nucleus = 0;
  while (sum < 0.5 * total) sum += std::exp(logit(order[nucleus++]) - logit(order[0]));
  const auto mean_and_last = [&](const SamplingParams& params) {
    Sampler sampler(params);
    double mean = 0.0;
    std::size_t last = 0;
    for (int i = 0; i < 300; ++i) {
      const std::size_t at = place[static_cast<std::size_t>(sampler.sample(row).token)];
      mean += static_cast<double>(at) / 300;
      last = std::max(last, at);
    }
    return std::pair(mean, last);
  };
  const auto [mean, last] = mean_and_last({.top_p = 0.5f, .seed = 1});
  CHECK(last < nucleus + 2);  // the sum's last bits may differ
  CHECK(last > nucleus * 9 / 10);
  CHECK(mean < static_cast<double>(nucleus) / 2);  // what is better comes more often
  CHECK(mean_and_last({.top_p = 1.0f, .top_k = 1000, .seed = 2}).second < 1000);
  CHECK(mean_and_last({.top_p = 0.5f, .top_k = 3000, .seed = 2}).second < 3000 / 2 + 2);
}

// Below a temperature of 1 blocks that weigh too little are left out.
TEST_CASE("cold draws of a large row follow the distribution") {
  std::vector<float> row = large_row();
  for (std::size_t i = 5; i < row.size(); i += row.size() / 12) row[i] += 9.0f;
  for (const float temperature : {0.9f, 0.5f, 0.1f}) {
    const std::vector<double> want =
        softmax(row, static_cast<double>(temperature), std::vector<bool>(row.size(), true));
    std::vector<std::size_t> bin(row.size(), 0);  // 0: all that are rare
    std::vector<double> expected(1, 0.0);
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (want[i] >= 0.003) {
        bin[i] = expected.size();
        expected.push_back(want[i]);
      } else {
        expected[0] += want[i];
      }
    }
    constexpr int kDraws = kSanitized ? 1000 : 4000;
    std::vector<double> drawn(expected.size(), 0.0);
    Sampler sampler({.temperature = temperature, .top_p = 1.0f, .seed = 9});
    for (int i = 0; i < kDraws; ++i)
      ++drawn[bin[static_cast<std::size_t>(sampler.sample(row).token)]];
    double square = 0.0;
    for (std::size_t b = 0; b < drawn.size(); ++b) {
      const double mean = kDraws * expected[b], off = drawn[b] - mean;
      square += off * off / std::max(mean, 1.0);
    }
    CHECK(square < 45.0);  // some twelve degrees of freedom: once in 10^5
  }
}

// FNV-1a over tokens and the bits of their logprobs.
std::uint64_t digest_of(Sampler sampler, int draws, std::uint32_t seed) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  std::vector<float> row(3001);
  for (int i = 0; i < draws; ++i) {
    for (float& x : row) {  // -16 to 16, in steps that a float holds
      seed = seed * 1664525u + 1013904223u;
      x = static_cast<float>(static_cast<int>(seed >> 12) - (1 << 19)) / 32768.0f;
    }
    const Sample sample = sampler.sample(row);
    hash = (hash ^ static_cast<std::uint64_t>(sample.token)) * 0x100000001B3u;
    hash = (hash ^ std::bit_cast<std::uint32_t>(sample.logprob)) * 0x100000001B3u;
  }
  return hash;
}

std::uint64_t digest_of_all(const std::function<Sampler(const SamplingParams&)>& make) {
  std::uint64_t hash = 0;
  std::uint32_t seed = 1;
  for (const SamplingParams& params :
       {SamplingParams{.temperature = 0.0f, .seed = 1},
        SamplingParams{.temperature = 0.3f, .top_p = 1.0f, .seed = 2},
        SamplingParams{.temperature = 1.0f, .top_p = 0.95f, .seed = 3},
        SamplingParams{.temperature = 1.7f, .top_p = 0.9f, .top_k = 40, .seed = 4},
        SamplingParams{.temperature = 0.8f, .min_p = 0.05f, .presence_penalty = 1.0f, .seed = 5}})
    hash = hash * 31 + digest_of(make(params), 40, seed++);
  return hash;
}

// The bits of a machine without any vector instructions; a change here breaks every application's
// replay.
constexpr std::uint64_t kDigest = 0x11010802266656dcu;

TEST_CASE("every sample has the same bits on every machine") {
  CHECK(digest_of_all([](const SamplingParams& params) { return Sampler(params); }) == kDigest);
}

TEST_CASE("a sampler's kernel set can be forced and changes no bit") {
  const kernels::CpuTables runnable = kernels::runnable_cpu_tables();
  const std::string_view best = runnable.tables[0]->name;
  CHECK(SamplerAccess::kernels(Sampler()) == best);
  for (int i = 0; i < runnable.count; ++i) {
    const std::string_view name = runnable.tables[i]->name;
    INFO(name);
    const auto make = [&](const SamplingParams& params) {
      Sampler sampler(params);
      SamplerAccess::use_kernels(sampler, name);
      return sampler;
    };
    // Not `reference` itself: its doubles round otherwise.
    const std::string_view want = name == "reference" ? "generic" : name;
    CHECK(SamplerAccess::kernels(make({})) == want);
    const Sampler copy = make({});
    CHECK(SamplerAccess::kernels(Sampler(copy)) == want);
    CHECK(digest_of_all(make) == kDigest);
  }
  Sampler other;
  SamplerAccess::use_kernels(other, "cuda");
  CHECK(SamplerAccess::kernels(other) == best);
}

}  // namespace
}  // namespace dsv32::test
