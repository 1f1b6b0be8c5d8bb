// A world for the scheduler: pages that are only counted, passes that only take time, a clock that
// only they move.
#ifndef DSV32_TESTS_ENGINE_FAKE_WORLD_H_
#define DSV32_TESTS_ENGINE_FAKE_WORLD_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "lib/engine/scheduler.h"
#include "tests/conformance/messages.h"

namespace dsv32::test {

inline std::size_t pages_for(std::size_t tokens) { return (tokens + 63) / 64; }

struct FakeJob : Job {
  std::size_t output = 1;  // tokens
  std::size_t hit = 0;     // of the prompt, cached from the start, in pages of others
  std::size_t drawn = 0;
  std::size_t held = 0;  // pages
  std::size_t computed = 0, again_ran = 0,
              ran = 0;  // tokens: the most there was; run once more; all
  double arrived = 0.0, first = -1.0, last = -1.0;  // seconds
  std::uint64_t arrived_step = 0, began_step = 0, first_step = 0;
  std::vector<double> gaps{};
  bool done = false;
};

// What a pass takes, in seconds, and how much it varies.
struct FakeCosts {
  double a = 0.010, row = 0.002, prompt = 0.0005, attended = 1e-9;
  double noise = 0.05;  // of its logarithm
};

class FakeWorld final : public JobPages {
 public:
  FakeWorld(const SchedulerOptions& options, std::size_t total_pages, const FakeCosts& its_costs,
            std::uint64_t seed)
      : scheduler(options), total(total_pages), costs(its_costs), random{seed}, options_(options) {}

  FakeJob& submit(std::size_t prompt, std::size_t output, int priority = 0, std::size_t hit = 0) {
    FakeJob& job = jobs.emplace_back();
    job.prompt = job.tokens = prompt;
    job.output = output;
    job.most = prompt + output;
    job.hit = hit;
    job.priority = priority;
    job.arrival = ++arrivals_;
    job.arrived = now;
    job.arrived_step = steps;
    scheduler.add(Scheduler::make_node(job));
    return job;
  }

  void cancel(FakeJob& job) {
    static_cast<void>(scheduler.remove(job));
    drop(job);
    job.done = true;
  }

  // A step; false if nothing could run.
  bool step() {
    const std::vector<Piece>& pieces = scheduler.plan(*this);
    if (pieces.empty()) return false;
    check(pieces);
    StepWork work;
    for (const Piece& piece : pieces) {
      auto& job = static_cast<FakeJob&>(*piece.job);
      work.add(job.cached, piece.tokens);
      const std::size_t end = job.cached + piece.tokens;
      if (job.ran == 0) job.began_step = steps;
      job.ran += piece.tokens;
      job.again_ran += std::min(end, std::max(job.computed, job.cached)) - job.cached;
      job.computed = std::max(job.computed, end);
    }
    prompt_seconds += costs.prompt * work.prompt;
    const double seconds = (costs.a + costs.row * work.rows + costs.prompt * work.prompt +
                            costs.attended * work.attended) *
                           std::exp(costs.noise * normal());
    last_seconds = seconds;
    now += seconds;
    ++steps;
    scheduler.commit(seconds);
    draw();
    return true;
  }

  // Steps until nothing can run; jobs that are done go.
  void run() {
    while (step()) {
    }
  }

  std::size_t free() const override { return total - pinned - used; }
  std::size_t free_of_all() noexcept override { return free(); }
  void start(Job& of) override {
    auto& job = static_cast<FakeJob&>(of);
    job.cached = std::min(job.hit, job.tokens - 1) / 64 * 64;
    if (job.cached / 64 > free()) job.cached = 0;
    take(job, job.cached / 64);
  }
  bool defer(Job&) override { return false; }
  bool reserve(Job& of, std::size_t count) override {
    auto& job = static_cast<FakeJob&>(of);
    const std::size_t more = pages_for(job.cached + count) - job.held;
    if (more > free()) return false;
    take(job, more);
    return true;
  }
  void before_drop(Job&) override {}
  void drop(Job& of) noexcept override {
    auto& job = static_cast<FakeJob&>(of);
    used -= job.held;
    job.held = 0;
  }

  std::list<FakeJob> jobs{};
  Scheduler scheduler;
  std::size_t total, pinned = 0, used = 0;
  double now = 0.0, last_seconds = 0.0, prompt_seconds = 0.0;
  std::uint64_t steps = 0, faults = 0;
  FakeCosts costs;
  conformance::Random random;

 private:
  void take(FakeJob& job, std::size_t pages) {
    job.held += pages;
    used += pages;
  }

  double uniform() { return static_cast<double>(random.below(1 << 30) + 1) / (1 << 30); }
  double normal() { return std::sqrt(-2.0 * std::log(uniform())) * std::cos(6.283185 * uniform()); }

  // What holds of every plan: it fits, nobody is in it twice, and its pages are there.
  void check(const std::vector<Piece>& pieces) {
    std::size_t rows = 0, held = 0;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const auto& job = static_cast<const FakeJob&>(*pieces[i].job);
      rows += pieces[i].tokens + job.again;
      for (std::size_t j = 0; j < i; ++j) faults += pieces[j].job == &job ? 1 : 0;
      faults += job.place != Job::Place::running || pieces[i].tokens == 0 ? 1 : 0;
      faults += job.cached + pieces[i].tokens > job.tokens ? 1 : 0;
      faults += pages_for(job.cached + pieces[i].tokens) > job.held ? 1 : 0;
      faults += pieces[i].tokens > job.most_at_once ? 1 : 0;
    }
    for (const Job* job : scheduler.running()) held += static_cast<const FakeJob*>(job)->held;
    faults += rows > options_.max_rows || held != used || used + pinned > total ? 1 : 0;
    faults += scheduler.running().size() > static_cast<std::size_t>(options_.max_sequences) ? 1 : 0;
  }

  void draw() {
    for (auto it = scheduler.running().begin(); it != scheduler.running().end();) {
      auto& job = static_cast<FakeJob&>(**it++);
      if (job.cached < job.tokens) continue;
      if (job.first < 0.0) {
        job.first = now;
        job.first_step = steps;
      } else {
        job.gaps.push_back(now - job.last);
      }
      job.last = now;
      ++job.drawn;
      ++job.tokens;
      if (job.drawn < job.output) continue;
      static_cast<void>(scheduler.remove(job));
      drop(job);
      job.done = true;
    }
  }

  const SchedulerOptions options_;
  std::uint64_t arrivals_ = 0;
};

// The value below which `part` of them are.
inline double percentile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values.at(static_cast<std::size_t>(part * static_cast<double>(values.size() - 1)));
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_ENGINE_FAKE_WORLD_H_
