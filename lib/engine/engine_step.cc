// Engine::step: plan, reserve, run, commit, draw, tell.
#include <algorithm>
#include <bit>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/seconds.h"
#include "lib/engine/engine_state.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{
    5};  // how often it looks whether Sessions let go of pages
constexpr std::chrono::hours kLongest{24 * 365};

Answer& answer_of(Job& job) { return static_cast<Answer&>(job); }

}  // namespace

Stepping::Stepping(std::atomic<bool>& flag) : flag_(flag) {
  DSV32_CHECK(!flag_.exchange(true, std::memory_order_acquire), busy,
              "the engine is in a step, of another thread or of a callback's caller");
}

std::vector<RequestUpdate> Engine::Impl::step(std::chrono::milliseconds wait) {
  const Stepping stepping(stepping_);
  const std::chrono::milliseconds most = kLongest;
  const Clock::time_point until =
      Clock::now() + std::clamp(wait, std::chrono::milliseconds{0}, most);
  do {
    take_new();
  } while (!run() && wait_for_work(until));
  return collect();
}

// Masks are asked for without the lock: they are the application's.
void Engine::Impl::take_new() {
  {
    const std::lock_guard guard(mutex_);
    fresh_.swap(inbox_);
    for (RequestState* request : fresh_) request->taken = true;
  }
  if (fresh_.empty()) return;
  for (RequestState* request : fresh_) {
    for (Answer& answer : request->answers) {
      if (!request->cancelled) answer.prepare();
    }
  }
  const std::lock_guard guard(mutex_);
  for (RequestState* request : fresh_) {
    for (Answer& answer : request->answers) {
      if (!answer.ended && answer.over()) end_locked(answer);
    }
    queue_locked(*request);
  }
  fresh_.clear();
  publish();
}

// The first of its answers runs the prompt; the others come when it has.
void Engine::Impl::queue_locked(RequestState& request) noexcept {
  while (request.queued < request.answers.size()) {
    Answer& answer = request.answers[request.queued++];
    if (answer.ended) continue;
    scheduler_.add(std::move(answer.node));
    return;
  }
}

// Whether it may be worth to look again.
bool Engine::Impl::wait_for_work(Clock::time_point until) {
  std::unique_lock lock(mutex_);
  if (told_) return false;
  const auto news = [&] { return told_ || !inbox_.empty(); };
  const Clock::time_point now = Clock::now();
  const bool wants_pages = !scheduler_.waiting().empty();
  news_.wait_until(lock, wants_pages ? std::min(until, now + kLook) : until, news);
  return !told_ && (!inbox_.empty() || (wants_pages && Clock::now() < until));
}

// Whether anything ran or ended.
bool Engine::Impl::run() {
  ran_ = {};
  if (!plan()) return false;
  pass();
  for (Job* job : scheduler_.running()) draw(answer_of(*job));
  observe_drafts();
  const std::lock_guard guard(mutex_);
  finish_locked();
  publish();
  return true;
}

bool Engine::Impl::plan() {
  const FloatState ours;
  for (;;) {
    Answer* leaving = nullptr;
    try {
      return plan_once();
    } catch (const CopyFirst& first) {
      leaving = first.answer;
    }
    swap_out(*leaving);
  }
}

bool Engine::Impl::plan_once() {
  const std::lock_guard guard(mutex_);
  finish_locked();  // what was cancelled between the steps
  try {
    const bool any = plan_locked();
    publish();
    return any;
  } catch (...) {
    take_back();
    throw;
  }
}

bool Engine::Impl::plan_locked() {
  if (stop_pass_.stop_requested()) stop_pass_ = std::stop_source();
  wish_drafts();
  scheduler_.plan(*this);
  bool any = !scheduler_.pieces().empty();
  for (Job* job : scheduler_.running()) {
    Answer& answer = answer_of(*job);
    if (answer.started || !answer.has_begun()) count_start(answer);
    any = any || answer.cached == answer.tokens;
  }
  for (const Piece& piece : scheduler_.pieces()) {
    Answer& answer = answer_of(*piece.job);
    answer.in_pass = true;
    ++live_rows_;
  }
  return any;
}

