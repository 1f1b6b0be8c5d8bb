#include "lib/text/bpe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "lib/base/check.h"

namespace dsv32 {
namespace {

// Up to here a scan for the lowest rank beats a heap.
constexpr std::size_t kShortSymbols = 24;

constexpr std::size_t kMaxWindow = std::size_t{1} << 28;  // its scratch is 7 GiB

bool begins_character(std::string_view text, std::size_t at) {
  return at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0u) != 0x80;
}

// At most `size` bytes, to the end of a character.
std::string_view head(std::string_view text, std::size_t size) {
  size = std::min(size, text.size());
  while (size > 0 && !begins_character(text, size)) --size;
  return text.substr(0, size);
}

}  // namespace

void TokenList::grow(std::size_t count) {
  const std::size_t need = tokens_.size() + count;
  const std::size_t most = need + (total_ - std::min(total_, done_));
  // As many as until here, and a sixteenth more. A text has at most 2^30 bytes: no overflow.
  const std::size_t guess = need * total_ / std::max(done_, std::size_t{1}) * 17 / 16;
  tokens_.reserve(std::min(most, std::max(need + need / 16, guess)));
}

std::vector<TokenId> TokenList::take() && {
  if (tokens_.capacity() / 2 > tokens_.size()) tokens_.shrink_to_fit();
  return std::move(tokens_);
}

void BytePairEncoder::encode(std::string_view piece, TokenList& out) {
  if (piece.size() > window_) return encode_windows(piece, out);
  tokens_.clear();
  if (!encode_short(piece, tokens_)) encode_long(piece, tokens_);
  out.append(tokens_, piece.size());
}

// Why a long piece may be taken apart: tokens are its encoding if each two neighbours are the
// encoding of their own bytes. For the first merge across a border between two of them would be the
// first across it in these two alone as well: of all candidates, and so of theirs, it had the
// lowest rank. Inside a window all neighbours are; where two windows meet it is looked up.
void BytePairEncoder::encode_windows(std::string_view piece, TokenList& out) {
  const TokenList::Mark begin = out.mark();
  for (std::size_t size = window_; !encode_windows_of(size, piece, out); size *= 2) {
    // What the larger windows hold may differ from where the first one began.
    DSV32_CHECK(size < kMaxWindow, limit, "{} bytes of text cannot be taken apart", piece.size());
    out.back_to(begin);
  }
}

bool BytePairEncoder::encode_windows_of(std::size_t size, std::string_view piece, TokenList& out) {
  std::string_view window = head(piece, size);
  tokens_.clear();
  encode_long(window, tokens_);
  while (window.size() < piece.size()) {
    bool joined = false;
    // A window's end misses what follows: the cut is well before it, or else still earlier.
    for (std::size_t back = size / 16; back < window.size() && !joined; back = back * 4 + 1) {
      const auto [count, at] = cut(window, tokens_, window.size() - back);
      if (count == 0) break;
      next_tokens_.clear();
      encode_long(head(piece.substr(at), size), next_tokens_);
      const std::span done = std::span(tokens_).first(count);
      joined = fit(piece, at, done, next_tokens_);
      if (!joined) continue;
      out.append(done, at);
      tokens_.swap(next_tokens_);
      piece.remove_prefix(at);
    }
    if (!joined) return false;
    window = head(piece, size);
  }
  out.append(tokens_, piece.size());
  return true;
}

std::pair<std::size_t, std::size_t> BytePairEncoder::cut(std::string_view window,
                                                         std::span<const TokenId> tokens,
                                                         std::size_t limit) const {
  std::size_t at = window.size(), count = tokens.size();
  while (count > 0 && (at > limit || !begins_character(window, at))) at -= size_of(tokens[--count]);
  return {count, at};
}

bool BytePairEncoder::fit(std::string_view text, std::size_t at, std::span<const TokenId> left,
                          std::span<const TokenId> right) {
  // As few tokens as are whole characters together.
  std::size_t begin = at, end = at, before = 0, behind = 0;
  do {
    begin -= size_of(left[left.size() - ++before]);
  } while (begin > 0 && before < left.size() && !begins_character(text, begin));
  do {
    end += size_of(right[behind++]);
  } while (behind < right.size() && !begins_character(text, end));
  joint_.clear();
  const std::string_view both = text.substr(begin, end - begin);
  if (!encode_short(both, joint_)) encode_long(both, joint_);
  return joint_.size() == before + behind &&
         std::equal(joint_.begin(), joint_.begin() + static_cast<std::ptrdiff_t>(before),
                    left.end() - static_cast<std::ptrdiff_t>(before)) &&
         std::equal(joint_.end() - static_cast<std::ptrdiff_t>(behind), joint_.end(),
                    right.begin());
}

