// Who runs in the next step, and how much of each. Knows no device: pages and what is cached come
// through JobPages, time as numbers.
#ifndef DSV32_LIB_ENGINE_SCHEDULER_H_
#define DSV32_LIB_ENGINE_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "lib/engine/cost_model.h"

namespace dsv32 {

// What the scheduler knows of an answer.
struct Job {
  enum class Place : std::uint8_t { outside, waiting, running };

  // Its owner's.
  int priority = 0;
  std::uint64_t arrival = 0;  // smaller came first
  std::size_t prompt = 0;     // tokens that it began with
  std::size_t tokens = 0;     // that the cache must hold before the next one is drawn; grows
  std::size_t most = 0;       // tokens that it may come to need
  std::size_t most_at_once = std::numeric_limits<std::size_t>::max();  // of these, in one step
  std::size_t again = 0;   // rows that the next step runs beside the new ones
  std::size_t cached = 0;  // of `tokens`; the scheduler adds to it in commit()
  // Rows that it would have in this step behind its last token, if there is room for all of them.
  std::size_t drafts = 0;

  // The scheduler's.
  Place place = Place::outside;
  int preemptions = 0;
  int overtaken = 0;            // by later ones that got to run while this one waits
  std::uint64_t served = 0;     // the last step that held a row of it
  std::uint64_t preempted = 0;  // the last step that did it
};

// Higher priorities first, then those that came first.
struct JobOrder {
  bool operator()(const Job* x, const Job* y) const {
    return x->priority != y->priority ? x->priority > y->priority : x->arrival < y->arrival;
  }
};

class JobPages {
 public:
  virtual std::size_t free() const = 0;  // what can be had, unused prefixes with them
  // Where nothing runs: the same, after all that is held for those who wait was given back.
  virtual std::size_t free_of_all() noexcept = 0;
  // A job without pages gets those of its tokens that are cached, and `cached`.
  virtual void start(Job& job) = 0;
  // Whether the prompt of a running job is better run later: another one, which goes first, runs
  // the same tokens. May add to what is cached of one that has nothing yet.
  virtual bool defer(Job& job) = 0;
  // Takes the pages for its next `count` tokens; false: there are too few, and nothing has changed.
  // For its drafts, too, or sets them to 0.
  virtual bool reserve(Job& job, std::size_t count) = 0;
  // Comes before drop() of one that runs, and may throw, too.
  virtual void before_drop(Job& job) = 0;
  // Gives all its pages back, reserved ones, too: nothing is cached.
  virtual void drop(Job& job) noexcept = 0;

 protected:
  ~JobPages() = default;
};

struct SchedulerOptions {
  int max_sequences = 1;
  std::size_t max_rows = 1;   // of a step
  double step_seconds = 0.0;  // how long a step should take; 0: as many rows as there may be
};

struct Piece {
  Job* job = nullptr;
  std::size_t tokens = 0;
  std::size_t drafts = 0;  // rows behind them
  std::size_t rows() const { return tokens + drafts + job->again; }
};

// Not thread-safe.
class Scheduler {
 public:
  using Queue = std::set<Job*, JobOrder>;
  using Node = Queue::node_type;  // a job's place in a queue, made once, so that moves cannot fail

  explicit Scheduler(const SchedulerOptions& options);

  static Node make_node(Job& job);
  void add(Node node) noexcept;    // to those that wait
  Node remove(Job& job) noexcept;  // from where it is; its pages are the caller's business

  // The next step: everybody's pages are reserved. Valid until the next call. What `pages` throws
  // passes through: then nothing is planned, and reserved pages are the caller's to give back.
  const std::vector<Piece>& plan(JobPages& pages);
  void commit(double seconds) noexcept;         // the plan has run, in that time
  void give_up() noexcept { pieces_.clear(); }  // it has not

  const std::vector<Piece>& pieces() const { return pieces_; }
  const Queue& running() const { return running_; }
  const Queue& waiting() const { return waiting_; }
  const CostModel& cost() const { return cost_; }
  std::uint64_t preemptions() const { return preemptions_; }

 private:
  void admit(JobPages& pages);
  bool may_pass(const Job& job) const;
  bool try_admit(Job& job, JobPages& pages);
  bool make_fit(Job& job, JobPages& pages);
  // Pages of all that run, or of those below a priority.
  struct Held {
    std::size_t pages = 0, promised = 0;
  };
  Held held_below(const Job* job) const;
  Job* lower(const Job& job) const;
  std::size_t expected(const Job& job, int times) const;
  std::size_t wants(const Job& job, int times) const;
  std::size_t promised(const Job& job) const;
  bool full() const { return running_.size() >= static_cast<std::size_t>(options_.max_sequences); }
  void move(Job& job, Queue& from, Queue& to, Job::Place place) noexcept;
  void preempt(Job& job, JobPages& pages);
  static void give_back(Job& job, JobPages& pages) noexcept;
  bool reserve(Job& job, std::size_t count, JobPages& pages);
  std::size_t rows_left() const;
  StepWork work() const;
  void sort_running(JobPages& pages);
  void plan_rows(JobPages& pages);
  void plan_prompts(JobPages& pages);
  void share_time(double seconds, bool unlimited);

  const SchedulerOptions options_;
  Queue waiting_, running_;
  CostModel cost_;
  std::uint64_t step_ = 0, preemptions_ = 0;
  std::size_t promised_ = 0;  // pages that those who run are expected to want
  double output_ = 256.0;     // tokens that an answer is expected to have, by those that ended
  std::vector<Piece> pieces_;
  // Of one plan, kept for their memory.
  std::vector<Job*> rows_, prompts_, passed_;
  std::vector<std::size_t> shares_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SCHEDULER_H_