// As many drafts as pay at this number of answers.
void Engine::Impl::wish_drafts() noexcept {
  if (options_.draft_tokens == 0) return;
  std::size_t answers = 0;
  bool prompts = false;
  for (Job* job : scheduler_.running()) {
    job->drafts = answer_of(*job).most_drafts();
    answers += job->tokens == job->cached + 1 ? 1 : 0;
    prompts = prompts || job->tokens > job->cached + 1;
  }
  policy_ = nullptr;
  if (answers == 0) return;
  policy_ = &drafts_.at(static_cast<std::size_t>(std::bit_width(answers)) - 1);
  // While prompts run, a step's time says nothing of drafts.
  wanted_drafts_ = prompts ? policy_->best() : policy_->next();
  for (Job* job : scheduler_.running())
    job->drafts = std::min(job->drafts, static_cast<std::size_t>(wanted_drafts_));
}

// What runs behind the tokens that were drawn.
void Engine::Impl::guess() {
  guessing_.clear();
  for (const Piece& piece : scheduler_.pieces()) {
    if (piece.drafts == 0) continue;
    Answer& answer = answer_of(*piece.job);
    guessing_.push_back({.growth = &*answer.growth,
                         .answer = &answer.generation,
                         .guesses = &answer.guesses,
                         .most = piece.drafts});
  }
  if (!guessing_.empty()) draft_passes_.run(*model_, guessing_, stop_pass_.get_token());
}

void Engine::Impl::build() {
  batch_.clear();
  for (const Piece& piece : scheduler_.pieces()) {
    Answer& answer = answer_of(*piece.job);
    const bool every = answer.reads_prompt() || piece.drafts > 0;
    answer.part = PassPart::add(batch_, *answer.growth, answer.growth->rows_left(),
                                every ? WantedLogits::every : WantedLogits::last);
    batch_.hidden = batch_.hidden || piece.drafts > 0;
  }
}

void Engine::Impl::pass() {
  if (scheduler_.pieces().empty()) return;
  Clock::time_point start;
  try {
    swap_in();
    start = Clock::now();
    guess();
    build();
    model_->step(batch_, result_, stop_pass_.get_token());
  } catch (...) {
    {
      const std::lock_guard guard(mutex_);
      take_back();
    }
    try {
      throw;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cancelled) throw;
    }
    return;  // all in it were cancelled
  }
  const double seconds = seconds_since(start);
  const std::lock_guard guard(mutex_);
  const FloatState ours;
  commit_locked(seconds);
}

// As before the plan, but for who has a slot.
void Engine::Impl::take_back() noexcept {
  for (Job* job : scheduler_.running()) {
    Answer& answer = answer_of(*job);
    answer.growth.reset();
    answer.part = {};
    answer.in_pass = false;
    settle(answer);
  }
  live_rows_ = 0;
  scheduler_.give_up();
}

void Engine::Impl::commit_locked(double seconds) noexcept {
  live_rows_ = 0;
  ran_.seconds = seconds;
  for (const Piece& piece : scheduler_.pieces()) {
    Answer& answer = answer_of(*piece.job);
    ran_.answers += piece.tokens == 1 ? 1 : 0;
    ran_.prompts = ran_.prompts || piece.tokens > 1;
    if (piece.drafts > 0) {
      answer.growth->accept(answer.guesses.taken = 1);
      for (std::size_t i = 0; i + 1 < answer.guesses.count; ++i) {
        ++answer.drafted()[i];
        ++stats_.drafted[i];
      }
    } else {
      answer.growth->commit();
      answer.growth.reset();
    }
    answer.in_pass = answer.cold = answer.swap_asked = false;
    if (answer.swapped && answer.sequence.size() >= answer.swapped->tokens) answer.swapped.reset();
    count_rows(answer, piece.tokens);
    if (piece.tokens > 1) offer(answer, true);
  }
  scheduler_.commit(seconds);
  ++stats_.steps;
  stats_.step_seconds += seconds;
}

void Engine::Impl::count_start(Answer& answer) noexcept {
  RequestState& request = answer.request;
  answer.begin();
  if (!std::exchange(request.begun, true)) stats_.prompt_tokens += request.prompt.size();
  const std::size_t have = std::min(answer.cached, request.prompt.size());
  if (have <= request.counted) return;
  stats_.reused_tokens += have - request.counted;
  request.counted = have;
}

