// One step as a value, there and back: all that crosses between control and compute.
#ifndef DSV32_LIB_MODEL_BATCH_H_
#define DSV32_LIB_MODEL_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dsv32 {

// Rows of one or more sequences: each sequence's in ascending position, one sequence after the
// other.
struct Rows {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;         // page * 64 + place: where the row's keys go
  std::vector<std::int32_t> seq_of_token;  // row of the page table

  std::size_t size() const { return tokens.size(); }
  void clear() {
    for (auto* list : {&tokens, &positions, &slots, &seq_of_token}) list->clear();
  }
  void add(std::int32_t token, std::int32_t position, std::int32_t slot, std::int32_t seq) {
    tokens.push_back(token);
    positions.push_back(position);
    slots.push_back(slot);
    seq_of_token.push_back(seq);
  }
};

struct PageCopy {
  std::int32_t from = 0, to = 0;
};

// Where a row of the final hidden state lies: with a page's caches. A sequence's is that of its
// last position, in its last page, so it is copied, shared and freed with it.
struct HiddenRow {
  std::int32_t row = 0;   // of a step
  std::int32_t page = 0;  // whose place it is
};

// A hidden state that an earlier step has told: HiddenRow's kind of bytes.
struct GivenHidden {
  std::int32_t row = 0;              // of `mtp`
  const std::byte* bytes = nullptr;  // until the step has run
};

struct Batch {
  Rows main;
  std::vector<std::int32_t> pages;          // of one sequence after the other
  std::vector<std::int32_t> page_begin{0};  // [num_seqs + 1]: where each one's begin in `pages`
  std::vector<std::int32_t> logits_rows;    // of `main`, ascending: whose logits are wanted
  std::vector<PageCopy> page_copies;        // done before all else; targets are nobody else's

  // MTP, which lags by one: row i is (hidden i, token i + 1), with RoPE position and slot i.
  // Without MTP all of this is empty. There may be MTP rows and no main ones: a draft.
  Rows mtp;
  std::vector<std::int32_t> mtp_of_row;  // [main rows]: MTP row that takes its hidden state; -1
  std::vector<HiddenRow> mtp_before;     // MTP rows that take the hidden state kept in a page
  std::vector<GivenHidden> mtp_given;    // MTP rows that take one from the host
  std::vector<HiddenRow> hidden_rows;    // main rows whose hidden state is kept
  std::vector<std::int32_t> mtp_logits_rows;  // of `mtp`, ascending

  bool selection = false, experts = false;  // wanted of the main rows
  // Wanted of the rows with logits: their final hidden states; MTP's own, which take their place
  // where it goes on from a guess.
  bool hidden = false, mtp_hidden = false;

  // As a new one, in the memory of this one.
  void clear() {
    for (Rows* rows : {&main, &mtp}) rows->clear();
    for (auto* list : {&pages, &logits_rows, &mtp_of_row, &mtp_logits_rows}) list->clear();
    page_begin.resize(1);
    page_copies.clear();
    for (auto* list : {&mtp_before, &hidden_rows}) list->clear();
    mtp_given.clear();
    selection = experts = hidden = mtp_hidden = false;
  }

  int num_seqs() const { return static_cast<int>(page_begin.size()) - 1; }
  std::span<const std::int32_t> pages_of(int seq) const {
    const auto begin = page_begin[static_cast<std::size_t>(seq)];
    const auto end = page_begin[static_cast<std::size_t>(seq) + 1];
    return std::span(pages).subspan(static_cast<std::size_t>(begin),
                                    static_cast<std::size_t>(end - begin));
  }
  int add_sequence(std::span<const std::int32_t> its_pages) {
    pages.insert(pages.end(), its_pages.begin(), its_pages.end());
    page_begin.push_back(static_cast<std::int32_t>(pages.size()));
    return num_seqs() - 1;
  }
};

// What comes back of a step; what was not asked for is empty.
struct StepResult {
  std::vector<float> logits;            // [logits_rows, vocab]
  std::vector<std::int32_t> selection;  // [layers, main rows, index_topk] positions, -1 = none
  std::vector<std::int32_t> experts;    // [MoE layers, main rows, num_experts_per_tok]
  std::vector<float> mtp_logits;        // [mtp_logits_rows, vocab]
  std::vector<std::byte> hidden;        // [logits_rows], a hidden state each
  std::vector<std::byte> mtp_hidden;    // [mtp_logits_rows], likewise
  // [main rows]: layers whose indexer met NaN there. Always, but where there is no indexer.
  std::vector<std::int32_t> nan_queries;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_BATCH_H_
