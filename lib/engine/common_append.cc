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

CommonAppend::Member::Member(const SessionState::Part& part)
    : session(*part.session),
      growth(part.session->sequence_, part.tokens),
      stats(part.session->stats.get()) {}

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
    m.rows = {};
    m.logits_count = 0;
    if (shares[i] == 0) continue;
    m.rows = m.growth.add_to(batch, shares[i]);
    add_wanted(batch, m);
  }
}

// The last row's logits, or all of them, and what else the session's observer asked for.
void CommonAppend::add_wanted(Batch& batch, Member& m) const {
  const SessionState& session = m.session;
  const TraceOptions wanted = session.observed() ? session.trace_ : TraceOptions{};
  const std::size_t end = m.rows.first + m.rows.count;
  m.logits_first = batch.logits_rows.size();
  std::size_t row = wanted.logits ? m.rows.first + m.rows.again : end - 1;
  if (!wanted.logits && m.growth.rows_left() > 0) row = end;
  for (; row < end; ++row) batch.logits_rows.push_back(static_cast<std::int32_t>(row));
  m.logits_count = batch.logits_rows.size() - m.logits_first;
  batch.selection = batch.selection || (wanted.selection && model_.config.index_topk > 0);
  batch.experts = batch.experts || wanted.experts;
  m.mtp_logits_first = batch.mtp_logits_rows.size();
  for (std::size_t i = 0; wanted.mtp_logits && i < m.rows.mtp_count; ++i)
    batch.mtp_logits_rows.push_back(static_cast<std::int32_t>(m.rows.mtp_first + i));
}

void CommonAppend::take(const Batch& batch, StepResult& result) {
  const auto vocab = static_cast<std::size_t>(model_.config.vocab_size);
  int sequences = 0;
  for (const Member& m : members_) sequences += m.rows.count > 0 ? 1 : 0;
  for (Member& m : members_) {
    if (m.rows.count == 0) continue;
    count(result, m);
    if (m.session.observed()) show(batch, result, m, sequences);
  }
  for (Member& m : members_) {
    if (m.logits_count == 0 || m.growth.rows_left() > 0) continue;
    if (members_.size() == 1 && m.logits_count == 1) {
      m.logits.swap(result.logits);
      continue;
    }
    const auto last = result.logits.begin() +
                      static_cast<std::ptrdiff_t>((m.logits_first + m.logits_count - 1) * vocab);
    m.logits.assign(last, last + static_cast<std::ptrdiff_t>(vocab));
  }
}

// Keys that one pass over these tokens saw, scored and read, by arithmetic: the kernels do nothing
// else. What met NaN the pass has counted.
void CommonAppend::count(const StepResult& result, Member& m) const {
  const ModelConfig& c = model_.config;
  const auto layers = static_cast<std::uint64_t>(c.num_hidden_layers);
  const auto top = static_cast<std::uint64_t>(c.index_topk);
  const std::uint64_t first = m.rows.position, end = first + m.rows.count - m.rows.again;
  for (std::uint64_t visible = first + 1; visible <= end; ++visible) {
    const bool sparse = top > 0 && visible > top;
    m.stats.keys_visible += layers * visible;
    m.stats.keys_scored += sparse ? layers * visible : 0;
    m.stats.keys_read += layers * (sparse ? top : visible);
  }
  for (std::size_t row = m.rows.first + m.rows.again; top > 0 && row < m.rows.first + m.rows.count;
       ++row) {
    m.stats.nan_queries += static_cast<std::uint64_t>(result.nan_queries[row]);
  }
}

void CommonAppend::show(const Batch& batch, const StepResult& result, Member& m,
                        int sequences) const {
  const ModelConfig& c = model_.config;
  const TraceOptions& wanted = m.session.trace_;
  const GrownRows& rows = m.rows;
  const std::size_t count = rows.count - rows.again;
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
  if (wanted.logits)
    trace.logits = std::span(result.logits).subspan(m.logits_first * vocab, count * vocab);
  trace.selection = selection;
  trace.experts = experts;
  if (wanted.mtp_logits)
    trace.mtp_logits =
        std::span(result.mtp_logits).subspan(m.mtp_logits_first * vocab, rows.mtp_count * vocab);
  trace.mtp_first_position = static_cast<std::int64_t>(rows.mtp_position);
  m.session.sink_(trace);
}

}  // namespace dsv32
