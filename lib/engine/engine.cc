// Engine: submit, cancel, what is told, and the prefix cache in Sessions. (The steps:
// engine_step.cc.)
#include "dsv32/engine.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/engine/engine_state.h"

namespace dsv32 {
namespace {

int checked_sequences(const EngineOptions& options, const LoadedModel& model) {
  const int most = model.options.max_sequences;
  DSV32_CHECK(options.max_sequences >= 0 && options.max_sequences <= most, invalid_argument,
              "EngineOptions::max_sequences is {}, LoadOptions::max_sequences {}",
              options.max_sequences, most);
  DSV32_CHECK(options.max_waiting >= 1, invalid_argument, "EngineOptions::max_waiting is {}",
              options.max_waiting);
  DSV32_CHECK(options.step_target.count() >= 0, invalid_argument,
              "EngineOptions::step_target is {} ms", options.step_target.count());
  check_draft_tokens(options.draft_tokens);
  DSV32_CHECK(options.draft_tokens == 0 || model.has_mtp(), invalid_argument,
              "EngineOptions::draft_tokens is {}, and drafts need LoadOptions::mtp",
              options.draft_tokens);
  return options.max_sequences > 0 ? options.max_sequences : most;
}

std::shared_ptr<LoadedModel> usable(std::shared_ptr<LoadedModel> model) {
  DSV32_CHECK(model, state, "this Model was moved from");
  model->check_process();
  return model;
}

// Requests to end when no lock is held: what applications gave them goes with them.
class DeadRequests {
 public:
  DeadRequests() = default;
  ~DeadRequests() {
    while (first_) first_ = std::exchange(first_->next_dead, nullptr);
  }
  DeadRequests(const DeadRequests&) = delete;
  DeadRequests& operator=(const DeadRequests&) = delete;
  void add(std::unique_ptr<RequestState> request) noexcept {
    request->next_dead = std::move(first_);
    first_ = std::move(request);
  }

