// What the library does with a Sampler beyond its public face.
#ifndef DSV32_LIB_SAMPLING_SAMPLER_ACCESS_H_
#define DSV32_LIB_SAMPLING_SAMPLER_ACCESS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "dsv32/sampler.h"

namespace dsv32 {

struct SamplerAccess {
  // Passes over rows of logits run with the kernel set of that name. A Sampler must give the same
  // bits beside any Model, so for `reference`, whose doubles round otherwise, the portable set
  // takes its place; for a name that is no set of this CPU (another device's) the best one.
  static void use_kernels(Sampler& sampler, std::string_view kernel_set);
  // What a request can be refused for before there are logits: biases of tokens that are none of so
  // many; a mask of the wrong size, or one that together with the biases leaves no token.
  static void check(const Sampler& sampler, std::size_t vocab_size);
  static void check_mask(const Sampler& sampler, std::span<const std::uint32_t> allowed,
                         std::size_t vocab_size);
  // As sample(), but `token` is what comes: with its logprob and the alternatives.
  static Sample force(Sampler& sampler, std::span<const float> logits, TokenId token);
  // What sample() would draw, had it drawn `ahead` before; changes nothing. Throws as sample().
  static TokenId guess(Sampler& sampler, std::span<const TokenId> ahead,
                       std::span<const float> logits, std::span<const std::uint32_t> allowed);
  // The name of the set that runs; without use_kernels() the best one.
  static std::string_view kernels(const Sampler& sampler) noexcept;
};

}  // namespace dsv32

#endif  // DSV32_LIB_SAMPLING_SAMPLER_ACCESS_H_
