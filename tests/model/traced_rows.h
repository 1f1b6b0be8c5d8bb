// What a session shows of its rows.
#ifndef DSV32_TESTS_MODEL_TRACED_ROWS_H_
#define DSV32_TESTS_MODEL_TRACED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dsv32/config.h"
#include "dsv32/observer.h"

#include "tests/model/sessions.h"

namespace dsv32::test {

struct Row {
  Bits logits, mtp_logits;  // the latter of the MTP row one position before; empty in front
  std::vector<std::int32_t> selection, experts;
};

// Cuts a trace into rows by position and hands them over.
template <class Take>
void for_each_row(const Trace& trace, const ModelConfig& c, Take&& take) {
  const auto vocab = static_cast<std::size_t>(c.vocab_size);
  const auto n = static_cast<std::size_t>(trace.num_tokens);
  const auto first = static_cast<std::size_t>(trace.first_position);
  const auto cut = [&](std::span<const std::int32_t> all, int columns, std::size_t row) {
    std::vector<std::int32_t> out;
    const auto width = static_cast<std::size_t>(columns);
    for (std::size_t at = row * width; at < all.size(); at += n * width)
      out.insert(out.end(), all.begin() + static_cast<std::ptrdiff_t>(at),
                 all.begin() + static_cast<std::ptrdiff_t>(at + width));
    return out;
  };
  for (std::size_t row = 0; row < n; ++row) {
    Row out;
    out.logits = copy(trace.logits.subspan(row * vocab, vocab));
    out.selection = cut(trace.selection, c.index_topk, row);
    out.experts = cut(trace.experts, c.num_experts_per_tok, row);
    const std::size_t mtp = first + row - 1 - static_cast<std::size_t>(trace.mtp_first_position);
    if (first + row > 0 && !trace.mtp_logits.empty())
      out.mtp_logits = copy(trace.mtp_logits.subspan(mtp * vocab, vocab));
    take(first + row, out);
  }
}

inline bool equal(const Row& x, const Row& y) {
  return equal(x.logits, y.logits) && equal(x.mtp_logits, y.mtp_logits) &&
         x.selection == y.selection && x.experts == y.experts;
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_TRACED_ROWS_H_
