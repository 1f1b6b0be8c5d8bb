// What the tests of sessions share: golden checkpoints, random tokens, logits as bits.
#ifndef DSV32_TESTS_MODEL_SESSIONS_H_
#define DSV32_TESTS_MODEL_SESSIONS_H_

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "dsv32/session.h"

#include "lib/backend/backend_kind.h"
#include "tests/conformance/messages.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {

using Tokens = std::vector<TokenId>;
using Bits = std::vector<float>;

inline std::string golden(const std::string& name) {
  return std::string(DSV32_SOURCE_DIR) + "/tests/golden/model/" + name;
}

inline Model load(const std::string& name, Numerics numerics, std::size_t cache_tokens = 4096,
                  int batch = 96, int threads = 1) {
  LoadOptions options;
  options.numerics = numerics;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = batch;
  options.backend.num_threads = threads;
  return Model::load(golden(name), options);
}

inline Tokens random_tokens(conformance::Random& random, const Model& model, std::size_t n) {
  Tokens tokens;
  const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
  for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(vocab)));
  return tokens;
}

// Of every golden checkpoint's vocabulary, the same each time.
inline Tokens some_tokens(std::size_t n, std::uint64_t seed) {
  conformance::Random random{seed};
  Tokens tokens;
  for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<TokenId>(random.below(90)));
  return tokens;
}

inline Bits copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }
inline bool equal(const Bits& x, std::span<const float> y) {
  return x.size() == y.size() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
}

inline GenerateOptions greedy(std::size_t max_tokens = 100) {
  GenerateOptions options;
  options.sampling = SamplingParams{.temperature = 0.0f};
  options.max_tokens = max_tokens;
  return options;
}

// Logits after each prefix, from a session that is fed one token at a time.
inline std::vector<Bits> one_by_one(const Model& model, const Tokens& tokens) {
  Session session(model);
  std::vector<Bits> rows;
  for (const TokenId token : tokens) rows.push_back(copy(session.append(token)));
  return rows;
}

inline std::vector<std::string> kernel_sets() {
  return only_tested(available_backends().front().kernel_sets);
}

// Fewer random schedules will do: under a sanitizer each takes long, and on another backend than
// the CPU's it is the passes that are new, not the schedules.
inline bool is_slow() { return kSanitized || backend_kind(Device::cpu).shapes({}).fixed_width; }

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_SESSIONS_H_
