// Drafts: what an engine that may make them loses where they are never right, and what a session
// gains where they are.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "dsv32/engine.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/answers.h"
#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr std::size_t kCache = 32768;
constexpr int kSteps = 4;   // of a measurement
constexpr int kFirst = 16;  // steps before the first: what is tried at the beginning is over then

Model load(const Bench& bench, const std::filesystem::path& folder, int sequences) {
  return Model::load(folder, {.backend = bench.backend_options(1),
                              .kv_cache_tokens = kCache,
                              .max_batch_tokens = 2048,
                              .max_sequences = sequences,
                              .mtp = true});
}

// An engine whose answers never end: the next one begins where one did.
class Endless {
 public:
  Endless(const Model& model, int count, int drafts)
      : model_(model),
        engine_(model, {.step_target = std::chrono::milliseconds(0), .draft_tokens = drafts}) {
    const std::size_t share = kCache / 2 / static_cast<std::size_t>(count) / kPage * kPage;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      GenerateOptions options = endless(model, share - kPage);
      options.sampling->temperature = 1.0f;  // as in SideBySide
      options.sampling->seed = i;
      requests_.push_back({.prompt = tokens(model, kPage, i), .options = options, .tag = i});
      engine_.submit(requests_.back());
    }
  }

  // Seconds a token, over some steps.
  double token_seconds() {
    std::size_t count = 0;
    const double start = now();
    for (int i = 0; i < kSteps; ++i) {
      for (const RequestUpdate& update : step(engine_)) {
        count += update.tokens.size();
        if (update.finish_reason == FinishReason::none) continue;
        ++requests_[update.tag].options.sampling->seed.value();
        engine_.submit(requests_[update.tag]);
      }
    }
    return (now() - start) / static_cast<double>(std::max<std::size_t>(1, count));
  }
  EngineStats stats() const { return engine_.stats(); }

 private:
  const Model& model_;
  Engine engine_;
  std::vector<Request> requests_;
};

std::string counts(const DraftCounts& drafted, const DraftCounts& accepted) {
  std::string text;
  for (std::size_t i = 0; i < drafted.size() && drafted[i] > 0; ++i)
    text += formatted("{}{} of {}", i > 0 ? ", " : "", accepted[i], drafted[i]);
  return text.empty() ? "no drafts made" : text + " drafts right";
}

// Random weights: MTP knows nothing of the model, so drafts only cost.
Result useless(Bench& bench, int count) {
  const std::filesystem::path folder =
      bench.smoke() ? bundled_model() : model_folder(bench).parent_path() / "real-mtp";
  if (const std::string no = missing(folder); !no.empty()) return skipped(no);
  const Model model = load(bench, folder, count);
  Endless with(model, count, 4), without(model, count, 0);
  for (int i = 0; i < bench.pick(kFirst / kSteps, 1); ++i) {
    with.token_seconds();
    without.token_seconds();
  }
  const Paired p =
      bench.compare([&] { return without.token_seconds(); }, [&] { return with.token_seconds(); });
  const EngineStats stats = with.stats();
  return {.value = p.ratio,
          .note = formatted(
              "{:.2f} ms a token with, {:.2f} ms without; {} in {} steps of {:.1f} tokens; {}",
              1e3 * p.reference, 1e3 * p.time, counts(stats.drafted, stats.accepted), stats.steps,
              static_cast<double>(stats.generated_tokens) / static_cast<double>(stats.steps),
              p.text())};
}

// The bundled model, whose MTP layer was trained: one story again and again.
Result of_use(Bench& bench) {
  const Model model = load(bench, bundled_model(), 1);
  Session with(model), without(model);
  const Message message{.content = "What is 47 + 38?"};
  const std::vector<TokenId> prompt = model.tokenizer().encode(
      model.chat_template().render(std::span(&message, 1), ThinkingMode::thinking));
  GenerateOptions options{.sampling = SamplingParams{.temperature = 0.0f}, .max_tokens = 200};
  Usage usage;
  const auto token_seconds = [&](Session& session, int drafts) {
    options.draft_tokens = drafts;
    const Generation out = session.generate(prompt, options);
    for (std::size_t i = 0; i < usage.drafted.size(); ++i) {
      usage.drafted[i] += out.usage.drafted[i];
      usage.accepted[i] += out.usage.accepted[i];
    }
    return out.usage.decode_seconds /
           static_cast<double>(std::max<std::size_t>(1, out.tokens.size()));
  };
  const Paired p = bench.compare([&] { return token_seconds(without, 0); },
                                 [&] { return token_seconds(with, 4); });
  return {.value = p.ratio,
          .note = formatted("{:.3f} ms a token with, {:.3f} ms without; {}; {}", 1e3 * p.reference,
                            1e3 * p.time, counts(usage.drafted, usage.accepted), p.text())};
}

const Register rows([](std::vector<Row>& out) {
  for (const int n : {1, 4, 16}) {
    out.push_back({.name = formatted("drafts_useless_b{}", n),
                   .shape = formatted("{} answers, two layers and MTP of real width, 1 thread", n),
                   .unit = "time without over with",
                   .goal = 0.98,
                   .basis = "the same engine without drafts, which are never right here",
                   .run = [n](Bench& bench) { return useless(bench, n); }});
  }
  out.push_back({.name = "drafts_bundled",
                 .shape = "one session of the bundled model, greedy, 1 thread",
                 .unit = "time without over with",
                 .goal = 1.0,
                 .basis = "the same session without drafts",
                 .run = of_use});
});

}  // namespace
}  // namespace dsv32::bench
