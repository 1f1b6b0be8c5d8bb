#include "tests/ptxemu/meter.h"

#include <algorithm>
#include <set>

namespace dsv32::ptxemu {
namespace {

constexpr std::uint64_t kBanks = 32, kBank = 4;  // bytes

// So many lanes go together.
std::size_t lanes_at_once(std::span<const LaneBytes> lanes) {
  unsigned bytes = 0;
  for (const LaneBytes& lane : lanes) bytes = std::max(bytes, lane.bytes);
  return bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
}

unsigned passes_of(std::span<const LaneBytes> lanes) {
  std::set<std::uint64_t> words;
  for (const LaneBytes& lane : lanes) {
    for (std::uint64_t at = lane.address / kBank; at * kBank < lane.address + lane.bytes; ++at) {
      words.insert(at);
    }
  }
  unsigned in_bank[kBanks] = {}, most = 0;
  for (const std::uint64_t word : words) most = std::max(most, ++in_bank[word % kBanks]);
  return most;
}

template <class Count>
unsigned sum_of_parts(std::span<const LaneBytes> lanes, Count count) {
  const std::size_t each = lanes_at_once(lanes);
  unsigned sum = 0;
  for (std::size_t i = 0; i < lanes.size(); i += each) {
    sum += count(lanes.subspan(i, std::min(each, lanes.size() - i)));
  }
  return sum;
}

}  // namespace

unsigned bank_passes(std::span<const LaneBytes> lanes) { return sum_of_parts(lanes, passes_of); }

unsigned least_passes(std::span<const LaneBytes> lanes) {
  return sum_of_parts(lanes, [](std::span<const LaneBytes>) { return 1u; });
}

void Meter::use(std::uint64_t sector, bool writes) {
  ++l2_accesses_;
  sectors_.insert(sector);
  if (writes) written_.insert(sector);
  const auto found = cached_.find(sector);
  if (found != cached_.end()) {
    recent_.splice(recent_.begin(), recent_, found->second);
    return;
  }
  if (!writes) ++misses_;
  recent_.push_front(sector);
  cached_[sector] = recent_.begin();
  if (recent_.size() <= l2_sectors_) return;
  cached_.erase(recent_.back());
  recent_.pop_back();
}

void Meter::global(std::span<const LaneBytes> lanes, bool writes) {
  std::set<std::uint64_t> sectors;
  for (const LaneBytes& lane : lanes) {
    for (std::uint64_t at = lane.address / 4; at * 4 < lane.address + lane.bytes; ++at) {
      words_.insert(at);
      sectors.insert(at * 4 / kSector);
    }
  }
  for (const std::uint64_t sector : sectors) use(sector, writes);
}

void Meter::shared(std::span<const LaneBytes> lanes, int line) {
  if (lanes.empty()) return;
  const unsigned passes = bank_passes(lanes), least = least_passes(lanes);
  shared_passes_ += passes;
  if (passes > least) conflicts_[line] += passes - least;
}

std::uint64_t Meter::shared_conflicts() const {
  std::uint64_t sum = 0;
  for (const auto& [line, extra] : conflicts_) sum += extra;
  return sum;
}

}  // namespace dsv32::ptxemu
