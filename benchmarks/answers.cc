#include "benchmarks/answers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "lib/base/check.h"

namespace dsv32::bench {

std::filesystem::path bundled_model() {
  return std::filesystem::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
}

std::filesystem::path model_folder(const Bench& bench) {
  if (bench.smoke()) return bundled_model();
  const char* models = std::getenv("DSV32_BENCH_MODELS");
  return (models ? std::filesystem::path(models)
                 : std::filesystem::path(DSV32_SOURCE_DIR) / "build/bench-models") /
         "real";
}

std::string missing(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "config.json") ? "" : "there is no " + folder.string();
}

std::vector<TokenId> tokens(const Model& model, std::size_t count, std::uint64_t seed) {
  std::vector<TokenId> out(count);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (TokenId& token : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    token =
        static_cast<TokenId>((state >> 33) % static_cast<std::uint64_t>(model.config().vocab_size));
  }
  return out;
}

GenerateOptions endless(const Model& model, std::size_t max_tokens) {
  SamplingParams params{.temperature = 0.0f};
  for (const TokenId end : model.end_tokens())
    params.logit_bias.push_back({end, -std::numeric_limits<float>::infinity()});
  return {.sampling = params, .max_tokens = max_tokens};
}

std::vector<RequestUpdate> step(Engine& engine) {
  std::vector<RequestUpdate> updates = engine.step();
  for (const RequestUpdate& update : updates)
    if (update.error) std::rethrow_exception(update.error);
  return updates;
}

double bytes_read(const Checkpoint& checkpoint, int rows) {
  const ModelConfig& config = checkpoint.config();
  const std::string mtp = formatted("model.layers.{}.", config.num_hidden_layers);
  double dense = 0, routed = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.name.starts_with(mtp) || tensor.name.starts_with("model.embed")) continue;
    const bool expert = tensor.name.find(".mlp.experts.") != std::string::npos;
    (expert ? routed : dense) += static_cast<double>(tensor.data.size());
  }
  const double chosen = static_cast<double>(config.num_experts_per_tok) /
                        std::max(1.0, static_cast<double>(config.n_routed_experts));
  return dense + routed * (1.0 - std::pow(1.0 - chosen, rows));
}

SideBySide::SideBySide(const Model& model, int count, std::size_t cache)
    : model_(model), engine_(model), next_(static_cast<std::size_t>(count)) {
  const std::size_t share = cache / 2 / next_.size() / kPage * kPage;
  DSV32_CHECK(share > kPage, internal, "{} sequences have no room", count);
  for (std::size_t i = 0; i < next_.size(); ++i) {
    prompts_.push_back(tokens(model, kPage, i));
    GenerateOptions options = endless(model, share - kPage);
    // The best token of random weights soon repeats itself, and its experts lie in the caches.
    options.sampling->temperature = 1.0f;
    options.sampling->seed = i;
    engine_.submit({.prompt = prompts_.back(), .options = options, .tag = i});
    sessions_.emplace_back(model);
  }
  append_together(all(prompts_));
  while (take(step(engine_)) < next_.size()) {
    DSV32_CHECK(!engine_.idle(), internal, "{} answers never ran together", count);
    std::vector<SessionTokens> behind;
    for (std::size_t i = 0; i < next_.size(); ++i)
      if (!next_[i].empty()) behind.push_back({&sessions_[i], next_[i]});
    if (!behind.empty()) append_together(behind);
  }
}

std::vector<SessionTokens> SideBySide::all(const std::vector<std::vector<TokenId>>& of) {
  std::vector<SessionTokens> list;
  for (std::size_t i = 0; i < of.size(); ++i) list.push_back({&sessions_[i], of[i]});
  return list;
}

// What the updates bring; how many answers went on.
std::size_t SideBySide::take(const std::vector<RequestUpdate>& updates) {
  for (std::vector<TokenId>& tokens : next_) tokens.clear();
  std::size_t count = 0;
  for (const RequestUpdate& update : updates) {
    for (const GeneratedToken& token : update.tokens)
      next_[update.tag].push_back(token.sample.token);
    count += update.tokens.empty() ? 0 : 1;
  }
  return count;
}

double SideBySide::step_seconds() {
  const double start = now();
  const std::vector<RequestUpdate> updates = step(engine_);
  const double time = now() - start;
  const std::size_t count = take(updates);
  DSV32_CHECK(count == sessions_.size(), internal, "a step of {} answers", count);
  return time;
}

double SideBySide::pass_seconds() {
  const std::vector<SessionTokens> list = all(next_);
  const double start = now();
  append_together(list);
  return now() - start;
}

double SideBySide::session_seconds() {
  const double start = now();
  static_cast<void>(sampler_.sample(sessions_.front().logits()));
  sessions_.front().append(next_.front());
  return now() - start;
}

}  // namespace dsv32::bench
