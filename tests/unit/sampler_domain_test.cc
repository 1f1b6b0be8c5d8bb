// The ends of the sampler's domains: what is refused, and that nothing inside can break it.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "dsv32/sampler.h"

#include "lib/sampling/candidates.h"
#include "lib/sampling/sampler_access.h"
#include "tests/conformance/messages.h"
#include "tests/fuzz/sampler_case.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST_CASE("reports_F1 penalties and biases have domains, and are refused outside of them") {
  for (const float x : {0.0f, -1.0f, 0.0099f, 100.1f, 1.2e-38f, 1e38f, kInf, std::nanf("")}) {
    INFO(x);
    check_error(ErrorCode::invalid_argument, "repetition_penalty",
                [&] { Sampler({.repetition_penalty = x}); });
  }
  for (const float x : {-100.1f, 100.1f, kMax, -kInf, std::nanf("")}) {
    INFO(x);
    check_error(ErrorCode::invalid_argument, "presence_penalty",
                [&] { Sampler({.presence_penalty = x}); });
    check_error(ErrorCode::invalid_argument, "frequency_penalty",
                [&] { Sampler({.frequency_penalty = x}); });
  }
  for (const float x : {kInf, std::nanf("")})
    check_error(ErrorCode::invalid_argument, "logit_bias", [&] {
      Sampler({.logit_bias = {{1, x}}});
    });
  check_error(ErrorCode::invalid_argument, "temperature",
              [&] { Sampler({.temperature = 1.1e6f}); });
  for (const float x : {0.01f, 1.0f, 100.0f}) CHECK_NOTHROW(Sampler({.repetition_penalty = x}));
  for (const float x : {-100.0f, 0.0f, 100.0f})
    CHECK_NOTHROW(Sampler({.presence_penalty = x, .frequency_penalty = x}));
  CHECK_NOTHROW(Sampler({.logit_bias = {{1, kMax}, {2, -kInf}}}));
}

TEST_CASE("reports_F1 what penalties make of the largest logits is finite") {
  // A positive logit divided by less than 1, a negative one multiplied: both leave float's range.
  for (const float temperature : {0.0f, 1.0f}) {
    for (const int top_k : {0, 2}) {
      Sampler best({.temperature = temperature,
                    .top_p = 1.0f,
                    .top_k = top_k,
                    .repetition_penalty = 0.9f,
                    .logit_bias = {{2, kMax}},
                    .seed = 1});
      best.observe(std::vector<TokenId>{2});
      CHECK(best.sample(std::vector<float>{0, 1, 3e38f, 2}).token == 2);
      // A logit is no ban: where all are as low, one of them is drawn.
      Sampler low({.temperature = temperature,
                   .top_p = 1.0f,
                   .top_k = top_k,
                   .repetition_penalty = 100.0f,
                   .logit_bias = {{0, -kMax}},
                   .seed = 1});
      low.observe(std::vector<TokenId>{0});
      CHECK(low.sample(std::vector<float>{-3e38f}).token == 0);
      Sampler banned({.temperature = temperature, .top_k = top_k, .logit_bias = {{0, -kInf}}});
      check_error(ErrorCode::invalid_argument, "no token is allowed",
                  [&] { banned.sample(std::vector<float>{-3e38f}); });
    }
  }
}

TEST_CASE("reports_F1 no candidate is an error, not the one in front of the list") {
  Candidates none;
  none.rank(0.0f, 1.0f);
  check_error(ErrorCode::internal, "no candidate", [&] { none.at_weight(0.5); });
  check_error(ErrorCode::internal, "no candidate", [&] { none.keep_weight(0.5); });
}

TEST_CASE("reports_F1 samples of any bytes are those that a plain sampler could have drawn") {
  conformance::Random random{17};
  std::vector<std::uint8_t> bytes;
  for (int i = 0; i < 4000; ++i) {
    bytes.resize(20 + random.below(300));
    const bool ends = random.below(3) == 0;  // mostly the ends of domains, and ties
    for (std::uint8_t& byte : bytes)
      byte = static_cast<std::uint8_t>(random.below(ends && random.below(4) > 0 ? 72 : 256));
    INFO(i);
    CHECK(fuzz::sampler_fault(bytes) == "");
  }
}

