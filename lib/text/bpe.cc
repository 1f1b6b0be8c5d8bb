#include "lib/text/bpe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

namespace dsv32 {
namespace {

// Up to here a scan for the lowest rank beats a heap.
constexpr std::size_t kShortSymbols = 24;

}  // namespace

void BytePairEncoder::encode(std::string_view piece, std::vector<TokenId>& out) {
  if (!encode_short(piece, out)) encode_long(piece, out);
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
