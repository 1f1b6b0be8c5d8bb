// What SamplingParams may hold, and what is put on a row of logits before anything is drawn.
#ifndef DSV32_LIB_SAMPLING_SAMPLING_PARAMS_H_
#define DSV32_LIB_SAMPLING_SAMPLING_PARAMS_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>

#include "dsv32/sampler.h"

namespace dsv32 {

inline constexpr float kNeverLogit = -std::numeric_limits<float>::infinity();

// Throws invalid_argument, or limit for a list that is too long.
void check_params(const SamplingParams& params);
// Throws invalid_argument for a bias of a token that is none of so many.
void check_biases(const SamplingParams& params, std::size_t vocab_size);
// Throws invalid_argument for a mask of another size; an empty one allows all.
void check_mask(std::span<const std::uint32_t> allowed, std::size_t vocab_size);
// Whether mask and biases leave a token that a finite logit could win with.
bool leaves_a_token(const SamplingParams& params, std::span<const std::uint32_t> allowed,
                    std::size_t vocab_size);

// How often each token stands in the output; 0: in the prompt only.
using SeenTokens = std::unordered_map<TokenId, int>;

// Puts mask, biases and penalties on `row`, whose values are finite or -infinity, and are so
// afterwards. False if there are none. Throws as check_biases and check_mask.
bool adjust_row(const SamplingParams& params, std::span<const std::uint32_t> allowed,
                const SeenTokens& seen, std::span<float> row);

}  // namespace dsv32

#endif  // DSV32_LIB_SAMPLING_SAMPLING_PARAMS_H_
