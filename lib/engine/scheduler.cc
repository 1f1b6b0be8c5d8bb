#include "lib/engine/scheduler.h"

#include <algorithm>
#include <utility>

namespace dsv32 {
namespace {

constexpr std::size_t kPage = 64;      // tokens; so many of a prompt are worth a place in a step
constexpr double kAnswersPart = 0.75;  // of a step's time, at most, while prompts wait
constexpr double kLearn = 0.1;         // of what is expected, from each answer that ends
constexpr double kGrowthPart = 0.7;    // of it is kept free: while one grows, others end
constexpr int kMostDoublings = 4;
// Of a prompt, whatever it seems to cost: one token would be taken for an answer's, and nobody
// would learn that it costs less.
constexpr std::size_t kLeastPiece = 2;

std::size_t pages_for(std::size_t tokens) { return (tokens + kPage - 1) / kPage; }

// Whose turn it is where there is not enough for all.
bool goes_before(const Job* x, const Job* y) {
  if (x->priority != y->priority) return x->priority > y->priority;
  return x->served != y->served ? x->served < y->served : x->arrival < y->arrival;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options) {
  const auto most = static_cast<std::size_t>(options.max_sequences);
  pieces_.reserve(most);
  rows_.reserve(most);
  prompts_.reserve(most);
  passed_.reserve(most);
  shares_.reserve(most);
}

Scheduler::Node Scheduler::make_node(Job& job) {
  Queue queue;
  return queue.extract(queue.insert(&job).first);
}

void Scheduler::add(Node node) noexcept {
  node.value()->place = Job::Place::waiting;
  waiting_.insert(std::move(node));
}

Scheduler::Node Scheduler::remove(Job& job) noexcept {
  if (job.place == Job::Place::running)
    output_ += kLearn * (static_cast<double>(job.tokens - job.prompt) - output_);
  Queue& queue = job.place == Job::Place::running ? running_ : waiting_;
  job.place = Job::Place::outside;
  return queue.extract(&job);
}

void Scheduler::move(Job& job, Queue& from, Queue& to, Job::Place place) noexcept {
  job.place = place;
  to.insert(from.extract(&job));
}

const std::vector<Piece>& Scheduler::plan(JobPages& pages) {
  pieces_.clear();
  ++step_;
  try {
    // Once more if all that ran had to give its pages back: others may need fewer.
    for (std::uint64_t before = preemptions_ + 1; pieces_.empty() && before != preemptions_;) {
      before = preemptions_;
      admit(pages);
      sort_running(pages);
      plan_rows(pages);
      plan_prompts(pages);
    }
  } catch (...) {
    pieces_.clear();
    --step_;  // whom it preempted does not come back in the next try
    throw;
  }
  return pieces_;
}

void Scheduler::commit(double seconds) noexcept {
  if (!pieces_.empty()) cost_.observe(work(), seconds);
  for (const Piece& piece : pieces_) {
    piece.job->cached += piece.tokens;
    piece.job->served = step_;
    piece.job->again = 0;
  }
  pieces_.clear();
}

// Tokens that `job` may come to have soon, or `times` as many more; at least a page's.
std::size_t Scheduler::expected(const Job& job, int times) const {
  const double left =
      std::max(output_ - static_cast<double>(job.tokens - job.prompt), output_ / 4.0);
  const auto more = static_cast<std::size_t>(kGrowthPart * left) * static_cast<std::size_t>(times);
  return std::min(job.tokens + std::max(more, kPage), std::max(job.tokens, job.most));
}

// Pages that one which waits lacks for that; times 0: for what it has. A last page that is shared
// is copied.
std::size_t Scheduler::wants(const Job& job, int times) const {
  const std::size_t goal = times == 0 ? job.tokens : expected(job, times);
  return pages_for(goal) - std::min(job.cached, goal) / kPage;
}

std::size_t Scheduler::promised(const Job& job) const {
  return pages_for(expected(job, 1)) - pages_for(job.cached);
}

// In order, as far as there are slots and pages. Who is passed, as it does not fit yet, is so at
// most max_sequences times; one that Sessions alone keep out of the pool holds nobody up.
void Scheduler::admit(JobPages& pages) {
  passed_.clear();
  if (waiting_.empty()) return;
  promised_ = held_below(nullptr).promised;
  int tries = 0;
  for (auto next = waiting_.begin(); next != waiting_.end() && tries < options_.max_sequences;) {
    Job& job = **next++;
    if (!may_pass(job) || (full() && !lower(job))) break;
    if (job.preempted == step_) continue;
    if (try_admit(job, pages)) {
      for (Job* passed : passed_) passed->overtaken += passed->priority == job.priority ? 1 : 0;
      continue;
    }
    ++tries;
    const Held all = held_below(nullptr);
    if (wants(job, 0) <= pages.free() + all.pages) passed_.push_back(&job);
  }
}

bool Scheduler::may_pass(const Job& job) const {
  return std::all_of(passed_.begin(), passed_.end(), [&](const Job* passed) {
    if (passed->priority != job.priority) return running_.empty();
    return passed->overtaken < options_.max_sequences;
  });
}

bool Scheduler::try_admit(Job& job, JobPages& pages) {
  pages.start(job);
  try {
    if (!make_fit(job, pages)) {
      // What is cached may cost a page more than it saves: a copy of the last one.
      give_back(job, pages);
      if (!running_.empty() || wants(job, 0) > pages.free_of_all()) return false;
    }
    if (full()) preempt(*lower(job), pages);
  } catch (...) {
    give_back(job, pages);
    throw;
  }
  promised_ += promised(job);
  job.overtaken = 0;
  move(job, waiting_, running_, Job::Place::running);
  return true;
}

// Whether all that `job` has fits, and what is to come (twice as much each time it was preempted),
// beside what those who run are expected to want. For that, lower priorities give way.
bool Scheduler::make_fit(Job& job, JobPages& pages) {
  const int times = 1 << std::min(job.preemptions, kMostDoublings);
  const auto fits = [&](std::size_t free, std::size_t promised_to_others, bool alone) {
    return alone ? wants(job, 0) <= free : wants(job, times) + promised_to_others <= free;
  };
  const Held below = held_below(&job);
  const bool alone = running_.empty() || (*running_.begin())->priority < job.priority;
  if (!fits(pages.free() + below.pages, promised_ - below.promised, alone)) return false;
  while (!fits(pages.free(), promised_, running_.empty())) {
    Job* victim = lower(job);
    if (!victim) return false;
    preempt(*victim, pages);
  }
  return true;
}

Scheduler::Held Scheduler::held_below(const Job* job) const {
  Held held;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if (job && (*it)->priority >= job->priority) break;
    held.pages += pages_for((*it)->cached);
    held.promised += promised(**it);
  }
  return held;
}

// The youngest of the lowest priority, if that is below the job's.
Job* Scheduler::lower(const Job& job) const {
  if (running_.empty() || (*running_.rbegin())->priority >= job.priority) return nullptr;
  return *running_.rbegin();
}

void Scheduler::preempt(Job& job, JobPages& pages) {
  pages.before_drop(job);
  promised_ -= std::min(promised_, promised(job));
  std::erase_if(pieces_, [&](const Piece& piece) { return piece.job == &job; });
  give_back(job, pages);
  job.preempted = step_;
  ++job.preemptions;
  ++preemptions_;
  move(job, running_, waiting_, Job::Place::waiting);
}

void Scheduler::give_back(Job& job, JobPages& pages) noexcept {
  pages.drop(job);
  job.cached = job.again = job.drafts = 0;
}

// False if `job` itself had to give way.
bool Scheduler::reserve(Job& job, std::size_t count, JobPages& pages) {
  while (!pages.reserve(job, count)) {
    Job& victim = **running_.rbegin();
    preempt(victim, pages);
    if (&victim == &job) return false;
  }
  return true;
}

std::size_t Scheduler::rows_left() const {
  std::size_t left = options_.max_rows;
  for (const Piece& piece : pieces_) left -= std::min(left, piece.rows());
  return left;
}

StepWork Scheduler::work() const {
  StepWork work;
  for (const Piece& piece : pieces_) {
    work.add(piece.job->cached, piece.tokens);
    for (std::size_t i = 0; i < piece.drafts; ++i) work.add(piece.job->cached + 1 + i, 1);
  }
  return work;
}

void Scheduler::sort_running(JobPages& pages) {
  rows_.clear();
  prompts_.clear();
  for (Job* job : running_) {
    if (job->tokens > job->cached + 1 && pages.defer(*job)) continue;
    if (job->tokens == job->cached + 1) rows_.push_back(job);
    if (job->tokens > job->cached + 1) prompts_.push_back(job);
  }
}

// A token of every answer; if there are more than rows, of those that waited longest.
void Scheduler::plan_rows(JobPages& pages) {
  std::size_t room = options_.max_rows;
  if (!prompts_.empty()) {
    room -= std::max<std::size_t>(1, room / 4);
    if (room == 0) room = step_ % 2;
  }
  if (rows_.size() > room) {
    const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(room);
    std::nth_element(rows_.begin(), end, rows_.end(), goes_before);
    rows_.erase(end, rows_.end());
    std::sort(rows_.begin(), rows_.end(), JobOrder());
  }
  std::size_t spare = room;  // for drafts, which keep nobody's row away
  for (const Job* job : rows_) spare -= std::min(spare, 1 + job->again);
  for (Job* job : rows_) {
    const std::size_t rows = 1 + job->again;
    if (job->place != Job::Place::running) continue;
    if (rows > room && !(pieces_.empty() && rows <= options_.max_rows)) continue;
    if (job->drafts > spare) job->drafts = 0;
    if (!reserve(*job, 1, pages)) continue;
    pieces_.push_back({.job = job, .tokens = 1, .drafts = job->drafts});
    room -= std::min(room, pieces_.back().rows());
    spare -= job->drafts;
  }
}

// In the time that answers leave, but at least a quarter of the step's. One that runs alone keeps
// nobody waiting.
void Scheduler::plan_prompts(JobPages& pages) {
  std::sort(prompts_.begin(), prompts_.end(), goes_before);
  const double answers = cost_.seconds(work());
  const bool unlimited = options_.step_seconds <= 0.0 || running_.size() == 1;
  share_time(std::max(options_.step_seconds, answers / kAnswersPart) - answers, unlimited);
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    Job& job = *prompts_[i];
    if (shares_[i] == 0 || job.place != Job::Place::running) continue;
    if (reserve(job, shares_[i], pages)) pieces_.push_back({.job = &job, .tokens = shares_[i]});
  }
}

