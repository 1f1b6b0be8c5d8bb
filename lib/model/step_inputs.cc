#include "lib/model/step_inputs.h"

#include <algorithm>
#include <cstring>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

std::size_t rounded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

std::size_t list_bytes(std::int64_t count) {
  return rounded(static_cast<std::size_t>(count) * sizeof(std::int32_t));
}

int size_of(std::size_t n) { return static_cast<int>(n); }

// A step's rows end in at most so many pages, each of which keeps a hidden row.
int hidden_capacity(int rows, int sequences) { return rows / kernels::kPageSize + 2 * sequences; }

int padded(int count, int most, const StepShapes& shapes) {
  if (count == 0) return 0;
  const auto bucket = std::lower_bound(shapes.row_buckets.begin(), shapes.row_buckets.end(), count);
  return bucket == shapes.row_buckets.end() ? count : std::max(count, std::min(*bucket, most));
}

// Lays lists out one behind the other, in the staging copy and in the backend's block alike.
class Layout {
 public:
  Layout(std::vector<std::byte>& staging, TensorView memory) : staging_(staging), memory_(memory) {}

  // `values`, then `fill` up to `count`.
  TensorView list(std::span<const std::int32_t> values, int count, std::int32_t fill) {
    DSV32_CHECK(values.size() <= static_cast<std::size_t>(count), internal,
                "a step has {} values where {} were counted", values.size(), count);
    TensorView view = matrix(DType::i32, 1, count);
    if (count == 0) return {};
    auto* out = reinterpret_cast<std::int32_t*>(staged(view));
    std::fill(std::copy(values.begin(), values.end(), out), out + count, fill);
    return view;
  }
  TensorView matrix(DType dtype, std::int64_t rows, std::int64_t cols) {
    const TensorView view{
        .data = memory_.data + used_, .dtype = dtype, .rows = rows, .cols = cols, .stride = cols};
    used_ += list_bytes(rows * cols);
    DSV32_CHECK(used_ <= staging_.size(), internal, "a step's lists need {} bytes of {}", used_,
                staging_.size());
    return view;
  }
  std::byte* staged(TensorView view) { return staging_.data() + (view.data - memory_.data); }
  std::size_t used() const { return used_; }

 private:
  std::vector<std::byte>& staging_;
  TensorView memory_;
  std::size_t used_ = 0;
};

BatchView put_rows(Layout& layout, const Rows& rows, int count, const Rope& rope) {
  BatchView view{.tokens = layout.list(rows.tokens, count, 0),
                 .positions = layout.list(rows.positions, count, -1),
                 .slots = layout.list(rows.slots, count, -1),
                 .seq_of_token = layout.list(rows.seq_of_token, count, 0),
                 .page_table = {},
                 .rope = layout.matrix(DType::f32, count, rope.dim())};
  auto* angles = reinterpret_cast<float*>(layout.staged(view.rope));
  rope.fill(rows.positions, angles);
  std::fill(angles + rows.size() * static_cast<std::size_t>(rope.dim()),
            angles + static_cast<std::size_t>(count) * static_cast<std::size_t>(rope.dim()), 0.0f);
  return view;
}

TensorView put_page_table(Layout& layout, const Batch& batch, int sequences, int stride) {
  const TensorView view = layout.matrix(DType::i32, sequences, stride);
  auto* out = reinterpret_cast<std::int32_t*>(layout.staged(view));
  for (int s = 0; s < sequences; ++s, out += stride) {
    const auto pages = s < batch.num_seqs() ? batch.pages_of(s) : std::span<const std::int32_t>();
    std::fill(std::copy(pages.begin(), pages.end(), out), out + stride, -1);
  }
  return view;
}

TensorView put_hidden(Layout& layout, const std::vector<HiddenRow>& rows, int count,
                      std::int32_t HiddenRow::*member) {
  DSV32_CHECK(rows.size() <= static_cast<std::size_t>(count), internal,
              "a step keeps {} hidden rows where {} were counted", rows.size(), count);
  const TensorView view = layout.list({}, count, -1);
  if (count == 0) return view;
  auto* out = reinterpret_cast<std::int32_t*>(layout.staged(view));
  for (const HiddenRow& row : rows) *out++ = row.*member;
  return view;
}

