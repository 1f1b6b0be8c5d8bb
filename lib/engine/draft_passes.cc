#include "lib/engine/draft_passes.h"

#include <utility>

namespace dsv32 {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);  // has no row

}  // namespace

void end_guesses(Growth& growth, const Guesses& guesses,
                 std::span<const std::byte> hidden) noexcept {
  std::vector<std::byte> last;
  try {
    const std::size_t bytes = growth.hidden_bytes();
    const auto row = hidden.subspan((guesses.taken - 1) * bytes, bytes);
    if (guesses.taken < guesses.count) last.assign(row.begin(), row.end());
  } catch (...) {
    // Then that row runs once more.
  }
  growth.end(std::move(last));
}

void DraftPasses::run(LoadedModel& model, std::span<const Member> members,
                      const std::stop_token& cancel) {
  const auto vocab = static_cast<std::size_t>(model.config.vocab_size);
  const std::size_t hidden = model.hidden_bytes();
  rows_.assign(members.size(), kNone);
  for (std::size_t pass = 0; pass < kMostDrafts; ++pass) {
    batch_.clear();
    batch_.mtp_hidden = true;
    rows_.swap(last_rows_);
    rows_.assign(members.size(), kNone);
    for (std::size_t i = 0; i < members.size(); ++i) {
      const Member& m = members[i];
      if (m.guesses->count != pass + 1 || m.most <= pass) continue;
      rows_[i] = batch_.mtp.size();
      m.growth->add_guess(batch_,
                          pass == 0 ? nullptr : result_.mtp_hidden.data() + last_rows_[i] * hidden);
    }
    if (batch_.mtp.size() == 0) break;
    model.step(batch_, result_, cancel);
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (rows_[i] == kNone) continue;
      Guesses& guesses = *members[i].guesses;
      const auto ahead = std::span(guesses.tokens).subspan(1, guesses.count - 1);
      const auto logits =
          std::span<const float>(result_.mtp_logits).subspan(rows_[i] * vocab, vocab);
      if (const auto guess = members[i].answer->guess(ahead, logits))
        guesses.tokens[guesses.count++] = *guess;
    }
  }
  for (const Member& m : members) m.growth->cut(m.guesses->count);
}

}  // namespace dsv32
