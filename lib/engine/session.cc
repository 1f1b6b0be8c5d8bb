// Session: append, sync, truncate, fork, save, load. (The passes: common_append.cc.)
#include "dsv32/session.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/held.h"
#include "lib/engine/common_append.h"
#include "lib/engine/saved_session.h"
#include "lib/engine/session_state.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxTraceBytes = std::size_t{64} << 20;

// `list`, or a copy of it in `copy` if it is a part of `tokens`, which are about to change: what
// Session::tokens() returned may be appended again.
std::span<const TokenId> apart_from(std::span<const TokenId> tokens, std::span<const TokenId> list,
                                    std::vector<TokenId>& copy) {
  const std::less<> before;
  if (before(list.data(), tokens.data()) || !before(list.data(), tokens.data() + tokens.size()))
    return list;
  copy.assign(list.begin(), list.end());
  return copy;
}

}  // namespace

InUse::InUse(std::atomic<bool>& flag) : flag_(flag) {
  DSV32_CHECK(!flag_.exchange(true, std::memory_order_acquire), busy,
              "the session is in use, by another thread or by a callback's caller");
}

SessionState::SessionState(std::shared_ptr<LoadedModel> loaded, Model owner)
    : model(std::move(owner)), model_(std::move(loaded)), sequence_(model_) {
  DSV32_CHECK(model_, state, "this Model was moved from");
  shared().check_process();
}

void check_tokens(const LoadedModel& model, std::span<const TokenId> list, std::size_t before) {
  model.check_process();
  DSV32_CHECK(!list.empty(), invalid_argument, "no tokens");
  const int vocab = model.config.vocab_size;
  for (const TokenId token : list) {
    DSV32_CHECK(token >= 0 && token < vocab, invalid_argument, "token {} is not in 0..{}", token,
                vocab - 1);
  }
  const auto most = static_cast<std::size_t>(model.config.max_position_embeddings);
  const bool fits = list.size() <= most && before <= most - list.size();
  DSV32_CHECK(fits || before > 0, context_length,
              "{} tokens are more than the {} that the model has positions for", list.size(), most);
  DSV32_CHECK(fits, context_length,
              "{} tokens behind {} are more than the {} that the model has positions for",
              list.size(), before, most);
}

std::size_t SessionState::chunk_tokens() const {
  const auto most = static_cast<std::size_t>(shared().options.max_batch_tokens);
  if (!sink_) return most;
  const ModelConfig& c = shared().config;
  const auto layers = static_cast<std::size_t>(c.num_hidden_layers);
  std::size_t row = 1;  // bytes that a trace holds for a token
  if (trace_.logits) row += 4 * static_cast<std::size_t>(c.vocab_size);
  if (trace_.mtp_logits) row += 4 * static_cast<std::size_t>(c.vocab_size);
  if (trace_.selection) row += 4 * layers * static_cast<std::size_t>(c.index_topk);
  if (trace_.experts) row += 4 * layers * static_cast<std::size_t>(c.num_experts_per_tok);
  return std::clamp<std::size_t>(kMaxTraceBytes / row, 1, most);
}

void SessionState::append(std::span<const Part> parts, const std::stop_token& cancel) {
  if (parts.empty()) return;
  const LoadedModel& model = parts.front().session->shared();
  const auto most = static_cast<std::size_t>(model.options.max_sequences);
  DSV32_CHECK(parts.size() <= most, invalid_argument,
              "{} sessions, more than LoadOptions::max_sequences {}", parts.size(), most);
  for (const Part& part : parts) {
    DSV32_CHECK(&part.session->shared() == &model, invalid_argument,
                "sessions of two Models have no pass in common");
    check_tokens(model, part.tokens, part.session->tokens().size());
  }
  CommonAppend(parts).run(cancel);
}

std::span<const float> SessionState::append(std::span<const TokenId> list,
                                            const std::stop_token& cancel) {
  std::vector<TokenId> copy;
  const Part part{.session = this, .tokens = apart_from(tokens(), list, copy)};
  append(std::span(&part, 1), cancel);
  return logits_;
}

std::span<const float> SessionState::sync(std::span<const TokenId> list,
                                          const std::stop_token& cancel) {
  check_tokens(shared(), list, 0);
  std::vector<TokenId> copy;
  list = apart_from(tokens(), list, copy);
  const auto [mine, theirs] =
      std::mismatch(tokens().begin(), tokens().end(), list.begin(), list.end());
  const auto common = static_cast<std::size_t>(mine - tokens().begin());
  const bool whole = common == list.size();
  const bool known = whole && tokens().size() == common && !logits_.empty();
  // Else the last token runs again, for its logits.
  const std::size_t matched = whole && !known ? common - 1 : common;
  if (!known) sequence_.check_room(matched, list.size());  // before any of it is computed
  reuse.set({.matched = matched, .first_difference = common});
  if (known) return logits_;
  truncate(matched);
  // In steps, each of them kept: what an error interrupts is a prefix of `list`.
  while (tokens().size() < list.size()) {
    const std::size_t again = std::min(sequence_.rows_again(), chunk_tokens() - 1);
    const std::size_t count = std::min(chunk_tokens() - again, list.size() - tokens().size());
    append(list.subspan(tokens().size(), count), cancel);
  }
  return logits_;
}

