#include "lib/engine/pass_part.h"

namespace dsv32 {

PassPart PassPart::add(Batch& batch, Growth& growth, std::size_t count, WantedLogits wanted) {
  PassPart part{.rows = growth.add_to(batch, count)};
  const GrownRows& rows = part.rows;
  const std::size_t end = rows.first + rows.count;
  part.logits_first = batch.logits_rows.size();
  std::size_t row = wanted == WantedLogits::every ? rows.first + rows.again : end - 1;
  if (wanted == WantedLogits::last && growth.rows_left() > 0) row = end;
  for (; row < end; ++row) batch.logits_rows.push_back(static_cast<std::int32_t>(row));
  part.logits_count = batch.logits_rows.size() - part.logits_first;
  return part;
}

void PassPart::count(const ModelConfig& c, const StepResult& result, SparseStats& stats) const {
  const auto layers = static_cast<std::uint64_t>(c.num_hidden_layers);
  const auto top = static_cast<std::uint64_t>(c.index_topk);
  const std::uint64_t first = rows.position, end = first + new_rows();
  for (std::uint64_t visible = first + 1; visible <= end; ++visible) {
    const bool sparse = top > 0 && visible > top;
    stats.keys_visible += layers * visible;
    stats.keys_scored += sparse ? layers * visible : 0;
    stats.keys_read += layers * (sparse ? top : visible);
  }
  for (std::size_t row = rows.first + rows.again; top > 0 && row < rows.first + rows.count; ++row)
    stats.nan_queries += static_cast<std::uint64_t>(result.nan_queries[row]);
}

}  // namespace dsv32
