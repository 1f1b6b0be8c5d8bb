// Session: append, sync, truncate, fork.
#include "dsv32/session.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>

#include "lib/base/check.h"
#include "lib/engine/session_impl.h"

namespace dsv32 {
namespace {

constexpr std::size_t kPage = kernels::kPageSize;
constexpr std::size_t kMaxTraceBytes = std::size_t{64} << 20;

std::size_t pages_for(std::size_t tokens) { return (tokens + kPage - 1) / kPage; }

// `list`, or a copy of it in `copy` if it is a part of `tokens`, which are about to change: what
// Session::tokens() returned may be appended again.
std::span<const TokenId> apart_from(const std::vector<TokenId>& tokens,
                                    std::span<const TokenId> list, std::vector<TokenId>& copy) {
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

Session::Impl::Impl(Model owner) : model(std::move(owner)), model_(model.impl_) {
  shared().check_process();
}

Session::Impl::~Impl() {
  // In a forked child another thread's pass may hold the lock for ever.
  if (pages_.empty() || !shared().is_own_process()) return;
  const std::lock_guard guard(shared().lock);
  shrink_pages(0);
}

// `list` behind so many tokens.
void Session::Impl::check_tokens(std::span<const TokenId> list, std::size_t before) const {
  shared().check_process();
  DSV32_CHECK(!list.empty(), invalid_argument, "no tokens");
  const int vocab = shared().config.vocab_size;
  for (const TokenId token : list) {
    DSV32_CHECK(token >= 0 && token < vocab, invalid_argument, "token {} is not in 0..{}", token,
                vocab - 1);
  }
  const auto most = static_cast<std::size_t>(shared().config.max_position_embeddings);
  DSV32_CHECK(list.size() <= most && before <= most - list.size(), context_length,
              "{} tokens behind {} are more than the {} that the model has positions for",
              list.size(), before, most);
}

// Under the lock. Pages for `new_length` tokens, and the partly filled one our own; all or nothing.
void Session::Impl::extend_pages(std::size_t new_length) {
  PagePool& pool = shared().pages;
  // MTP's row of the last cached token is written again with the next token.
  const std::size_t written =
      tokens.size() - (shared().forward->has_mtp() && !tokens.empty() ? 1 : 0);
  std::vector<std::size_t> copies;
  for (std::size_t i = written / kPage; i < pages_.size(); ++i) {
    if (pool.is_shared(pages_[i])) copies.push_back(i);
  }
  const std::size_t more = pages_for(new_length) - pages_.size();
  pages_.reserve(pages_.size() + more);
  const std::vector<std::int32_t> fresh = pool.take(more + copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    std::int32_t& page = pages_[copies[i]];
    shared().forward->copy_page(page, fresh[i]);
    pool.release(std::exchange(page, fresh[i]));
  }
  pages_.insert(pages_.end(), fresh.begin() + static_cast<std::ptrdiff_t>(copies.size()),
                fresh.end());
}

void Session::Impl::shrink_pages(std::size_t length) noexcept {
  while (pages_.size() > pages_for(length)) {
    shared().pages.release(pages_.back());
    pages_.pop_back();
  }
}

std::size_t Session::Impl::chunk_tokens() const {
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

Batch Session::Impl::make_batch(std::size_t first, std::size_t count) const {
  Batch batch;
  for (std::size_t i = first; i < first + count; ++i) {
    batch.tokens.push_back(tokens[i]);
    batch.positions.push_back(static_cast<std::int32_t>(i));
    batch.slots.push_back(pages_[i / kPage] * static_cast<std::int32_t>(kPage) +
                          static_cast<std::int32_t>(i % kPage));
  }
  batch.seq_of_token.assign(count, 0);
  batch.page_table = pages_;
  batch.max_pages = static_cast<int>(pages_.size());
  return batch;
}

// MTP needs the hidden row of the last position; after a truncation it is computed once more, into
// the same cache bytes.
void Session::Impl::refresh_mtp(const std::stop_token& cancel) {
  const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
  if (!shared().forward->has_mtp() || last < 0 || mtp_.position == last) return;
  const std::lock_guard guard(shared().lock);
  mtp_.refresh_only = true;
  const Batch batch = make_batch(static_cast<std::size_t>(last), 1);
  try {
    shared().forward->run(batch, {}, &mtp_, nullptr, cancel);
  } catch (...) {
    mtp_.refresh_only = false;
    throw;
  }
  mtp_.refresh_only = false;
}

void Session::Impl::run_chunk(std::size_t first, std::size_t count, bool last,
                              const std::stop_token& cancel) {
  Batch batch = make_batch(first, count);
  const bool all_logits = sink_ && trace_.logits;
  if (all_logits) {
    for (std::size_t i = 0; i < count; ++i)
      batch.logits_rows.push_back(static_cast<std::int32_t>(i));
  } else if (last) {
    batch.logits_rows.push_back(static_cast<std::int32_t>(count - 1));
  }
  Capture capture;
  capture.selection = sink_ && trace_.selection && shared().config.index_topk > 0;
  capture.experts = sink_ && trace_.experts;
  capture.mtp_logits = sink_ && trace_.mtp_logits;
  std::vector<float> traced;
  const auto vocab = static_cast<std::ptrdiff_t>(shared().config.vocab_size);
  {
    const std::lock_guard guard(shared().lock);
    shared().forward->run(
        batch,
        [&](std::span<const float> rows) {
          if (all_logits) traced.insert(traced.end(), rows.begin(), rows.end());
          logits_.assign(rows.end() - vocab, rows.end());
        },
        &mtp_, sink_ ? &capture : nullptr, cancel);
  }
  count_stats(first, count);
  if (sink_) emit_trace(first, count, capture, traced);
}

// Keys that one pass over these tokens saw, scored and read, by arithmetic: the kernels do nothing
// else.
void Session::Impl::count_stats(std::size_t first, std::size_t count) {
  const ModelConfig& c = shared().config;
  const auto layers = static_cast<std::uint64_t>(c.num_hidden_layers);
  const auto top = static_cast<std::uint64_t>(c.index_topk);
  for (std::uint64_t visible = first + 1; visible <= first + count; ++visible) {
    const bool sparse = top > 0 && visible > top;
    stats.keys_visible += layers * visible;
    stats.keys_scored += sparse ? layers * visible : 0;
    stats.keys_read += layers * (sparse ? top : visible);
  }
}

void Session::Impl::emit_trace(std::size_t first, std::size_t count, Capture& capture,
                               std::span<const float> logits) {
  Trace trace;
  trace.first_position = static_cast<std::int64_t>(first);
  trace.num_tokens = static_cast<int>(count);
  trace.logits = logits;
  trace.selection = capture.chosen;
  trace.experts = capture.chosen_experts;
  trace.mtp_logits = capture.draft_logits;
  trace.mtp_first_position = first > 0 ? trace.first_position - 1 : 0;
  sink_(trace);
}

std::span<const float> Session::Impl::append(std::span<const TokenId> list,
                                             const std::stop_token& cancel) {
  check_tokens(list, tokens.size());
  std::vector<TokenId> copy;
  list = apart_from(tokens, list, copy);
  const std::size_t before = tokens.size();
  refresh_mtp(cancel);
  MtpState mtp_before = mtp_;
  std::vector<float> logits_before = logits_;
  const SparseStats stats_before = stats;
  try {
    {
      const std::lock_guard guard(shared().lock);
      extend_pages(before + list.size());
    }
    tokens.insert(tokens.end(), list.begin(), list.end());
    for (std::size_t first = before; first < tokens.size();) {
      const std::size_t count = std::min(chunk_tokens(), tokens.size() - first);
      run_chunk(first, count, first + count == tokens.size(), cancel);
      first += count;
    }
  } catch (...) {  // as before: what was written lies behind the end
    tokens.resize(before);
    mtp_ = std::move(mtp_before);
    logits_ = std::move(logits_before);
    stats = stats_before;
    const std::lock_guard guard(shared().lock);
    shrink_pages(before);
    throw;
  }
  return logits_;
}

std::span<const float> Session::Impl::sync(std::span<const TokenId> list,
                                           const std::stop_token& cancel) {
  check_tokens(list, 0);
  std::vector<TokenId> copy;
  list = apart_from(tokens, list, copy);
  const auto [mine, theirs] = std::mismatch(tokens.begin(), tokens.end(), list.begin(), list.end());
  const auto common = static_cast<std::size_t>(mine - tokens.begin());
  reuse = {.matched = common, .first_difference = common};
  if (common == list.size()) {
    if (tokens.size() == common && !logits_.empty()) return logits_;
    reuse.matched = common - 1;  // the last token runs again, for its logits
  }
  truncate(reuse.matched);
  // In steps, each of them kept: what an error interrupts is a prefix of `list`.
  while (tokens.size() < list.size()) {
    const std::size_t count = std::min(chunk_tokens(), list.size() - tokens.size());
    append(list.subspan(tokens.size(), count), cancel);
  }
  return logits_;
}

void Session::Impl::truncate(std::size_t length) {
  shared().check_process();
  if (length >= tokens.size()) return;
  tokens.resize(length);
  logits_.clear();
  const std::lock_guard guard(shared().lock);
  shrink_pages(length);
}

std::unique_ptr<Session::Impl> Session::Impl::fork() {
  auto copy = std::make_unique<Impl>(model);
  copy->tokens = tokens;
  copy->logits_ = logits_;
  copy->mtp_ = mtp_;
  std::vector<std::int32_t> pages = pages_;
  const std::lock_guard guard(shared().lock);
  for (const std::int32_t page : pages) shared().pages.share(page);
  copy->pages_ = std::move(pages);
  return copy;
}

void Session::Impl::observe(const TraceOptions& options, TraceSink sink) {
  DSV32_CHECK(!options.mtp_logits || shared().forward->has_mtp(), unsupported,
              "MTP logits need LoadOptions::mtp and a model with an MTP layer");
  trace_ = options;
  sink_ = std::move(sink);
}

Session::Session(Model model) : impl_(std::make_unique<Impl>(std::move(model))) {}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::span<const float> Session::append(std::span<const TokenId> tokens, std::stop_token cancel) & {
  const InUse use(impl_->in_use);
  return impl_->append(tokens, cancel);
}

std::span<const float> Session::append(TokenId token, std::stop_token cancel) & {
  return append(std::span(&token, 1), std::move(cancel));
}

std::span<const float> Session::sync(std::span<const TokenId> tokens, std::stop_token cancel) & {
  const InUse use(impl_->in_use);
  return impl_->sync(tokens, cancel);
}

Reuse Session::last_reuse() const noexcept { return impl_->reuse; }

void Session::truncate(std::size_t length) {
  const InUse use(impl_->in_use);
  impl_->truncate(length);
}

Session Session::fork() const {
  const InUse use(impl_->in_use);
  return Session(impl_->fork());
}

std::span<const TokenId> Session::tokens() const& noexcept { return impl_->tokens; }
const Model& Session::model() const& noexcept { return impl_->model; }
SparseStats Session::sparse_stats() const noexcept { return impl_->stats; }

void Session::observe(const TraceOptions& options, TraceSink sink) {
  const InUse use(impl_->in_use);
  impl_->observe(options, std::move(sink));
}

}  // namespace dsv32