BytePairEncoder::First BytePairEncoder::first_symbol(std::string_view rest) const {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(rest[i]); };
  const unsigned lead = byte(0);
  if ((lead & 0xF0u) == 0xE0 && rest.size() >= 3 && !vocabulary_.characters.empty()) {
    const std::size_t code = (lead & 0xFu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    const TokenId id = vocabulary_.characters[code];
    if (id >= 0) return {id, 3};
  }
  return {vocabulary_.byte_ids[lead], 1};
}

bool BytePairEncoder::encode_short(std::string_view piece, std::vector<TokenId>& out) {
  std::array<TokenId, kShortSymbols> ids;   // set as far as `size`
  std::array<Merge, kShortSymbols> merges;  // of ids[i] and ids[i + 1]
  constexpr std::int32_t kNone = std::numeric_limits<std::int32_t>::max();
  std::size_t size = 0;
  for (std::size_t at = 0; at < piece.size();) {
    if (size == kShortSymbols) return false;
    const First first = first_symbol(piece.substr(at));
    ids[size++] = first.id;
    at += first.size;
  }
  const auto look_up_at = [&](std::size_t i) {
    const Merge* merge = vocabulary_.merges.find(ids[i], ids[i + 1]);
    merges[i] = merge != nullptr ? *merge : Merge{kNone, -1};
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look_up_at(i);
  while (size > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNone) break;
    ids[best] = merges[best].result;
    for (std::size_t i = best + 1; i + 1 < size; ++i) {
      ids[i] = ids[i + 1];
      merges[i] = merges[i + 1];
    }
    --size;
    if (best > 0) look_up_at(best - 1);
    if (best + 1 < size) look_up_at(best);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(size));
  return true;
}

bool BytePairEncoder::look_up(std::int32_t left) {
  if (left < 0) return false;
  Symbol& a = symbols_[static_cast<std::size_t>(left)];
  a.merge = Merge{};
  if (a.next < 0) return false;
  const TokenId right_id = symbols_[static_cast<std::size_t>(a.next)].id;
  const Merge* merge = vocabulary_.merges.find(a.id, right_id);
  if (merge != nullptr) a.merge = *merge;
  return merge != nullptr;
}

BytePairEncoder::Candidate BytePairEncoder::candidate(std::int32_t left) const {
  const std::int32_t rank = symbols_[static_cast<std::size_t>(left)].merge.rank;
  return static_cast<Candidate>(rank) << 32 | static_cast<std::uint32_t>(left);
}

void BytePairEncoder::encode_long(std::string_view piece, std::vector<TokenId>& out) {
  symbols_.clear();
  heap_.clear();
  std::int32_t size = 0;
  for (std::size_t at = 0; at < piece.size(); ++size) {
    const First first = first_symbol(piece.substr(at));
    at += first.size;
    symbols_.push_back({first.id, size - 1, at < piece.size() ? size + 1 : -1, {}});
  }
  for (std::int32_t i = 0; i + 1 < size; ++i) {
    if (look_up(i)) heap_.push_back(candidate(i));
  }
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const Candidate best = heap_.back();
    heap_.pop_back();
    const auto left = static_cast<std::int32_t>(best & 0xFFFFFFFFu);
    Symbol& a = symbols_[static_cast<std::size_t>(left)];
    if (a.merge.rank < 0 || candidate(left) != best) continue;
    Symbol& b = symbols_[static_cast<std::size_t>(a.next)];
    a.id = a.merge.result;
    a.next = b.next;
    b.merge = Merge{};
    if (a.next >= 0) symbols_[static_cast<std::size_t>(a.next)].previous = left;
    for (const std::int32_t i : {a.previous, left}) {
      if (!look_up(i)) continue;
      heap_.push_back(candidate(i));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }
  for (std::int32_t i = 0; i >= 0; i = symbols_[static_cast<std::size_t>(i)].next) {
    out.push_back(symbols_[static_cast<std::size_t>(i)].id);
  }
}

}  // namespace dsv32
