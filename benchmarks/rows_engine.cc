// The engine: what it adds to the passes that it makes, what a cached prompt saves, who waits.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/engine.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "benchmarks/answers.h"
#include "benchmarks/harness.h"
#include "lib/base/check.h"
#include "lib/engine/scheduler.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCache = 32768;  // tokens, of the rows beside a session
constexpr double kPass = 0.050;        // seconds, of those passes that are only thought of

Model load(const Bench& bench, const fs::path& folder, int sequences, std::size_t cache) {
  return Model::load(folder, {.backend = bench.backend_options(1),
                              .kv_cache_tokens = cache,
                              .max_batch_tokens = 2048,
                              .max_sequences = sequences});
}

// What several rows gain over one, as measured and as the bytes have it.
std::string factors(const fs::path& folder, const Model& model, int count, double step_time) {
  SideBySide one(model, 1, kCache);
  double alone = one.step_seconds();
  for (int i = 0; i < 4; ++i) alone = std::min(alone, one.step_seconds());
  const Checkpoint checkpoint = Checkpoint::open(folder);
  return formatted("{:.2f} times the tokens of one answer; by bytes read {:.2f}",
                   count * alone / step_time,
                   count * bytes_read(checkpoint, 1) / bytes_read(checkpoint, count));
}

Result batch_step(Bench& bench, int count) {
  const fs::path folder = model_folder(bench);
  if (const std::string no = missing(folder); !no.empty()) return skipped(no);
  const Model model = load(bench, folder, count, kCache);
  Paired p;
  {
    SideBySide both(model, count, kCache);
    p = bench.compare([&] { return both.pass_seconds(); }, [&] { return both.step_seconds(); });
  }
  return {.value = p.ratio,
          .note = formatted("{:.2f} ms a step, {:.2f} ms the pass; {}; {}", 1e3 * p.reference,
                            1e3 * p.time, factors(folder, model, count, p.reference), p.text())};
}

Result against_session(Bench& bench) {
  const fs::path folder = model_folder(bench);
  if (const std::string no = missing(folder); !no.empty()) return skipped(no);
  const Model model = load(bench, folder, 1, kCache);
  SideBySide both(model, 1, kCache);
  const Paired p =
      bench.compare([&] { return both.session_seconds(); }, [&] { return both.step_seconds(); });
  return {.value = p.ratio,
          .note = formatted("{:.2f} ms a step, {:.2f} ms in a session; {}", 1e3 * p.reference,
                            1e3 * p.time, p.text())};
}

// Time to the first token behind a cached prefix, over the same suffix appended to a session that
// holds the prefix.
Result hit(Bench& bench) {
  const fs::path folder = model_folder(bench);
  if (const std::string no = missing(folder); !no.empty()) return skipped(no);
  const std::size_t prefix = bench.pick<std::size_t>(2048, 256);
  const std::size_t suffix = bench.pick<std::size_t>(256, 32);
  const Model model = load(bench, folder, 2, 16384);
  const std::vector<TokenId> held = tokens(model, prefix, 1);
  Engine engine(model);
  Session session(model);
  session.append(held);
  engine.submit({.prompt = held, .options = endless(model, 0)});
  while (!engine.idle()) step(engine);
  std::uint64_t number = 1;
  std::size_t matched = prefix;
  const auto with_hit = [&] {
    std::vector<TokenId> prompt = held;
    const std::vector<TokenId> rest = tokens(model, suffix, ++number);
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    const double start = now();
    engine.submit({.prompt = prompt, .options = endless(model, 1)});
    double first = 0;
    while (!engine.idle()) {
      for (const RequestUpdate& update : step(engine)) {
        if (!update.tokens.empty()) first = now() - start;
        matched = std::min(matched, update.reuse.matched);
      }
    }
    return std::max(0.0, first - 0.002);
  };
  Sampler sampler({.temperature = 0.0f});
  const auto appended = [&] {
    const std::vector<TokenId> rest = tokens(model, suffix, ++number);
    const double start = now();
    static_cast<void>(sampler.sample(session.append(rest)));
    const double time = now() - start;
    session.truncate(prefix);
    return time;
  };
  const Paired p = bench.compare(with_hit, appended);
  if (matched + kPage < prefix) return missed(formatted("only {} tokens were found", matched));
  return {.value = p.ratio,
          .note = formatted("{:.2f} ms + 2 ms behind {} cached tokens, {:.2f} ms in a session; {}",
                            1e3 * p.time, prefix, 1e3 * p.reference, p.text())};
}

// A pool that always has room.
class NoPages final : public JobPages {
 public:
  std::size_t free() const override { return 1u << 30; }
  std::size_t free_of_all() noexcept override { return 1u << 30; }
  void start(Job&) override {}
  bool defer(Job&) override { return false; }
  bool reserve(Job&, std::size_t) override { return true; }
  void before_drop(Job&) override {}
  void drop(Job&) noexcept override {}
};