void SessionState::truncate(std::size_t length) {
  shared().check_process();
  if (length >= tokens().size()) return;
  sequence_.truncate(length);
  logits_.clear();
}

void SessionState::copy_from(const SessionState& other) {
  logits_ = other.logits_;
  sequence_.share(other.sequence_);
}

void SessionState::save(const std::filesystem::path& file, const std::stop_token& cancel) const {
  shared().check_files();
  SavedFile out(file);
  write_session(shared(), sequence_, logits_, out, cancel);
  out.commit();
}

void SessionState::load(const std::filesystem::path& file, const std::stop_token& cancel) {
  FileReader in(file);
  logits_ = read_session(shared(), sequence_, in, cancel);
}

void SessionState::observe(const TraceOptions& options, TraceSink sink) {
  DSV32_CHECK(!options.mtp_logits || shared().has_mtp(), unsupported,
              "MTP logits need LoadOptions::mtp and a model with an MTP layer");
  trace_ = options;
  sink_ = std::move(sink);
}

Session::Session(Model model) : impl_(std::make_unique<Impl>(std::move(model))) {
  impl_->shared().check_files();
}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session::Impl& Session::state() const {
  Impl& impl = held(impl_);
  impl.shared().check_process();
  return impl;
}

std::span<const float> Session::append(std::span<const TokenId> tokens, std::stop_token cancel) & {
  const InUse use(state().in_use);
  return impl_->append(tokens, cancel);
}

std::span<const float> Session::append(TokenId token, std::stop_token cancel) & {
  return append(std::span(&token, 1), std::move(cancel));
}

std::span<const float> Session::sync(std::span<const TokenId> tokens, std::stop_token cancel) & {
  const InUse use(state().in_use);
  return impl_->sync(tokens, cancel);
}

std::span<const float> Session::logits() const& {
  const InUse use(state().in_use);
  return impl_->logits();
}

// In a forked child another thread may have held a snapshot's lock.
Reuse Session::last_reuse() const noexcept {
  return impl_ && impl_->shared().is_own_process() ? impl_->reuse.get() : Reuse{};
}

void Session::truncate(std::size_t length) {
  const InUse use(state().in_use);
  impl_->truncate(length);
}

Session Session::fork() const {
  const InUse use(state().in_use);
  auto copy = std::make_unique<Impl>(impl_->model);
  copy->copy_from(*impl_);
  return Session(std::move(copy));
}

std::span<const TokenId> Session::tokens() const& {
  const InUse use(state().in_use);
  return impl_->tokens();
}

const Model& Session::model() const& { return state().model; }

SparseStats Session::sparse_stats() const noexcept {
  return impl_ && impl_->shared().is_own_process() ? impl_->stats.get() : SparseStats{};
}

void Session::save(const std::filesystem::path& file, std::stop_token cancel) const {
  const InUse use(state().in_use);
  impl_->save(file, cancel);
}

Session Session::load(Model model, const std::filesystem::path& file, std::stop_token cancel) {
  Session session(std::move(model));
  session.impl_->load(file, cancel);
  return session;
}

void Session::observe(const TraceOptions& options, TraceSink sink) {
  const InUse use(state().in_use);
  impl_->observe(options, std::move(sink));
}

void append_together(std::span<const SessionTokens> list, std::stop_token cancel) {
  std::deque<InUse> in_use;  // of each once: a session that is listed twice is in use
  std::vector<SessionState::Part> parts;
  std::deque<std::vector<TokenId>> copies;
  for (const SessionTokens& one : list) {
    DSV32_CHECK(one.session, invalid_argument, "append_together: a session is null");
    SessionState& session = one.session->state();
    for (const SessionState::Part& other : parts) {
      DSV32_CHECK(other.session != &session, invalid_argument,
                  "append_together: a session is listed twice");
    }
    in_use.emplace_back(session.in_use);
    parts.push_back({.session = &session, .tokens = one.tokens});
  }
  // A list may be a part of any session's own tokens, which are about to move.
  for (SessionState::Part& part : parts) {
    for (const SessionState::Part& other : parts) {
      std::vector<TokenId>& copy = copies.emplace_back();
      part.tokens = apart_from(other.session->tokens(), part.tokens, copy);
    }
  }
  SessionState::append(parts, cancel);
}

}  // namespace dsv32
