#include "lib/engine/sequence.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

constexpr std::size_t kPage = kPageTokens;
static_assert(kPage == kernels::kPageSize);

// The position that the next step behind `size` tokens writes first: MTP's row of the last token is
// written with the next one.
std::size_t first_written(std::size_t size, const LoadedModel& model) {
  return size - (model.has_mtp() && size > 0 ? 1 : 0);
}

// Room for `count` more, so that adding them cannot fail. Grows by factors.
template <class T>
void reserve_more(std::vector<T>& list, std::size_t count) {
  const std::size_t need = list.size() + count;
  if (need > list.capacity()) list.reserve(std::max(need, 2 * list.capacity()));
}

}  // namespace

Sequence::~Sequence() {
  // In a forked child another thread may have held the pool's lock.
  if (!pages_.empty() && model_->is_own_process()) pool().release(pages_);
}

void Sequence::truncate(std::size_t length) noexcept {
  if (length >= tokens_.size()) return;
  tokens_.resize(length);
  const std::size_t left = pages_for(length);
  pool().release(std::span(pages_).subspan(left));
  pages_.resize(left);
  offered_ = std::min(offered_, length / kPage);
  // A page keeps the hidden state of its last position that was run: right at a whole page's end.
  mtp_stale_ = model_->has_mtp() && length % kPage != 0;
  hidden_.clear();
}

void Sequence::share(const Sequence& other) {
  tokens_ = other.tokens_;
  hidden_ = other.hidden_;
  pages_.reserve(other.pages_.size());
  pool().share(other.pages_);
  pages_ = other.pages_;
  mtp_stale_ = other.mtp_stale_;
}

Reuse Sequence::begin_with(PrefixCache& cache, std::string_view scope,
                           std::span<const TokenId> tokens, std::size_t most) {
  DSV32_CHECK(tokens_.empty() && pages_.empty(), internal, "{} tokens are here already", size());
  tokens_.reserve(std::min(most, tokens.size()));  // what can fail, before pages are owned
  PrefixCache::Found found = cache.take(scope, tokens, most);
  pages_ = std::move(found.pages);
  const auto matched = tokens.first(found.reuse.matched);
  tokens_.assign(matched.begin(), matched.end());
  mtp_stale_ = model_->has_mtp() && matched.size() % kPage != 0;  // as behind truncate()
  return found.reuse;
}

void Sequence::offer_to(PrefixCache& cache, std::string_view scope, bool goes_on) {
  const std::size_t whole = (goes_on ? first_written(size(), *model_) : size()) / kPage;
  if (goes_on && whole == offered_) return;
  // With MTP a page is known by the token behind it, too.
  cache.offer(scope, tokens().first(std::min(size(), whole * kPage + 1)), pages_);
  offered_ = whole;
}

std::vector<LoadedModel::PagePart> Sequence::page_parts() const {
  std::vector<LoadedModel::PagePart> parts;
  parts.reserve(pages_.size());
  // MTP's row of the last token is written with the next one.
  const std::size_t drafted = size() - std::min<std::size_t>(size(), 1);
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    const auto here = [&](std::size_t tokens) {
      return static_cast<int>(std::min(kPage, tokens - std::min(tokens, i * kPage)));
    };
    const bool last = i + 1 == pages_.size();
    parts.push_back({.page = pages_[i],
                     .tokens = {.main = here(size()), .mtp = here(drafted)},
                     .hidden = last ? std::span(hidden_) : std::span<const std::byte>()});
  }
  return parts;
}

void Sequence::restore(std::span<const TokenId> tokens, std::vector<std::int32_t> pages,
                       bool mtp_stale) {
  DSV32_CHECK(size() % kPage == 0 && size() <= tokens.size() &&
                  pages_.size() + pages.size() == pages_for(tokens.size()),
              internal, "{} and {} pages for {} and {} tokens", pages_.size(), pages.size(), size(),
              tokens.size());
  try {
    pages_.reserve(pages_.size() + pages.size());
    tokens_.reserve(tokens.size());
  } catch (...) {
    pool().release(pages);
    throw;
  }
  tokens_.assign(tokens.begin(), tokens.end());
  pages_.insert(pages_.end(), pages.begin(), pages.end());
  mtp_stale_ = mtp_stale;
}

void Sequence::check_room(std::size_t kept, std::size_t size) const {
  const std::size_t left = pages_for(kept);
  std::size_t copied = 0, given_back = 0;
  for (std::size_t i = first_written(kept, *model_) / kPage; i < pages_.size(); ++i) {
    copied += i < left && !pool().may_write(pages_[i]) ? 1 : 0;
    given_back += i >= left && !pool().is_shared(pages_[i]) ? 1 : 0;
  }
  pool().require(pages_for(size) - left + copied, given_back);
}

Growth::Growth(Sequence& sequence, std::span<const TokenId> more)
    : sequence_(sequence),
      more_(more),
      pages_(sequence.pages_),
      next_(sequence.size() - sequence.rows_again()),
      end_(sequence.size() + more.size()) {
  std::vector<std::size_t> shared;
  for (std::size_t i = first_written(sequence.size(), *sequence.model_) / kPage; i < pages_.size();
       ++i) {
    if (!sequence.pool().may_write(pages_[i])) shared.push_back(i);
  }
  const std::size_t fresh = pages_for(end_) - pages_.size() + shared.size();
  copies_.reserve(shared.size());
  given_up_.reserve(shared.size());
  pages_.reserve(pages_.size() + fresh);
  reserve_more(sequence.tokens_, more.size());
  fresh_ = sequence.pool().take(fresh);
  auto next = fresh_.begin();
  for (const std::size_t i : shared) {
    copies_.push_back({.from = pages_[i], .to = *next});
    given_up_.push_back(std::exchange(pages_[i], *next++));
  }
  pages_.insert(pages_.end(), next, fresh_.end());
}

