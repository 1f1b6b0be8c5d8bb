// What the tests of the Engine share: all that it tells, and what a Session says alone.
#ifndef DSV32_TESTS_ENGINE_ENGINES_H_
#define DSV32_TESTS_ENGINE_ENGINES_H_

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/engine.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {

// A golden checkpoint and how it is loaded.
struct Format {
  std::string name = "fp8";
  Numerics numerics = Numerics::native;
  KvFormat kv = KvFormat::fp8;
  IndexerKeys keys = IndexerKeys::fp8;
  bool mtp = false;
};

inline Model load(const Format& format, std::size_t cache_tokens, int rows) {
  LoadOptions options;
  options.numerics = format.numerics;
  options.kv_format = format.kv;
  options.indexer_keys = format.keys;
  options.mtp = format.mtp;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = rows;
  options.backend.num_threads = 1;
  return Model::load(golden(format.name), options);
}

using AnswerId = std::pair<RequestId, int>;

// All updates of one answer.
struct Heard {
  std::vector<GeneratedToken> tokens{};
  std::string text{};
  std::vector<TokenLogprob> prompt_logprobs{};
  std::size_t prompt_done = 0;
  int lasts = 0;  // updates that say why it ended
  std::optional<RequestUpdate> last{};

  void take(const RequestUpdate& update) {
    CHECK(lasts == 0);
    CHECK(update.prompt_done >= prompt_done);
    CHECK((update.error != nullptr) == (update.finish_reason == FinishReason::error));
    prompt_done = update.prompt_done;
    tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
    text += update.text;
    if (!update.prompt_logprobs.empty()) prompt_logprobs = update.prompt_logprobs;
    if (update.finish_reason == FinishReason::none) return;
    ++lasts;
    last = update;
  }
};

using All = std::map<AnswerId, Heard>;

inline void take(All& all, const std::vector<RequestUpdate>& updates) {
  for (const RequestUpdate& update : updates) all[{update.id, update.index}].take(update);
}

inline All run(Engine& engine, All all = {}) {
  for (int steps = 0; !engine.idle(); ++steps) {
    take(all, engine.step());
    REQUIRE(steps < 100000);
  }
  for (const auto& [id, told] : all) CHECK(told.lasts == 1);
  return all;
}

inline bool same(const Sample& x, const Sample& y) {
  const auto same_bits = [](float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; };
  bool same = x.token == y.token && same_bits(x.logprob, y.logprob) && x.top.size() == y.top.size();
  for (std::size_t i = 0; same && i < x.top.size(); ++i)
    same = x.top[i].token == y.top[i].token && same_bits(x.top[i].logprob, y.top[i].logprob);
  return same;
}

// What a Session gives alone for answer `index`, whose seed the engine has told.
inline Generation alone(const Model& model, const Request& request, std::uint64_t seed) {
  GenerateOptions options = request.options;
  if (!options.sampling) options.sampling = model.default_sampling();
  options.sampling->seed = seed;
  options.cancel = {};
  Session session(model);
  return session.generate(request.prompt, options);
}

// Tokens, bits of logprobs, text and end.
inline void check_same(const Heard& told, const Generation& want) {
  REQUIRE(told.last);
  REQUIRE(told.tokens.size() == want.samples.size());
  for (std::size_t i = 0; i < want.samples.size(); ++i) {
    INFO("token " << i);
    REQUIRE(same(told.tokens[i].sample, want.samples[i]));
  }
  CHECK(told.text == want.text);
  CHECK(told.last->finish_reason == want.finish_reason);
  CHECK(told.last->stop_string == want.stop_string);
  CHECK(told.last->stop_token == want.stop_token);
  CHECK(told.last->seed == want.seed);
  CHECK(told.last->usage.generated_tokens == want.usage.generated_tokens);
  CHECK(told.last->usage.thinking_tokens == want.usage.thinking_tokens);
  CHECK(told.last->usage.prompt_tokens == want.usage.prompt_tokens);
}

// Allows a few tokens, by what the output is: so that guesses are right now and then, and wrong.
class FewTokens {
 public:
  FewTokens(std::uint64_t seed, std::size_t count) : seed_(seed), count_(count) {}
  std::span<const std::uint32_t> operator()(std::span<const TokenId> output) {
    std::uint64_t sum = seed_;
    for (const TokenId token : output) sum = sum * 31 + static_cast<std::uint64_t>(token);
    conformance::Random random{sum};
    mask_.assign(8, 0);
    for (std::size_t i = 0; i < count_; ++i) {
      const std::size_t token = random.below(256);
      mask_[token / 32] |= 1u << (token % 32);
    }
    return mask_;
  }

 private:
  std::uint64_t seed_;
  std::size_t count_;
  std::vector<std::uint32_t> mask_;
};

inline Tokens tokens_of(const Heard& told) {
  Tokens tokens;
  for (const GeneratedToken& token : told.tokens) tokens.push_back(token.sample.token);
  return tokens;
}

// Tokens of the longest prefix that is cached.
inline std::size_t cached_tokens(const Engine& engine, const Tokens& tokens,
                                 std::string_view scope = {}) {
  const Session session = engine.cached(tokens, scope);
  return session.tokens().size();
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_ENGINE_ENGINES_H_
