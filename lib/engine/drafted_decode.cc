#include "lib/engine/drafted_decode.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/seconds.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

DraftedDecode::DraftedDecode(SessionState& session, GenerationState& answer, int most)
    : session_(session), answer_(answer), most_(session.observed() ? 0 : most) {
  session_.drafts_.set_most(most_);
}

// As many as may be of use, and have a place.
std::size_t DraftedDecode::guesses_now() const {
  const LoadedModel& model = session_.shared();
  const auto positions = static_cast<std::size_t>(model.config.max_position_embeddings);
  const auto rows = static_cast<std::size_t>(model.options.max_batch_tokens);
  const std::size_t next = session_.tokens().size() + 1;
  if (next > positions || session_.sequence_.rows_again() > 0) return 0;
  return std::min({static_cast<std::size_t>(wanted_), answer_.room(), positions - next, rows - 1});
}

std::span<const float> DraftedDecode::append(TokenId token, const std::stop_token& cancel) {
  if (most_ == 0) return session_.append(std::span(&token, 1), cancel);
  if (growth_ && guesses_.is_next(token)) {
    DSV32_CHECK(!cancel.stop_requested(), cancelled, "the pass was cancelled");
    ++accepted_[guesses_.taken - 1];
    return take_row();
  }
  end_pass();
  wanted_ = session_.drafts_.next();
  const Clock::time_point start = Clock::now();
  const std::size_t guesses = guesses_now();
  if (guesses > 0 && begin_pass(token, guesses, cancel)) {
    seconds_ = seconds_since(start);
    return take_row();
  }
  const std::span<const float> logits = session_.append(std::span(&token, 1), cancel);
  if (wanted_ == 0) session_.drafts_.observe(0, seconds_since(start), 1.0);
  return logits;
}

// False if there is no room for guesses.
bool DraftedDecode::begin_pass(TokenId token, std::size_t guesses, const std::stop_token& cancel) {
  LoadedModel& model = session_.shared();
  guesses_.begin(token);
  try {
    growth_.emplace(session_.sequence_, std::span(guesses_.tokens).first(1 + guesses));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::capacity) throw;
    return false;
  }
  try {
    const DraftPasses::Member member{
        .growth = &*growth_, .answer = &answer_, .guesses = &guesses_, .most = guesses};
    passes_.run(model, std::span(&member, 1), cancel);
    Batch batch;
    batch.hidden = true;
    const PassPart part = PassPart::add(batch, *growth_, growth_->rows_left(), WantedLogits::every);
    model.step(batch, result_, cancel);
    SparseStats stats = session_.stats.get();
    part.count(model.config, result_, stats);
    session_.stats.set(stats);
    session_.logits_.reserve(static_cast<std::size_t>(model.config.vocab_size));
  } catch (...) {
    growth_.reset();
    throw;
  }
  for (std::size_t i = 0; i + 1 < guesses_.count; ++i) ++drafted_[i];
  return true;
}

std::span<const float> DraftedDecode::take_row() {
  const auto vocab = static_cast<std::size_t>(session_.shared().config.vocab_size);
  const auto row = std::span<const float>(result_.logits).subspan(guesses_.taken * vocab, vocab);
  growth_->accept(++guesses_.taken);
  session_.logits_.assign(row.begin(), row.end());
  return session_.logits_;
}

void DraftedDecode::end_pass() noexcept {
  if (!growth_) return;
  end_guesses(*growth_, guesses_, result_.hidden);
  growth_.reset();
  session_.drafts_.observe(wanted_, seconds_, static_cast<double>(guesses_.taken));
}

}  // namespace dsv32