// Everybody's part first, at least a page's worth while there is time; then what others left over,
// in order. The first gets on in any case.
void Scheduler::share_time(double seconds, bool unlimited) {
  shares_.assign(prompts_.size(), 0);
  if (prompts_.empty()) return;
  std::size_t rows = rows_left();
  std::size_t limit = unlimited ? rows : std::min(rows, cost_.prompt_limit());
  const auto equals =
      static_cast<std::size_t>(std::count_if(prompts_.begin(), prompts_.end(), [&](const Job* job) {
        return job->priority == prompts_.front()->priority;
      }));
  const double each = seconds / static_cast<double>(equals);
  const std::size_t each_rows = std::max(kPage, limit / equals);
  for (const bool first : {true, false}) {
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      const Job& job = *prompts_[i];
      const std::size_t position = job.cached + shares_[i], again = shares_[i] == 0 ? job.again : 0;
      if (limit == 0 || rows <= again) continue;
      const std::size_t most =
          std::min({job.tokens - position, job.most_at_once - shares_[i], limit, rows - again});
      std::size_t count = first ? std::min(most, each_rows) : most;
      if (!unlimited) {
        const std::size_t part = std::max(kPage, cost_.prompt_tokens(each, position));
        count = std::min({count, cost_.prompt_tokens(seconds, position), first ? part : limit});
        if (i == 0 && shares_[i] == 0) count = std::max(count, std::min(most, kLeastPiece));
      }
      if (count == 0) continue;
      seconds -= cost_.prompt_seconds(position, count);
      shares_[i] += count;
      limit -= count;
      rows -= count + again;
    }
  }
}

}  // namespace dsv32