Growth::~Growth() {
  if (accepted_ > 0) end({});
  if (ended_) return;
  sequence_.pool().release(fresh_);
  // A row behind the end may have left its hidden state in the last page.
  if (begun_ && sequence_.model_->has_mtp() && copies_.empty() && sequence_.hidden_.empty())
    sequence_.mtp_stale_ = true;
}

TokenId Growth::token(std::size_t position) const {
  const std::size_t before = sequence_.size();
  return position < before ? sequence_.tokens_[position] : more_[position - before];
}

std::int32_t Growth::page(std::size_t position) const { return pages_[position / kPage]; }

std::int32_t Growth::slot(std::size_t position) const {
  return page(position) * static_cast<std::int32_t>(kPage) +
         static_cast<std::int32_t>(position % kPage);
}

std::int32_t Growth::begin(Batch& batch) {
  if (!std::exchange(copied_, true))
    batch.page_copies.insert(batch.page_copies.end(), copies_.begin(), copies_.end());
  return static_cast<std::int32_t>(batch.add_sequence(pages_));
}

GrownRows Growth::add_to(Batch& batch, std::size_t count) {
  DSV32_CHECK(count >= 1 && count <= rows_left(), internal, "{} rows of {}", count, rows_left());
  const std::size_t first = next_, before = sequence_.size();
  const std::int32_t seq = begin(batch);
  begun_ = true;
  GrownRows rows{.first = batch.main.size(), .count = count};
  rows.again = first < before ? before - first : 0;
  rows.position = first + rows.again;
  for (std::size_t i = first; i < first + count; ++i)
    batch.main.add(token(i), static_cast<std::int32_t>(i), slot(i), seq);
  if (sequence_.model_->has_mtp()) add_mtp(batch, rows, seq, first);
  next_ += count;
  return rows;
}

// Its keys go where the right ones will: those of the first guess's row are.
void Growth::add_guess(Batch& batch, const std::byte* hidden) {
  const std::size_t position = sequence_.size() - 1 + guessed_++;
  const std::int32_t seq = begin(batch);
  const auto row = static_cast<std::int32_t>(batch.mtp.size());
  if (!hidden && !sequence_.hidden_.empty()) hidden = sequence_.hidden_.data();
  if (hidden) {
    batch.mtp_given.push_back({.row = row, .bytes = hidden});
  } else {
    batch.mtp_before.push_back({.row = row, .page = page(position)});
  }
  batch.mtp.add(token(position + 1), static_cast<std::int32_t>(position), slot(position), seq);
  batch.mtp_logits_rows.push_back(row);
}

// Row i of MTP takes the hidden state of position i and the token of i + 1.
void Growth::add_mtp(Batch& batch, GrownRows& rows, std::int32_t seq, std::size_t first) const {
  // The hidden state in front of these rows is kept; with a guess its row has run.
  const bool kept = first > 0 && rows.again == 0 && guessed_ == 0;
  rows.mtp_first = batch.mtp.size();
  rows.mtp_position = kept ? first - 1 : first;
  batch.mtp_of_row.resize(rows.first, -1);
  if (kept) {
    const auto row = static_cast<std::int32_t>(rows.mtp_first);
    if (first == sequence_.size() && !sequence_.hidden_.empty()) {
      batch.mtp_given.push_back({.row = row, .bytes = sequence_.hidden_.data()});
    } else {
      batch.mtp_before.push_back({.row = row, .page = page(first - 1)});
    }
    batch.mtp.add(token(first), static_cast<std::int32_t>(first - 1), slot(first - 1), seq);
  }
  for (std::size_t i = first; i < first + rows.count; ++i) {
    const auto row = static_cast<std::int32_t>(batch.mtp_of_row.size());
    const bool last = i + 1 == first + rows.count;
    if (last || (i + 1) % kPage == 0) batch.hidden_rows.push_back({.row = row, .page = page(i)});
    batch.mtp_of_row.push_back(last ? -1 : static_cast<std::int32_t>(batch.mtp.size()));
    if (!last) batch.mtp.add(token(i + 1), static_cast<std::int32_t>(i), slot(i), seq);
  }
  rows.mtp_count = batch.mtp.size() - rows.mtp_first;
}

void Growth::commit() noexcept {
  accept(more_.size());
  end({});
}

void Growth::accept(std::size_t count) noexcept {
  Sequence& sequence = sequence_;
  if (accepted_ == 0) {
    sequence.pages_.swap(pages_);
    sequence.pool().set_written(fresh_);
    sequence.pool().release(given_up_);
    sequence.mtp_stale_ = false;
    sequence.hidden_.clear();
  }
  const auto more = more_.subspan(accepted_, count - accepted_);
  sequence.tokens_.insert(sequence.tokens_.end(), more.begin(), more.end());
  accepted_ = count;
}

// Behind a wrong guess the last page has the hidden state of another row.
void Growth::end(std::vector<std::byte> hidden) noexcept {
  if (std::exchange(ended_, true)) return;
  Sequence& sequence = sequence_;
  const std::size_t left = pages_for(sequence.size());
  sequence.pool().release(std::span(sequence.pages_).subspan(left));
  sequence.pages_.resize(left);
  if (!sequence.model_->has_mtp() || sequence.size() == end_) return;
  sequence.hidden_ = std::move(hidden);
  sequence.mtp_stale_ = sequence.hidden_.empty() && sequence.size() % kPage != 0;
}

}  // namespace dsv32
