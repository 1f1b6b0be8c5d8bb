#include "tests/backend/forward_world.h"

#include <cstring>
#include <utility>

#include "lib/weights/weights.h"

namespace dsv32::test {
namespace {

ForwardOptions forward_options(Backend& backend, const WorldOptions& o) {
  return {.buffers = {.max_batch_tokens = o.rows,
                      .max_sequences = o.sequences,
                      .max_context = o.context,
                      .attention_rows = backend.shapes().attention_rows,
                      .mtp = o.mtp},
          .num_pages = o.pages};
}

}  // namespace

World::World(Backend& backend, const WorldOptions& options)
    : files(golden_model(options.model), FileAccess::mmap, {}),
      forward(
          files.config, forward_options(backend, options), backend,
          read_weights(files.config, files.shards, {.mtp = options.mtp}, [](const std::string&) {}),
          [this](std::size_t bytes) { told += bytes; }) {}

Text random_text(Data& data, int length, Int32s pages) {
  Text text{.tokens = {}, .pages = std::move(pages)};
  for (int i = 0; i < length; ++i) text.tokens.push_back(data.integer(0, 89));
  return text;
}

void add_rows(Batch& batch, const Text& text, int first, int count, Wanted wanted, bool mtp) {
  const std::int32_t seq = batch.add_sequence(text.pages);
  const auto token = [&](int i) { return text.tokens[static_cast<std::size_t>(i)]; };
  const int end = first + count;
  if (mtp && first > 0) {
    batch.mtp_before.push_back(
        {.row = static_cast<std::int32_t>(batch.mtp.size()), .page = text.page(first - 1)});
    batch.mtp.add(token(first), first - 1, text.slot(first - 1), seq);
  }
  for (int i = first; i < end; ++i) {
    const auto row = static_cast<std::int32_t>(batch.main.size());
    batch.main.add(token(i), i, text.slot(i), seq);
    if (wanted == Wanted::all || (wanted == Wanted::last && i + 1 == end))
      batch.logits_rows.push_back(row);
    if (!mtp) continue;
    const bool last = i + 1 == end;
    if (last || (i + 1) % 64 == 0) batch.hidden_rows.push_back({.row = row, .page = text.page(i)});
    batch.mtp_of_row.push_back(last ? -1 : static_cast<std::int32_t>(batch.mtp.size()));
    if (!last) batch.mtp.add(token(i + 1), i, text.slot(i), seq);
  }
}

void add_draft(Batch& batch, const Text& text, int last, std::int32_t token) {
  const std::int32_t seq = batch.add_sequence(text.pages);
  const auto row = static_cast<std::int32_t>(batch.mtp.size());
  batch.mtp_before.push_back({.row = row, .page = text.page(last)});
  batch.mtp.add(token, last, text.slot(last), seq);
  batch.mtp_logits_rows.push_back(row);
}

bool same_bits(std::span<const float> x, std::span<const float> y) {
  return x.size() == y.size() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size_bytes()) == 0);
}

}  // namespace dsv32::test
