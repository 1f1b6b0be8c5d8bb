// What an Engine is: requests, a scheduler, a prefix cache, and the pass between them.
#ifndef DSV32_LIB_ENGINE_ENGINE_STATE_H_
#define DSV32_LIB_ENGINE_ENGINE_STATE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dsv32/engine.h"

#include "lib/engine/draft_passes.h"
#include "lib/engine/prefix_cache.h"
#include "lib/engine/request_state.h"
#include "lib/engine/scheduler.h"
#include "lib/engine/session_state.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

// The lock is held for plans and commits, never for a pass, a draw or a callback. What runs belongs
// to the thread that steps, which takes the lock to change who waits and who runs.
class Engine::Impl final : private JobPages {
 public:
  static constexpr std::string_view kOwner = "Engine";

  Impl(Model model, const EngineOptions& options);
  ~Impl();

  RequestId submit(Request&& request);
  void cancel(RequestId id) noexcept;
  std::vector<RequestUpdate> step(std::chrono::milliseconds wait);
  bool idle() const noexcept { return unreturned_ == 0; }
  EngineStats stats() const noexcept;
  std::unique_ptr<Session::Impl> cached(std::span<const TokenId> tokens, std::string_view scope);
  void cache(SessionState& session, std::string_view scope);
  void forget(std::string_view scope) noexcept;

  bool is_own_process() const noexcept { return model_->is_own_process(); }
  void check_process() const { model_->check_process(); }

 private:
  // engine_pages.cc: what the scheduler may ask for.
  std::size_t free() const override { return model_->pages().free_pages(); }
  std::size_t free_of_all() noexcept override;
  void start(Job& job) override;
  bool defer(Job& job) override;
  bool computes_for(const Answer& first, const Answer& second) const;
  void catch_up(Answer& answer) noexcept;
  bool reserve(Job& job, std::size_t count) override;
  void before_drop(Job& job) override;
  void drop(Job& job) noexcept override;
  void settle(Answer& answer) noexcept;
  void offer(Answer& answer, bool goes_on) noexcept;
  bool give_up_prompts() noexcept;

  // engine_swap.cc. Thrown out of a plan: of whom the pages must be copied before it can be made.
  struct CopyFirst {
    Answer* answer = nullptr;
  };
  void swap_out(Answer& answer);
  void bring_back(Answer& answer);
  void swap_in();

  void check(const Request& request) const;
  void cancel_locked(RequestState& request) noexcept;
  void end_locked(Answer& answer) noexcept;
  void tell_locked(Answer& answer) noexcept;
  void conclude(Answer& answer) noexcept;
  std::vector<RequestUpdate> collect();
  void publish() noexcept;

  // engine_step.cc
  void take_new();
  void queue_locked(RequestState& request) noexcept;
  bool wait_for_work(std::chrono::steady_clock::time_point until);
  bool run();
  bool plan();
  bool plan_once();
  void wish_drafts() noexcept;
  bool plan_locked();
  void pass();
  void guess();
  void build();
  void take_back() noexcept;
  void commit_locked(double seconds) noexcept;
  void count_start(Answer& answer) noexcept;
  void count_rows(Answer& answer, std::size_t count) noexcept;
  void draw(Answer& answer) noexcept;
  void draw_rows(Answer& answer, std::span<const float> logits) noexcept;
  void observe_drafts() noexcept;
  void release_others(Answer& answer, std::span<const float> logits) noexcept;
  void finish_locked() noexcept;
  static void let_go_of_prompt(RequestState& request) noexcept;

  // Drafts are worth another thing beside others: learned apart for 1 answer, 2 to 3, 4 to 7 ..
  static constexpr std::size_t kDraftSizes = 13;

  const Model handle_;
  const std::shared_ptr<LoadedModel> model_;
  const EngineOptions options_;
  const int max_sequences_;

  std::atomic<bool> stepping_{false};
  std::atomic<RequestId> next_id_{1};
  std::atomic<std::size_t> unreturned_{0};  // answers whose last update step() has not returned
  Snapshot<EngineStats> published_;

  SwapSpace swap_;  // the stepping thread's
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::vector<RequestState*> inbox_;  // in order of arrival
  std::uint64_t arrivals_ = 0;
  std::size_t open_ = 0;  // answers that have not ended
  Scheduler scheduler_;
  PrefixCache cache_;
  const std::uint64_t evicted_before_;
  EngineStats stats_{};
  Answer *told_ = nullptr, **told_end_ = &told_;  // those with something to tell
  std::size_t live_rows_ = 0;                     // pieces of the pass whose request goes on
  std::stop_source stop_pass_;

  // The stepping thread's.
  Batch batch_;
  StepResult result_;
  std::vector<RequestState*> fresh_;
  DraftPasses draft_passes_;
  std::vector<DraftPasses::Member> guessing_;
  std::array<DraftPolicy, kDraftSizes> drafts_;
  DraftPolicy* policy_ = nullptr;  // that learns from this step
  int wanted_drafts_ = 0;
  struct {
    double seconds = 0.0;
    std::size_t answers = 0;
    bool prompts = false;
  } ran_;  // this step
};

// Marks an engine as stepping.
class Stepping {
 public:
  explicit Stepping(std::atomic<bool>& flag);
  ~Stepping() { flag_.store(false, std::memory_order_release); }
  Stepping(const Stepping&) = delete;
  Stepping& operator=(const Stepping&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_ENGINE_STATE_H_
