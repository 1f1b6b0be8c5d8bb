#include "lib/engine/common_append.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

// Rows [first, first + count) of each of `layers` blocks of `rows` rows.
std::vector<std::int32_t> cut_rows(std::span<const std::int32_t> from, std::size_t layers,
                                   std::size_t rows, std::size_t first, std::size_t count) {
  std::vector<std::int32_t> out;
  if (layers == 0 || from.empty()) return out;
  const std::size_t width = from.size() / (layers * rows);
  out.reserve(layers * count * width);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto part = from.subspan((layer * rows + first) * width, count * width);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

}  // namespace

CommonAppend::Member::Member(const SessionState::Part& of)
    : session(*of.session),
      growth(of.session->sequence_, of.tokens),
      stats(of.session->stats.get()) {}

CommonAppend::CommonAppend(std::span<const SessionState::Part> parts)
    : model_(parts.front().session->shared()) {
  for (const SessionState::Part& part : parts) members_.emplace_back(part);
}

bool CommonAppend::done() const {
  return std::all_of(members_.begin(), members_.end(),
                     [](const Member& m) { return m.growth.rows_left() == 0; });
}

void CommonAppend::run(const std::stop_token& cancel) {
  StepResult result;
  // Memory that an earlier step left: a row of logits is half a megabyte.
  result.logits.swap(members_.front().session.spare_logits_);
  while (!done()) {
    Batch batch;
    plan(batch);
    model_.step(batch, result, cancel);
    take(batch, result);
  }
  for (Member& m : members_) {
    m.growth.commit();
    m.session.logits_.swap(m.logits);
    m.session.stats.set(m.stats);
    if (m.logits.capacity() > 0) m.session.spare_logits_.swap(m.logits);
  }
}

// As evenly as the pass has room: everybody's part first, then what others left over, in order.
void CommonAppend::share_rows(std::vector<std::size_t>& shares) const {
  auto room = static_cast<std::size_t>(model_.options.max_batch_tokens);
  shares.assign(members_.size(), 0);
  const auto most = [&](std::size_t i) {
    const Member& m = members_[i];
    return std::min(m.growth.rows_left(), m.session.chunk_tokens());
  };
  for (bool given = true; given && room > 0;) {
    given = false;
    std::size_t hungry = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) hungry += shares[i] < most(i) ? 1 : 0;
    if (hungry == 0) break;
    const std::size_t each = std::max<std::size_t>(1, room / hungry);
    for (std::size_t i = 0; i < shares.size() && room > 0; ++i) {
      const std::size_t more = std::min({each, most(i) - shares[i], room});
      shares[i] += more;
      room -= more;
      given = given || more > 0;
    }
  }
}

void CommonAppend::plan(Batch& batch) {
  std::vector<std::size_t> shares;
  share_rows(shares);
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& m = members_[i];
    m.part = {};
    if (shares[i] > 0) add(batch, m, shares[i]);
  }
}

// The last row's logits, or all of them, and what else the session's observer asked for.
void CommonAppend::add(Batch& batch, Member& m, std::size_t count) const {
  const SessionState& session = m.session;
  const TraceOptions wanted = session.observed() ? session.trace_ : TraceOptions{};
  m.part = PassPart::add(batch, m.growth, count,
                         wanted.logits ? WantedLogits::every : WantedLogits::last);
  batch.selection = batch.selection || (wanted.selection && model_.config.index_topk > 0);
  batch.experts = batch.experts || wanted.experts;
  m.mtp_logits_first = batch.mtp_logits_rows.size();
  for (std::size_t i = 0; wanted.mtp_logits && i < m.part.rows.mtp_count; ++i)
    batch.mtp_logits_rows.push_back(static_cast<std::int32_t>(m.part.rows.mtp_first + i));
}

void CommonAppend::take(const Batch& batch, StepResult& result) {
  const auto vocab = static_cast<std::size_t>(model_.config.vocab_size);
  int sequences = 0;
  for (const Member& m : members_) sequences += m.part.rows.count > 0 ? 1 : 0;
  for (Member& m : members_) {
    if (m.part.rows.count == 0) continue;
    m.part.count(model_.config, result, m.stats);
    if (m.session.observed()) show(batch, result, m, sequences);
  }
  for (Member& m : members_) {
    if (m.part.logits_count == 0 || m.growth.rows_left() > 0) continue;
    if (members_.size() == 1 && m.part.logits_count == 1) {
      m.logits.swap(result.logits);
      continue;
    }
    const std::span<const float> last = m.part.logits(result, vocab).last(vocab);
    m.logits.assign(last.begin(), last.end());
  }
}

void CommonAppend::show(const Batch& batch, const StepResult& result, Member& m,
                        int sequences) const {
  const ModelConfig& c = model_.config;
  const TraceOptions& wanted = m.session.trace_;
  const GrownRows& rows = m.part.rows;
  const std::size_t count = m.part.new_rows();
  if (count == 0) return;
  const auto vocab = static_cast<std::size_t>(c.vocab_size);
  const auto layers = static_cast<std::size_t>(c.num_hidden_layers);
  const std::size_t dense =
      std::min(layers, static_cast<std::size_t>(std::max(0, c.first_k_dense_replace)));
  const auto cut = [&](const std::vector<std::int32_t>& from, std::size_t of_layers) {
    return cut_rows(from, of_layers, batch.main.size(), rows.first + rows.again, count);
  };
  const std::vector<std::int32_t> selection =
      wanted.selection ? cut(result.selection, layers) : std::vector<std::int32_t>();
  const std::vector<std::int32_t> experts =
      wanted.experts ? cut(result.experts, layers - dense) : std::vector<std::int32_t>();
  Trace trace;
  trace.first_position = static_cast<std::int64_t>(rows.position);
  trace.num_tokens = static_cast<int>(count);
  trace.num_sequences = sequences;
  if (wanted.logits) trace.logits = m.part.logits(result, vocab);
  trace.selection = selection;
  trace.experts = experts;
  if (wanted.mtp_logits)
    trace.mtp_logits =
        std::span(result.mtp_logits).subspan(m.mtp_logits_first * vocab, rows.mtp_count * vocab);
  trace.mtp_first_position = static_cast<std::int64_t>(rows.mtp_position);
  m.session.sink_(trace);
}

}  // namespace dsv32
