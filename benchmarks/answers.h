// Answers that an Engine writes together, and the same passes made by sessions.
#ifndef DSV32_BENCHMARKS_ANSWERS_H_
#define DSV32_BENCHMARKS_ANSWERS_H_

#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/engine.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/harness.h"

namespace dsv32::bench {

constexpr std::size_t kPage = 64;  // tokens of a page

std::filesystem::path bundled_model();
// Few layers of real width, as bench.sh makes them; smoke runs take the bundled model.
std::filesystem::path model_folder(const Bench& bench);
// Why a row of this model cannot be measured; empty if it can.
std::string missing(const std::filesystem::path& folder);

// Other tokens for each seed.
std::vector<TokenId> tokens(const Model& model, std::size_t count, std::uint64_t seed);
// An answer that only max_tokens ends.
GenerateOptions endless(const Model& model, std::size_t max_tokens);
// One step, whose errors are thrown.
std::vector<RequestUpdate> step(Engine& engine);

// Bytes of weights that a pass of `rows` rows reads, if experts are chosen evenly.
double bytes_read(const Checkpoint& checkpoint, int rows);

// An engine in the middle of `count` answers, and as many sessions that get the same tokens. An
// answer may have its share of the engine's half of a pool of `cache` tokens, so that all are
// admitted and none is preempted.
class SideBySide {
 public:
  SideBySide(const Model& model, int count, std::size_t cache);

  // Seconds of one step of the engine, and of the pass that its next step makes.
  double step_seconds();
  double pass_seconds();
  // The same for one session with a sampler's work, as Session::generate has it; what the engine
  // drew goes on.
  double session_seconds();

 private:
  std::vector<SessionTokens> all(const std::vector<std::vector<TokenId>>& of);
  std::size_t take(const std::vector<RequestUpdate>& updates);

  Model model_;
  Engine engine_;
  std::deque<Session> sessions_;
  std::vector<std::vector<TokenId>> prompts_{}, next_;  // next_: drawn in the last step
  Sampler sampler_{{.temperature = 1.0f}};
};

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_ANSWERS_H_