// Plan and commit of a step of 64 answers, between which there is no pass.
Result plan_and_commit(Bench& bench) {
  constexpr int kAnswers = 64;
  Scheduler scheduler({.max_sequences = kAnswers, .max_rows = 2048, .step_seconds = kPass});
  std::vector<Job> jobs(kAnswers);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].arrival = i;
    jobs[i].prompt = jobs[i].tokens = kPage;
    jobs[i].most = std::numeric_limits<std::uint32_t>::max();
    scheduler.add(Scheduler::make_node(jobs[i]));
  }
  NoPages pages;
  std::size_t rows = 0;
  const auto step = [&] {
    rows = scheduler.plan(pages).size();
    scheduler.commit(kPass);
    for (Job& job : jobs) job.tokens += job.cached == job.tokens ? 1 : 0;
  };
  while (rows < kAnswers || jobs.back().tokens < 2 * kPage) step();
  const double time = bench.best(step);
  for (Job& job : jobs) scheduler.remove(job);
  if (rows != kAnswers) return missed(formatted("a plan of {} rows", rows));
  return {.value = 1e6 * time,
          .note = formatted("{:.3f} % of a step of {:.0f} ms", 100 * time / kPass, 1e3 * kPass)};
}

// Jain's index of fairness: 1 if all are equal.
double fairness(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return sum * sum / (static_cast<double>(values.size()) * squares);
}

// What the engine adds to a pass of 64 rows, in seconds.
double added_seconds(Bench& bench, const Model& model, std::size_t cache) {
  SideBySide both(model, 64, cache);
  const Paired p =
      bench.compare([&] { return both.step_seconds(); }, [&] { return both.pass_seconds(); });
  return std::max(0.0, p.time - p.reference);
}

// Many equal answers, as many at once as there are slots: how evenly they are served, by the time
// from an answer's first token to its last.
Result churn(Bench& bench) {
  const std::size_t cache = bench.pick<std::size_t>(65536, 16384);
  const Model model = load(bench, bundled_model(), 64, cache);
  const std::size_t count = bench.pick<std::size_t>(1000, 70), length = bench.pick(32, 4);
  Engine engine(model, {.max_waiting = 1000});
  std::vector<double> first(count), speed(count);
  for (std::size_t i = 0; i < count; ++i)
    engine.submit(
        {.prompt = tokens(model, 16 + i % 32, i), .options = endless(model, length), .tag = i});
  std::size_t ended = 0, written = 0;
  const double start = now();
  while (!engine.idle()) {
    for (const RequestUpdate& update : step(engine)) {
      if (!update.tokens.empty() && first[update.tag] == 0) first[update.tag] = now();
      written += update.tokens.size();
      if (update.finish_reason == FinishReason::none) continue;
      speed[update.tag] = static_cast<double>(length) / std::max(1e-9, now() - first[update.tag]);
      ++ended;
    }
  }
  const double time = now() - start;
  if (ended != count || written != count * length)
    return missed(formatted("{} answers of {} tokens in all", ended, written));
  const double added = added_seconds(bench, model, cache);
  return {.value = fairness(speed),
          .note = formatted("{} answers in {} steps, {:.0f} tokens/s; beside a pass of 64 rows "
                            "{:.0f} us, which uses {:.1f} % of steps with one of {:.0f} ms",
                            ended, engine.stats().steps, static_cast<double>(written) / time,
                            1e6 * added, 100 * kPass / (kPass + added), 1e3 * kPass)};
}

const Register rows([](std::vector<Row>& out) {
  for (const int n : {1, 2, 4, 8, 16}) {
    out.push_back({.name = formatted("engine_step_b{}", n),
                   .shape = formatted("{} answers, two layers of real width, 1 thread", n),
                   .unit = "pass over step",
                   .goal = 0.97,
                   .basis = "the same pass of sessions, which draws nothing",
                   .run = [n](Bench& bench) { return batch_step(bench, n); }});
  }
  out.push_back({.name = "engine_vs_session",
                 .shape = "1 answer, two layers of real width, 1 thread",
                 .unit = "session over step",
                 .goal = 0.98,
                 .basis = "a session with its sampler",
                 .run = against_session});
  out.push_back({.name = "engine_hit",
                 .shape = "256 tokens behind 2,048 cached ones, two layers of real width, 1 thread",
                 .unit = "times",
                 .goal = 1.1,
                 .higher_is_better = false,
                 .basis = "the same tokens appended to a session that holds the others, and 2 ms",
                 .run = hit});
  out.push_back({.name = "engine_plan_64",
                 .shape = "plan and commit of a step of 64 answers",
                 .unit = "us",
                 .goal = 300,
                 .higher_is_better = false,
                 .basis = "1 % of a step of 50 ms, with what else a step does",
                 .run = plan_and_commit});
  out.push_back({.name = "engine_churn",
                 .shape = "1,000 equal answers through 64 places, the bundled model, 1 thread",
                 .unit = "Jain's index",
                 .goal = 0.98,
                 .basis = "1 is even",
                 .run = churn});
});

}  // namespace
}  // namespace dsv32::bench