 private:
  std::unique_ptr<RequestState> first_;
};

double seconds_of(std::chrono::milliseconds time) {
  const FloatState ours;
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Engine::Impl::Impl(Model model, const EngineOptions& options)
    : handle_(std::move(model)),
      model_(usable(handle_.impl_)),
      options_(options),
      max_sequences_(checked_sequences(options, *model_)),
      swap_(options.swap_bytes),
      scheduler_({.max_sequences = max_sequences_,
                  .max_rows = static_cast<std::size_t>(model_->options.max_batch_tokens),
                  .step_seconds = seconds_of(options.step_target)}),
      cache_(model_->pages(), model_->has_mtp()),
      evicted_before_(model_->pages().evicted_pages()) {
  model_->check_files();
  drafts_.fill(DraftPolicy(options.draft_tokens));
}

// First what others may still call.
Engine::Impl::~Impl() {
  for (auto& [id, request] : requests_) request->on_cancel.reset();
  cache_.clear();
}

void Engine::Impl::check(const Request& request) const {
  const LoadedModel& model = *model_;
  check_tokens(model, request.prompt, 0);
  DSV32_CHECK(request.options.draft_tokens == 0, invalid_argument,
              "GenerateOptions::draft_tokens is a Session's; an Engine's is in its options");
  DSV32_CHECK(request.n >= 1, invalid_argument, "{} answers are asked for", request.n);
  const std::size_t pages = pages_for(request.prompt.size());
  DSV32_CHECK(pages <= model.pages().num_pages(), capacity,
              "a prompt of {} tokens never fits: it needs {} pages of 64, the cache has {}",
              request.prompt.size(), pages, model.pages().num_pages());
  DSV32_CHECK(request.n <= options_.max_waiting, capacity,
              "{} answers are more than EngineOptions::max_waiting {}", request.n,
              options_.max_waiting);
}

RequestId Engine::Impl::submit(Request&& asked) {
  check(asked);
  const std::stop_token cancelled = asked.options.cancel;
  const RequestId id = next_id_.fetch_add(1);
  auto request = std::make_unique<RequestState>(model_, std::move(asked), id);
  // Before it is there nobody finds it; what is called too early is seen below.
  if (cancelled.stop_possible()) request->on_cancel.emplace(cancelled, [this, id] { cancel(id); });
  {
    const std::lock_guard guard(mutex_);
    const std::size_t waiting = open_ - scheduler_.running().size();
    DSV32_CHECK(waiting + request->answers.size() <= static_cast<std::size_t>(options_.max_waiting),
                capacity, "{} answers wait, EngineOptions::max_waiting is {}", waiting,
                options_.max_waiting);
    inbox_.push_back(request.get());
    try {
      requests_[id] = nullptr;  // the last that can fail
    } catch (...) {
      inbox_.pop_back();
      throw;
    }
    for (Answer& answer : request->answers) answer.arrival = ++arrivals_;
    open_ += request->answers.size();
    unreturned_ += request->answers.size();
    if (cancelled.stop_requested()) cancel_locked(*request);
    requests_[id] = std::move(request);
    publish();
  }
  news_.notify_all();
  return id;
}

void Engine::Impl::cancel(RequestId id) noexcept {
  std::stop_source stop(std::nostopstate);
  {
    const std::lock_guard guard(mutex_);
    const auto found = requests_.find(id);
    if (found == requests_.end()) return;
    const bool any = live_rows_ > 0;
    cancel_locked(*found->second);
    if (any && live_rows_ == 0) stop = stop_pass_;
    publish();
  }
  if (stop.stop_possible()) stop.request_stop();
  news_.notify_all();
}

// What waits ends here; what runs, with the step.
void Engine::Impl::cancel_locked(RequestState& request) noexcept {
  if (request.cancelled.exchange(true)) return;
  if (!request.taken) std::erase(inbox_, &request);
  for (Answer& answer : request.answers) {
    if (answer.ended) continue;
    if (answer.place == Job::Place::running) {
      live_rows_ -= answer.in_pass ? 1 : 0;
      continue;
    }
    if (answer.place == Job::Place::waiting) answer.node = scheduler_.remove(answer);
    end_locked(answer);
  }
  request.prompt_sequence.reset();
}

// It is in no queue and has no pages any more.
void Engine::Impl::end_locked(Answer& answer) noexcept {
  answer.ended = true;
  --open_;
  tell_locked(answer);
}

void Engine::Impl::tell_locked(Answer& answer) noexcept {
  if (std::exchange(answer.told, true)) return;
  answer.next_told = nullptr;
  *told_end_ = &answer;
  told_end_ = &answer.next_told;
}

// All that is to be told, or nothing is lost.
std::vector<RequestUpdate> Engine::Impl::collect() {
  std::vector<RequestUpdate> out;
  DeadRequests dead;
  const std::lock_guard guard(mutex_);
  std::size_t count = 0;
  for (Answer* answer = told_; answer; answer = answer->next_told) ++count;
  out.reserve(count);
  Answer* next = std::exchange(told_, nullptr);
  told_end_ = &told_;
  while (Answer* answer = next) {
    next = answer->next_told;
    answer->told = false;
    if (answer->ended) conclude(*answer);
    out.push_back(answer->take_update());
    RequestState& request = answer->request;
    if (!answer->ended) continue;
    --unreturned_;
    if (--request.left > 0) continue;
    const auto place = requests_.find(request.id);
    dead.add(std::move(place->second));
    requests_.erase(place);
  }
  publish();
  return out;
}

void Engine::Impl::conclude(Answer& answer) noexcept {
  if (answer.request.cancelled && !answer.over()) answer.cancel();
  answer.conclude();
  switch (answer.reason()) {
    case FinishReason::cancelled:
      ++stats_.cancelled;
      break;
    case FinishReason::error:
      ++stats_.failed;
      break;
    default:
      ++stats_.finished;
      break;
  }
}

void Engine::Impl::publish() noexcept {
  stats_.running = static_cast<int>(scheduler_.running().size());
  stats_.waiting = static_cast<int>(open_) - stats_.running;
  stats_.preemptions = scheduler_.preemptions();
  published_.set(stats_);
}

EngineStats Engine::Impl::stats() const noexcept {
  const PagePool& pool = model_->pages();
  EngineStats out = published_.get();
  out.cache_tokens = pool.num_pages() * kPageTokens;
  out.cache_tokens_used = out.cache_tokens - pool.free_pages() * kPageTokens;
  out.cache_tokens_reusable = pool.ownerless_pages() * kPageTokens;
  out.evicted_tokens = (pool.evicted_pages() - evicted_before_) * kPageTokens;
  return out;
}

std::unique_ptr<Session::Impl> Engine::Impl::cached(std::span<const TokenId> tokens,
                                                    std::string_view scope) {
  auto session = std::make_unique<Session::Impl>(handle_);
  if (options_.reuse_prefixes && !tokens.empty()) session->begin_with(cache_, scope, tokens);
  return session;
}

void Engine::Impl::cache(SessionState& session, std::string_view scope) {
  DSV32_CHECK(&session.shared() == model_.get(), invalid_argument,
              "a Session of another Model has nothing for this Engine's cache");
  const InUse use(session.in_use);
  if (options_.reuse_prefixes) session.offer_to(cache_, scope);
}

void Engine::Impl::forget(std::string_view scope) noexcept { cache_.forget(scope); }

Engine::Engine(Model model, const EngineOptions& options)
    : impl_(std::make_unique<Impl>(std::move(model), options)) {}

// In a forked child other threads may have held locks that the end would wait for.
Engine::~Engine() {
  if (impl_ && !impl_->is_own_process()) static_cast<void>(impl_.release());
}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&& other) noexcept {
  Engine moved(std::move(other));
  impl_.swap(moved.impl_);
  return *this;
}

Engine::Impl& Engine::state() const {
  Impl& impl = held(impl_);
  impl.check_process();
  return impl;
}

RequestId Engine::submit(Request request) { return state().submit(std::move(request)); }

void Engine::cancel(RequestId id) noexcept {
  if (impl_ && impl_->is_own_process()) impl_->cancel(id);
}

std::vector<RequestUpdate> Engine::step(std::chrono::milliseconds wait) {
  return state().step(wait);
}

bool Engine::idle() const noexcept { return !impl_ || !impl_->is_own_process() || impl_->idle(); }

EngineStats Engine::stats() const noexcept {
  return impl_ && impl_->is_own_process() ? impl_->stats() : EngineStats{};
}

Session Engine::cached(std::span<const TokenId> tokens, std::string_view cache_scope) const {
  return Session(state().cached(tokens, cache_scope));
}

void Engine::cache(const Session& session, std::string_view cache_scope) {
  state().cache(session.state(), cache_scope);
}

void Engine::forget(std::string_view cache_scope) noexcept {
  if (impl_ && impl_->is_own_process()) impl_->forget(cache_scope);
}

}  // namespace dsv32
