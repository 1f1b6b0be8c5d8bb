// A list of tokens with the pages that hold their keys, and how it grows.
#ifndef DSV32_LIB_ENGINE_SEQUENCE_H_
#define DSV32_LIB_ENGINE_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/types.h"

#include "lib/engine/prefix_cache.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

// Not thread-safe; other sequences of the model may do anything meanwhile.
class Sequence {
 public:
  explicit Sequence(std::shared_ptr<LoadedModel> model) : model_(std::move(model)) {}
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  std::span<const TokenId> tokens() const { return tokens_; }
  std::size_t size() const { return tokens_.size(); }

  void truncate(std::size_t length) noexcept;  // to fewer tokens
  void share(const Sequence& other);           // an empty one becomes a copy: no key is copied

  // An empty one becomes the longest prefix of `tokens`, of `most` tokens at most, that `cache` has
  // in this scope.
  Reuse begin_with(PrefixCache& cache, std::string_view scope, std::span<const TokenId> tokens,
                   std::size_t most);
  // Offers its whole pages, while no Growth of it lives. Of one that goes on only what it has not
  // offered yet and, with MTP, what the next step does not write: else that would be a copy.
  void offer_to(PrefixCache& cache, std::string_view scope, bool goes_on);

  // For a file or other memory: its pages in order, with what of each is written. And back: one of
  // whole pages, or none, becomes one of `tokens`, which it begins, and owns `pages` for the rest
  // from then on; set_written() says that their bytes are there.
  std::vector<LoadedModel::PagePart> page_parts() const;
  bool mtp_stale() const { return mtp_stale_; }
  std::span<const std::int32_t> pages() const { return pages_; }
  void restore(std::span<const TokenId> tokens, std::vector<std::int32_t> pages, bool mtp_stale);
  void set_written() noexcept { pool().set_written(pages_); }

  // Throws capacity if there are no pages for `size` tokens whose first `kept` stay as they are
  // here.
  void check_room(std::size_t kept, std::size_t size) const;

  // Rows that the next step must run once more before new ones: with MTP the last token's, if its
  // final hidden state is no longer kept.
  std::size_t rows_again() const { return mtp_stale_ && !tokens_.empty() ? 1 : 0; }

 private:
  friend class Growth;
  PagePool& pool() const { return model_->pages(); }

  std::shared_ptr<LoadedModel> model_;
  std::vector<TokenId> tokens_;
  std::vector<std::int32_t> pages_;
  std::size_t offered_ = 0;  // pages, while it goes on
  bool mtp_stale_ = false;
  std::vector<std::byte> hidden_;  // of the last token, if its page has another one's; MTP only
};

// Where a growth's rows stand in a batch.
struct GrownRows {
  std::size_t first = 0, count = 0;  // of the batch's main rows
  std::size_t again = 0;             // of these, how many in front are no new tokens
  std::size_t position = 0;          // of the first new one
  std::size_t mtp_first = 0, mtp_count = 0;
  std::size_t mtp_position = 0;
};

// Tokens on their way into a sequence, over one or more steps: theirs when all have run, or the
// sequence is as it was.
class Growth {
 public:
  // `more` must live as long, apart from the sequence's own tokens. Takes its pages, or throws
  // capacity.
  Growth(Sequence& sequence, std::span<const TokenId> more);
  ~Growth();
  Growth(const Growth&) = delete;
  Growth& operator=(const Growth&) = delete;

  std::size_t rows_left() const { return end_ - next_; }
  // Adds the next `count` rows as one sequence of `batch`; the step must run before the next ones.
  GrownRows add_to(Batch& batch, std::size_t count);
  void commit() noexcept;  // when no row is left

  // Where the last of `more` are guesses, to be made while it lives. The next one is what MTP makes
  // of the token in front of it, and of `hidden`, MTP's own state behind the guess before; adds
  // that row, whose logits are wanted, to a batch without main rows.
  void add_guess(Batch& batch, const std::byte* hidden);
  void cut(std::size_t count) { end_ = sequence_.size() + count; }  // so many of `more` are there
  // When all rows have run: so many of `more` are right, and the sequence's. Grows until end(),
  // which takes the last one's hidden state; without it that row runs again.
  void accept(std::size_t count) noexcept;
  void end(std::vector<std::byte> hidden) noexcept;
  std::size_t hidden_bytes() const { return sequence_.model_->hidden_bytes(); }

 private:
  std::int32_t begin(Batch& batch);
  TokenId token(std::size_t position) const;
  std::int32_t slot(std::size_t position) const;
  std::int32_t page(std::size_t position) const;
  void add_mtp(Batch& batch, GrownRows& rows, std::int32_t seq, std::size_t first) const;

  Sequence& sequence_;
  std::span<const TokenId> more_;
  std::vector<std::int32_t> pages_;     // as the sequence will have them
  std::vector<std::int32_t> fresh_;     // of these, the ones it has not now
  std::vector<std::int32_t> given_up_;  // pages that copies replace
  std::vector<PageCopy> copies_;
  std::size_t next_, end_;  // positions
  std::size_t guessed_ = 0, accepted_ = 0;
  bool copied_ = false, begun_ = false, ended_ = false;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SEQUENCE_H_