void check_fits(const Batch& batch, const StepCapacity& most) {
  const auto whole = [](const Rows& rows) {
    const std::size_t n = rows.size();
    return rows.positions.size() == n && rows.slots.size() == n && rows.seq_of_token.size() == n;
  };
  const auto rows = static_cast<std::size_t>(most.rows);
  DSV32_CHECK(whole(batch.main) && whole(batch.mtp), internal, "a step's lists differ in length");
  DSV32_CHECK(batch.main.size() <= rows && batch.mtp.size() <= rows, internal,
              "a step has {} and {} rows, there is room for {}", batch.main.size(),
              batch.mtp.size(), most.rows);
  DSV32_CHECK(batch.num_seqs() >= 1 && batch.num_seqs() <= most.sequences, internal,
              "a step has {} sequences, there is room for {}", batch.num_seqs(), most.sequences);
  for (int s = 0; s < batch.num_seqs(); ++s) {
    DSV32_CHECK(batch.pages_of(s).size() <= static_cast<std::size_t>(most.pages), internal,
                "a sequence has {} pages, there is room for {}", batch.pages_of(s).size(),
                most.pages);
  }
  DSV32_CHECK(most.mtp || (batch.mtp.size() == 0 && batch.hidden_rows.empty()), internal,
              "MTP rows without MTP");
}

}  // namespace

StepDims::StepDims(const Batch& batch, const StepShapes& shapes, const StepCapacity& most)
    : rows(padded(size_of(batch.main.size()), most.rows, shapes)),
      sequences(padded(batch.num_seqs(), most.sequences, shapes)),
      logits(padded(size_of(batch.logits_rows.size()), most.rows, shapes)),
      mtp(padded(size_of(batch.mtp.size()), most.rows, shapes)),
      mtp_logits(padded(size_of(batch.mtp_logits_rows.size()), most.rows, shapes)),
      before(size_of(batch.mtp_before.size())),
      hidden(size_of(batch.hidden_rows.size())) {
  if (shapes.row_buckets.empty() || !most.mtp) return;
  before = sequences;
  hidden = hidden_capacity(rows, sequences);
}

std::uint64_t StepDims::key() const {
  // Exact, not a hash: two lengths under one key would replay the wrong pass. `before` and `hidden`
  // follow from the others where passes are recorded.
  static_assert(kMaxRows < 1 << 17 && kMaxSequences < 1 << 13 && kLogitsTile < 1 << 7);
  std::uint64_t key = 1;
  const auto add = [&](int length, int bits) {
    key = key << bits | static_cast<std::uint64_t>(length);
  };
  add(rows, 17);
  add(mtp, 17);
  add(sequences, 13);
  add(logits, 7);
  add(mtp_logits, 7);
  return key;
}

std::size_t InputBlock::bytes(const StepCapacity& most) {
  const std::int64_t n = most.rows, s = most.sequences;
  std::size_t rows = 4 * list_bytes(n) + list_bytes(n * most.rope);
  std::size_t all = rows + 2 * list_bytes(n) + list_bytes(s * most.pages);
  if (most.mtp) {
    all += rows + 2 * list_bytes(n) + 2 * list_bytes(s) +
           2 * list_bytes(hidden_capacity(most.rows, most.sequences));
  }
  return all;
}

InputBlock::InputBlock(const StepCapacity& most, TensorView memory)
    : most_(most), memory_(memory), staging_(bytes(most)) {}

StepInputs InputBlock::upload(const Batch& batch, const StepDims& dims, const Rope& rope,
                              Backend& backend) {
  check_fits(batch, most_);
  Layout layout(staging_, memory_);
  StepInputs in;
  in.main = put_rows(layout, batch.main, dims.rows, rope);
  in.main.page_table = put_page_table(layout, batch, dims.sequences, most_.pages);
  in.logits_rows = layout.list(batch.logits_rows, dims.logits, 0);
  in.nan_queries = layout.list({}, dims.rows, 0);
  if (most_.mtp) {
    in.mtp = put_rows(layout, batch.mtp, dims.mtp, rope);
    in.mtp.page_table = in.main.page_table;
    in.mtp_of_row = layout.list(batch.mtp_of_row, dims.rows, -1);
    in.before_pages = put_hidden(layout, batch.mtp_before, dims.before, &HiddenRow::page);
    in.before_rows = put_hidden(layout, batch.mtp_before, dims.before, &HiddenRow::row);
    in.hidden_rows = put_hidden(layout, batch.hidden_rows, dims.hidden, &HiddenRow::row);
    in.hidden_pages = put_hidden(layout, batch.hidden_rows, dims.hidden, &HiddenRow::page);
    in.mtp_logits_rows = layout.list(batch.mtp_logits_rows, dims.mtp_logits, 0);
  }
  TensorView block = memory_;
  block.cols = block.stride = static_cast<std::int64_t>(layout.used());
  backend.upload(block, staging_.data());
  return in;
}

}  // namespace dsv32
