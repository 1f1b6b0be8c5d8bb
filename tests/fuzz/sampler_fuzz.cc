// Any floats as logits and parameters: a token that is allowed, or a typed error.
#include <cstring>
#include <vector>

#include "dsv32/sampler.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dsv32;
  if (size < 4) return 0;
  std::vector<float> values(size / 4);
  std::memcpy(values.data(), data, values.size() * 4);
  constexpr std::size_t kParams = 8;
  if (values.size() <= kParams) return 0;
  return fuzz::run([&] {
    Sampler sampler({.temperature = values[0],
                     .top_p = values[1],
                     .top_k = static_cast<int>(data[8]) - 1,
                     .min_p = values[3],
                     .repetition_penalty = values[4],
                     .presence_penalty = values[5],
                     .frequency_penalty = values[6],
                     .top_logprobs = data[28] % 8,
                     .seed = data[29]});
    const auto logits = std::span(values).subspan(kParams);
    for (int step = 0; step < 3; ++step) {
      const Sample sample = sampler.sample(logits);
      fuzz::require(sample.token >= 0 && static_cast<std::size_t>(sample.token) < logits.size());
    }
  });
}
