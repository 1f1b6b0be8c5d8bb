// Engine::step: plan, reserve, run, commit, draw, tell.
#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/engine/engine_state.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{
    5};  // how often it looks whether Sessions let go of pages
constexpr std::chrono::hours kLongest{24 * 365};

Answer& answer_of(Job& job) { return static_cast<Answer&>(job); }

void clear(Batch& batch) {
  for (Rows* rows : {&batch.main, &batch.mtp}) {
    for (auto* list : {&rows->tokens, &rows->positions, &rows->slots, &rows->seq_of_token})
      list->clear();
  }
  batch.pages.clear();
  batch.page_begin.resize(1);
  for (auto* list : {&batch.logits_rows, &batch.mtp_of_row, &batch.mtp_logits_rows}) list->clear();
  batch.page_copies.clear();
  batch.mtp_before.clear();
  batch.hidden_rows.clear();
}

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
  if (!plan()) return false;
  pass();
  for (Job* job : scheduler_.running()) draw(answer_of(*job));
  const std::lock_guard guard(mutex_);
  finish_locked();
  publish();
  return true;
}

bool Engine::Impl::plan() {
  const FloatState ours;
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
  clear(batch_);
  scheduler_.plan(*this);
  bool any = !scheduler_.pieces().empty();
  for (Job* job : scheduler_.running()) {
    Answer& answer = answer_of(*job);
    if (answer.started || !answer.has_begun()) count_start(answer);
    any = any || answer.cached == answer.tokens;
  }
  for (const Piece& piece : scheduler_.pieces()) {
    Answer& answer = answer_of(*piece.job);
    answer.part = PassPart::add(batch_, *answer.growth, answer.growth->rows_left(),
                                answer.reads_prompt() ? WantedLogits::every : WantedLogits::last);
    answer.in_pass = true;
    ++live_rows_;
  }
  return any;
}

void Engine::Impl::pass() {
  if (scheduler_.pieces().empty()) return;
  const Clock::time_point start = Clock::now();
  try {
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
  const FloatState ours;
  const std::lock_guard guard(mutex_);
  commit_locked(std::chrono::duration<double>(Clock::now() - start).count());
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
  for (const Piece& piece : scheduler_.pieces()) {
    Answer& answer = answer_of(*piece.job);
    answer.growth->commit();
    answer.growth.reset();
    answer.in_pass = answer.cold = false;
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
  if (answer.over() || request.cancelled || answer.cached < answer.tokens) return;
  const auto vocab = static_cast<std::size_t>(model_->config.vocab_size);
  const std::span<const float> logits = answer.part.logits_count > 0
                                            ? answer.part.logits(result_, vocab).last(vocab)
                                            : std::span<const float>(request.prompt_logits);
  if (request.queued < request.answers.size()) release_others(answer, logits);
  answer.draw(logits);
  answer.news = true;
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
    if (std::exchange(answer.news, false)) {
      stats_.generated_tokens += answer.new_tokens();
      tell_locked(answer);
    }
    if (request.cancelled && !answer.over()) answer.cancel();
    if (answer.over()) {
      answer.node = scheduler_.remove(answer);
      offer(answer, false);
      answer.sequence.truncate(0);
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
