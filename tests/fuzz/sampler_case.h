// Any bytes as parameters, biases, a prompt, masks and rows; what the sampler does with them.
#ifndef DSV32_TESTS_FUZZ_SAMPLER_CASE_H_
#define DSV32_TESTS_FUZZ_SAMPLER_CASE_H_

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/sampling/sampler_access.h"
#include "tests/fuzz/plain_sampler.h"

namespace dsv32::fuzz {

class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t out = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return out;
  }
  std::uint32_t word() {
    std::uint32_t out = 0;
    for (int i = 0; i < 4; ++i) out = out << 8 | byte();
    return out;
  }
  // A value at an end of some domain, a small one, the last one again, or any bits at all.
  float real() {
    using Limits = std::numeric_limits<float>;
    constexpr std::array kEnds = {0.0f,
                                  -0.0f,
                                  1.0f,
                                  -1.0f,
                                  0.5f,
                                  0.95f,
                                  100.0f,
                                  -100.0f,
                                  0.01f,
                                  1e6f,
                                  2.0f,
                                  1e-45f,
                                  -1e-45f,
                                  1e-38f,
                                  Limits::min(),
                                  -1e-40f,
                                  3.4e38f,
                                  -3.4e38f,
                                  3e38f,
                                  1e30f,
                                  -1e30f,
                                  Limits::max(),
                                  Limits::lowest(),
                                  1.5f,
                                  16777216.0f,
                                  88.0f,
                                  -88.0f,
                                  -103.0f,
                                  0.999999f,
                                  1.0000001f,
                                  -Limits::infinity()};
    const std::uint8_t kind = byte();
    if (kind < kEnds.size()) return last_ = kEnds[kind];
    if (kind < 64) return last_;
    if (kind < 248) return last_ = static_cast<float>(static_cast<int>(kind) - 156) / 8.0f;
    return last_ = std::bit_cast<float>(word());
  }

  // One between, or, less often, any real().
  float near(float low, float high) {
    const std::uint8_t place = byte();
    return place < 56 ? real()
                      : last_ = low + (high - low) * static_cast<float>(place - 56) / 199.0f;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  float last_ = 0.0f;
};

inline SamplingParams sampler_params(Bytes& in) {
  SamplingParams p;
  const std::uint8_t which = in.byte();  // what is not chosen stays as it is by default
  if (which & 1) p.temperature = in.near(0.0f, 3.0f);
  p.top_p = which & 2 ? in.near(0.0f, 1.0f) : 1.0f;
  if (which & 4) p.top_k = in.byte() - 1;
  if (which & 8) p.min_p = in.near(0.0f, 0.5f);
  if (which & 16) p.repetition_penalty = in.near(0.5f, 2.0f);
  if (which & 32) p.presence_penalty = in.near(-3.0f, 3.0f);
  if (which & 64) p.frequency_penalty = in.near(-3.0f, 3.0f);
  if (which & 128) {
    for (int n = in.byte() % 5; n > 0; --n)
      p.logit_bias.push_back({static_cast<TokenId>(in.byte()) - 1, in.real()});
  }
  p.top_logprobs = in.byte() % 8;
  p.seed = in.byte();
  return p;
}

// None; of the right size; of a wrong one.
inline std::vector<std::uint32_t> sampler_mask(Bytes& in, std::size_t vocab) {
  const std::uint8_t kind = in.byte() % 8;
  if (kind < 4) return {};
  std::vector<std::uint32_t> mask((vocab + 31) / 32 + (kind == 7 ? 1 : 0));
  for (std::uint32_t& bits : mask) bits = kind == 4 ? in.word() & in.word() : in.word();
  return mask;
}

// Runs `call`; what it threw must be what was to be refused. True if it did not throw.
template <class Call>
bool refused_rightly(std::optional<ErrorCode> want, Call&& call, std::string& fault) {
  try {
    call();
    if (want) fault = "was not refused";
    return !want;
  } catch (const Error& error) {
    if (error.code() != want) fault = std::string("refused: ") + error.what();
    return false;
  }
}

// Empty, or what is wrong.
inline std::string sampler_fault(std::span<const std::uint8_t> bytes) {
  Bytes in(bytes);
  const SamplingParams params = sampler_params(in);
  std::string fault;
  std::optional<Sampler> sampler;
  if (!refused_rightly(
          PlainSampler::refused(params), [&] { sampler.emplace(params); }, fault))
    return fault;
  PlainSampler plain(params);
  Sampler portable(params);
  SamplerAccess::use_kernels(portable, "generic");
  const std::size_t size = in.byte();
  std::vector<float> row(1 + size * in.byte() % 700);
  for (int n = in.byte() % 6; n > 0; --n) {
    const TokenId token = in.byte();
    plain.observe(token);
    sampler->observe(std::span(&token, 1));
    portable.observe(std::span(&token, 1));
  }
  for (int step = 0; step < 3 && !(step > 0 && in.empty()); ++step) {
    const std::vector<std::uint32_t> mask = sampler_mask(in, row.size());
    // Few bytes may make a long row: what is left of it repeats its beginning.
    std::size_t filled = 0;
    while (filled < row.size() && !in.empty()) row[filled++] = in.real();
    for (std::size_t i = std::max<std::size_t>(filled, 1); i < row.size(); ++i)
      row[i] = row[i % std::max<std::size_t>(filled, 1)];
    Sample got, same;
    const auto want = plain.refused(row, mask);
    if (!refused_rightly(
            want, [&] { got = sampler->sample(row, mask); }, fault))
      return fault;
    same = portable.sample(row, mask);
    if (same.token != got.token ||
        std::bit_cast<std::uint32_t>(same.logprob) != std::bit_cast<std::uint32_t>(got.logprob))
      return "kernel sets differ";
    if (fault = plain.fault(got, row); !fault.empty()) return fault;
    plain.accept(got.token);
  }
  return {};
}

}  // namespace dsv32::fuzz

#endif  // DSV32_TESTS_FUZZ_SAMPLER_CASE_H_
