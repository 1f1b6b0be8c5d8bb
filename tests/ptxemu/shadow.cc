#include "tests/ptxemu/shadow.h"

#include <algorithm>
#include <new>

namespace dsv32::ptxemu {
namespace {

constexpr unsigned kWord = 4;
constexpr unsigned kWholeWord = 15;

template <class T>
T* zeroes(std::size_t count) {
  void* p = std::calloc(std::max<std::size_t>(count, 1), sizeof(T));
  if (p == nullptr) throw std::bad_alloc();
  return static_cast<T*>(p);
}

void clash(Verdict& verdict, Clash what, Who other) {
  if (verdict.clash != Clash::none) return;
  verdict.clash = what;
  verdict.other = other & ~kStrong;
}

// Does this access come after the write before it?
void check_write(const Touch& before, const Access& access, Verdict& verdict) {
  if (before.clock < access.first) {
    verdict.unwritten = true;
  } else if (!access.after(before)) {
    clash(verdict, access.write ? Clash::write_write : Clash::read_after_write, before.who);
  }
}

void check_writes(const Cell& cell, const Touch* bytes, unsigned mask, const Access& access,
                  Verdict& verdict) {
  if (!cell.split) return check_write(cell.write, access, verdict);
  for (unsigned i = 0; i < kWord; ++i) {
    if (mask >> i & 1) check_write(bytes[i], access, verdict);
  }
}

void check_reads(const Cell& cell, unsigned mask, const Access& access, Verdict& verdict) {
  for (int i = 0; i < 2; ++i) {
    if ((cell.read_bytes[i] & mask) != 0 && !access.after(cell.read[i])) {
      clash(verdict, Clash::write_after_read, cell.read[i].who);
    }
  }
}

void note_read(Cell& cell, unsigned mask, const Access& access) {
  const auto put = [&](int i) {
    const bool again = cell.read[i].who == access.who && cell.read[i].clock == access.clock;
    cell.read[i] = {access.clock, access.who};
    cell.read_bytes[i] = static_cast<std::uint8_t>(again ? cell.read_bytes[i] | mask : mask);
  };
  // Of a reader that this one comes after, nothing more is needed where it read the same bytes.
  const auto replaces = [&](int i) {
    return cell.read[i].clock < access.first || cell.read[i].who == access.who ||
           ((cell.read_bytes[i] & ~mask) == 0 && access.after(cell.read[i]));
  };
  // Both readers read at this thread's own clock, in its CTA or in others: neither comes before it.
  const auto at_once = [&](int i) {
    return cell.read[i].clock >= access.clock && cell.read_bytes[i] == mask &&
           ((cell.read[i].who ^ access.who) & ~kStrong) != 0;
  };
  const bool apart = ((cell.read[0].who ^ cell.read[1].who) & ~kStrong) >= kLanes;
  if (apart && at_once(0) && at_once(1)) return;
  if (replaces(0)) return put(0);
  if (replaces(1)) return put(1);
  const auto warp = [](Who who) { return (who & ~kStrong) / kLanes; };
  if (warp(cell.read[0].who) == warp(cell.read[1].who) &&
      warp(access.who) != warp(cell.read[0].who)) {
    put(1);
  }
}

}  // namespace

void Shadow::resize(std::size_t bytes) {
  words_ = (bytes + kWord - 1) / kWord;
  cells_.reset(zeroes<Cell>(words_));
  bytes_.reset();
}

Touch* Shadow::split_bytes(std::size_t word) {
  if (!bytes_) bytes_.reset(zeroes<Touch>(words_ * kWord));
  Touch* bytes = &bytes_[word * kWord];
  if (!cells_[word].split) {
    std::fill_n(bytes, kWord, cells_[word].write);
    cells_[word].split = true;
  }
  return bytes;
}

Verdict Shadow::touch(std::size_t at, std::size_t bytes, const Access& access) {
  Verdict verdict;
  const std::size_t end = at + bytes;
  while (at < end) {
    const std::size_t word = at / kWord;
    const std::size_t next = std::min(end, (word + 1) * kWord);
    const unsigned mask = ((1u << (next - at)) - 1) << (at % kWord);
    at = next;
    Cell& cell = cells_[word];
    const Touch* apart = cell.split ? &bytes_[word * kWord] : nullptr;
    check_writes(cell, apart, mask, access, verdict);
    if (!access.write) {
      note_read(cell, mask, access);
      continue;
    }
    check_reads(cell, mask, access, verdict);
    if (mask == kWholeWord) {
      cell.write = {access.clock, access.who};
      cell.split = false;
      cell.read_bytes[0] = cell.read_bytes[1] = 0;
      cell.read[0].clock = cell.read[1].clock = 0;
      continue;
    }
    Touch* own = split_bytes(word);
    for (unsigned i = 0; i < kWord; ++i) {
      if (mask >> i & 1) own[i] = {access.clock, access.who};
    }
    for (int i = 0; i < 2; ++i) {
      cell.read_bytes[i] = static_cast<std::uint8_t>(cell.read_bytes[i] & ~mask);
    }
  }
  return verdict;
}

}  // namespace dsv32::ptxemu
