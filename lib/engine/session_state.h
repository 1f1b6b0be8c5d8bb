// A Session's state: its sequence, the logits after the last token, what it counts and shows.
#ifndef DSV32_LIB_ENGINE_SESSION_STATE_H_
#define DSV32_LIB_ENGINE_SESSION_STATE_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "dsv32/session.h"

#include "lib/engine/draft_policy.h"
#include "lib/engine/sequence.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

// A value that one thread sets and any thread reads.
template <class T>
class Snapshot {
 public:
  T get() const noexcept {
    const std::lock_guard guard(mutex_);
    return value_;
  }
  void set(const T& value) noexcept {
    const std::lock_guard guard(mutex_);
    value_ = value;
  }

 private:
  mutable std::mutex mutex_;
  T value_{};
};

// Throws what is wrong with `list` behind so many tokens.
void check_tokens(const LoadedModel& model, std::span<const TokenId> list, std::size_t before);

class SessionState {
 public:
  SessionState(std::shared_ptr<LoadedModel> loaded, Model model);
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;

  // Appends to several sessions of one model in common passes; all or nothing.
  struct Part {
    SessionState* session = nullptr;
    std::span<const TokenId> tokens{};
  };
  static void append(std::span<const Part> parts, const std::stop_token& cancel);

  std::span<const float> append(std::span<const TokenId> tokens, const std::stop_token& cancel);
  std::span<const float> sync(std::span<const TokenId> tokens, const std::stop_token& cancel);
  void truncate(std::size_t length);
  void copy_from(const SessionState& other);  // by an empty one
  // By an empty one: the longest prefix of `tokens` that `cache` has. And its whole pages to it.
  void begin_with(PrefixCache& cache, std::string_view scope, std::span<const TokenId> tokens) {
    reuse.set(sequence_.begin_with(cache, scope, tokens, tokens.size()));
  }
  void offer_to(PrefixCache& cache, std::string_view scope) {
    sequence_.offer_to(cache, scope, false);
  }
  void save(const std::filesystem::path& file, const std::stop_token& cancel) const;
  void load(const std::filesystem::path& file, const std::stop_token& cancel);  // by an empty one
  void observe(const TraceOptions& options, TraceSink sink);
  std::span<const TokenId> tokens() const { return sequence_.tokens(); }
  std::span<const float> logits() const { return logits_; }
  LoadedModel& shared() const { return *model_; }

  const Model model;
  Snapshot<Reuse> reuse;
  Snapshot<SparseStats> stats;
  std::atomic<bool> in_use{false};

 private:
  friend class CommonAppend;   // append()'s passes
  friend class DraftedDecode;  // generate()'s

  std::size_t chunk_tokens() const;  // that one pass may hold of this session
  bool observed() const { return static_cast<bool>(sink_); }

  std::shared_ptr<LoadedModel> model_;
  Sequence sequence_;
  std::vector<float> logits_;  // after the last token; empty: unknown
  std::vector<float> spare_logits_;
  TraceOptions trace_;
  TraceSink sink_;
  DraftPolicy drafts_;
};

class Session::Impl : public SessionState {
 public:
  static constexpr std::string_view kOwner = "Session";
  explicit Impl(Model of) : SessionState{of.impl_, std::move(of)} {}
};

// Marks a session as in use; a second user gets busy.
class InUse {
 public:
  explicit InUse(std::atomic<bool>& flag);
  ~InUse() { flag_.store(false, std::memory_order_release); }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SESSION_STATE_H_