// Each token of a prompt is computed once; whatever runs again is so after a preemption, or for one
// of n answers that came late.
void Engine::Impl::count_rows(Answer& answer, std::size_t count) noexcept {
  RequestState& request = answer.request;
  const std::size_t prompt = request.prompt.size(), from = answer.cached, to = from + count;
  const auto beyond = [](std::size_t end, std::size_t before) {
    return end > before ? end - before : 0;
  };
  const std::size_t fresh = beyond(std::min(to, prompt), std::max(from, request.counted));
  const std::size_t output = beyond(to, std::max({from, prompt, answer.computed}));
  stats_.computed_tokens += fresh;
  stats_.recomputed_tokens += count - fresh - output;
  request.counted = std::max(request.counted, std::min(to, prompt));
  answer.computed = std::max(answer.computed, to);
}

void Engine::Impl::draw(Answer& answer) noexcept {
  RequestState& request = answer.request;
  if (answer.part.rows.count > 0) {
    answer.take_rows(result_);
    answer.news = true;
  }
  if (!answer.over() && !request.cancelled && answer.cached >= answer.tokens) {
    const auto vocab = static_cast<std::size_t>(model_->config.vocab_size);
    const std::span<const float> logits = answer.part.logits_count > 0
                                              ? answer.part.logits(result_, vocab)
                                              : std::span<const float>(request.prompt_logits);
    if (request.queued < request.answers.size()) release_others(answer, logits.last(vocab));
    draw_rows(answer, answer.growth ? logits : logits.last(vocab));
    answer.news = true;
  }
  answer.end_guesses(result_);
}

// From the first row, and from those of guesses for as long as they are what is drawn.
void Engine::Impl::draw_rows(Answer& answer, std::span<const float> logits) noexcept {
  const auto vocab = static_cast<std::size_t>(model_->config.vocab_size);
  answer.draw(logits.first(vocab));
  while (answer.growth && !answer.over() && !answer.request.cancelled &&
         answer.guesses.is_next(answer.known.back())) {
    answer.take_guess();
    answer.draw(logits.subspan((answer.guesses.taken - 1) * vocab, vocab));
  }
}

// What a step with so many drafts gave each answer.
void Engine::Impl::observe_drafts() noexcept {
  const FloatState ours;
  if (!policy_ || ran_.prompts || ran_.answers == 0) return;
  std::size_t tokens = ran_.answers;
  for (Job* job : scheduler_.running()) {
    const std::size_t taken = answer_of(*job).guesses.taken;
    tokens += taken > 1 ? taken - 1 : 0;
  }
  policy_->observe(wanted_drafts_, ran_.seconds,
                   static_cast<double>(tokens) / static_cast<double>(ran_.answers));
}

// The prompt has run: its pages and logits are for all of the request's answers. Without memory for
// that, they find what is cached.
void Engine::Impl::release_others(Answer& answer, std::span<const float> logits) noexcept {
  RequestState& request = answer.request;
  const std::lock_guard guard(mutex_);
  while (request.queued < request.answers.size()) queue_locked(request);
  try {
    request.prompt_logits.assign(logits.begin(), logits.end());
    request.prompt_sequence.emplace(model_);
    request.prompt_sequence->share(answer.sequence);
  } catch (...) {
    request.prompt_sequence.reset();
  }
}

void Engine::Impl::finish_locked() noexcept {
  for (auto next = scheduler_.running().begin(); next != scheduler_.running().end();) {
    Answer& answer = answer_of(**next++);
    RequestState& request = answer.request;
    answer.part = {};
    for (std::size_t i = 1; i < answer.guesses.taken; ++i) ++stats_.accepted[i - 1];
    answer.guesses = {};
    if (std::exchange(answer.news, false)) {
      stats_.generated_tokens += answer.new_tokens();
      tell_locked(answer);
    }
    if (request.cancelled && !answer.over()) answer.cancel();
    if (answer.over()) {
      answer.node = scheduler_.remove(answer);
      offer(answer, false);
      answer.sequence.truncate(0);
      answer.arriving = false;
      answer.swapped.reset();
      end_locked(answer);
      if (request.queued < request.answers.size()) queue_locked(request);
    }
    if (request.answers.size() > 1) let_go_of_prompt(request);
  }
}

void Engine::Impl::let_go_of_prompt(RequestState& request) noexcept {
  const bool wanted =
      std::any_of(request.answers.begin(), request.answers.end(),
                  [](const Answer& answer) { return !answer.ended && !answer.has_drawn(); });
  if (wanted) return;
  request.prompt_sequence.reset();
  request.prompt_logits = {};
}

}  // namespace dsv32