TEST_CASE("reports_W10 equal logits have the logprob -log n however large they are") {
  for (const float x : {3.4e38f, -3.4e38f, 1e10f, 0.0f, 1e-40f}) {
    for (const std::size_t n : {1u, 2u, 100u, 129280u}) {
      INFO(x << " " << n);
      Sampler sampler({.temperature = 0.0f, .top_logprobs = 2});
      const Sample sample = sampler.sample(std::vector<float>(n, x));
      const double want = -std::log(static_cast<double>(n));
      CHECK(std::fabs(static_cast<double>(sample.logprob) - want) < 2e-6);
      CHECK(std::fabs(static_cast<double>(sample.top.back().logprob) - want) < 2e-6);
    }
  }
  // The lowest that a float holds, rather than none.
  Sampler far({.temperature = 0.0f, .top_logprobs = 3});
  const Sample sample = far.sample(std::vector<float>{3.4e38f, -3.4e38f, -kInf});
  CHECK(sample.logprob == 0.0f);
  CHECK(sample.top[1].logprob == -kMax);
  CHECK(sample.top[2].logprob == -kInf);
}

TEST_CASE("reports_F2 what a row would be refused for is known before there is one") {
  const Sampler foreign({.logit_bias = {{7, 1.0f}, {8, 1.0f}}});
  CHECK_NOTHROW(SamplerAccess::check(foreign, 9));
  check_error(ErrorCode::invalid_argument, "logit_bias for token 8 of 8",
              [&] { SamplerAccess::check(foreign, 8); });
  const Sampler banned({.logit_bias = {{3, -kInf}}});
  using Mask = std::vector<std::uint32_t>;
  CHECK_NOTHROW(SamplerAccess::check_mask(banned, {}, 40));
  CHECK_NOTHROW(SamplerAccess::check_mask(banned, Mask{0b11000, 0}, 40));
  for (const Mask& mask : {Mask{1}, Mask{1, 1, 1}})
    check_error(ErrorCode::invalid_argument, "words for 40 tokens",
                [&] { SamplerAccess::check_mask(banned, mask, 40); });
  // Nothing allowed; what is allowed is banned; bits behind the vocabulary.
  for (const Mask& mask : {Mask{0, 0}, Mask{0b1000, 0}, Mask{0, 0x100}})
    check_error(ErrorCode::invalid_argument, "no token is allowed",
                [&] { SamplerAccess::check_mask(banned, mask, 40); });
  check_error(ErrorCode::invalid_argument, "no token is allowed", [] {
    SamplerAccess::check_mask(Sampler({.logit_bias = {{0, -kInf}, {0, -kInf}}}), {}, 1);
  });
}

TEST_CASE("reports_T16 a token that is forced has its own logprob, and the alternatives") {
  const std::vector<float> row = {1.0f, 3.0f, 2.0f, 0.0f};
  Sampler sampler({.temperature = 0.0f, .presence_penalty = 50.0f, .top_logprobs = 2, .seed = 4});
  const Sample forced = SamplerAccess::force(sampler, row, 3);
  double sum = 0.0;
  for (const float x : row) sum += std::exp(static_cast<double>(x));
  CHECK(forced.token == 3);
  CHECK(std::fabs(static_cast<double>(forced.logprob) + std::log(sum)) < 1e-6);
  REQUIRE(forced.top.size() == 2);
  CHECK(forced.top[0].token == 1);
  CHECK(forced.top[1].token == 2);
  // It counts as output, and as a step.
  CHECK(sampler.sample(std::vector<float>{0, 0, 0, 40}).token == 0);
  Sampler drawn({.seed = 4}), other({.seed = 4});
  SamplerAccess::force(drawn, row, 3);
  other.accept(3);
  for (int i = 0; i < 8; ++i) CHECK(drawn.sample(row).token == other.sample(row).token);
  check_error(ErrorCode::numeric, "token 1", [&] {
    SamplerAccess::force(drawn, std::vector<float>{0, std::nanf(""), 1}, 0);
  });
  check_error(ErrorCode::invalid_argument, "token 4 of 4",
              [&] { SamplerAccess::force(drawn, row, 4); });
}

}  // namespace
}  // namespace dsv32::test
