// MTP: one more layer, whose row i is (final hidden state i, token i + 1).
#include "lib/model/forward.h"
#include "lib/model/pass.h"

namespace dsv32 {

// The final norm of all rows; then each MTP row gets the hidden state of the position before it,
// from this step or from a page, and the pages get what the next step will ask for.
void Forward::keep_hidden(const StepInputs& in, std::int64_t rows) {
  const std::int64_t hidden = config_.hidden_size;
  const Activation final_h = buffers_.final_h.slice(0, rows);
  if (in.before_rows.data)
    backend_.copy_rows(hidden_, in.before_pages, buffers_.mtp_hidden, in.before_rows);
  if (rows == 0) return;
  backend_.add_rms_norm(shaped(buffers_.x, rows, hidden), shaped(buffers_.residual, rows, hidden),
                        weights_.norm, config_.rms_norm_eps, final_h);
  backend_.copy_rows(final_h.dense, {}, buffers_.mtp_hidden, in.mtp_of_row);
  if (in.hidden_rows.data)
    backend_.copy_rows(final_h.dense, in.hidden_rows, hidden_, in.hidden_pages);
}

// What the host knows of the position before a row.
void Forward::give_hidden(const Batch& batch) {
  for (const GivenHidden& given : batch.mtp_given)
    backend_.upload(buffers_.mtp_hidden.slice(given.row, 1), given.bytes);
}

// Final hidden states of the rows with logits, neighbours together.
void Forward::fetch_hidden(const Batch& batch, StepResult& result,
                           std::vector<Download>& parts) const {
  const std::vector<std::int32_t>& rows = batch.logits_rows;
  for (std::size_t i = 0, count = 1; i < rows.size(); i += count) {
    count = 1;
    while (i + count < rows.size() && rows[i + count] == rows[i + count - 1] + 1) ++count;
    parts.push_back({result.hidden.data() + i * hidden_bytes_,
                     buffers_.final_h.dense.slice(rows[i], static_cast<std::int64_t>(count))});
  }
}

void Forward::draft(Pass& main, const StepInputs& in) {
  const MtpWeights& w = *weights_.mtp;
  const std::int64_t hidden = config_.hidden_size, n = in.mtp.tokens.cols;
  Pass pass{.batch = main.batch,
            .rows = main.batch.mtp,
            .view = in.mtp,
            .observed = nullptr,
            .cancel = main.cancel,
            .nan_queries = {},
            .n = n};
  const TensorView embedded = buffers_.embedded.slice(0, n);
  const Activation input = buffers_.mtp_input.slice(0, n);
  const auto half = [&](std::int64_t part) {
    return Activation{.dense = input.dense.columns(part * hidden, hidden), .fp8 = {}, .scale = {}};
  };
  const float eps = config_.rms_norm_eps;
  backend_.embed(pass.view, *w.embed_tokens.bound, embedded);
  backend_.add_rms_norm(embedded, {}, w.enorm, eps, half(0));
  backend_.add_rms_norm(buffers_.mtp_hidden.slice(0, n), {}, w.hnorm, eps, half(1));
  backend_.linear(*w.eh_proj.bound, input, shaped(buffers_.residual, n, hidden));
  layer(pass, w.layer, caches_.back(), buffers_.residual);
}

Forward::Head Forward::mtp_head() const {
  const MtpWeights& w = *weights_.mtp;
  return {.weight = *w.shared_head.bound, .from = buffers_.x, .gain = w.shared_head_norm};
}

}  // namespace dsv32
