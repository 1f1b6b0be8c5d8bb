#include "tests/ptxemu/lanes.h"

#include <algorithm>

#include "tests/ptxemu/verdicts.h"

namespace dsv32::ptxemu {
namespace {

struct Extent {  // of all lanes' bytes
  Address low = ~Address{0}, high = 0;
  bool aligned = true;
};

Extent extent_of(const Address (&addresses)[kLanes], Lanes mask, unsigned bytes) {
  Extent extent;
  Address all = 0;
  for (Lanes rest = mask; rest != 0; rest &= rest - 1) {
    const Address address = addresses[__builtin_ctz(rest)];
    extent.low = std::min(extent.low, address);
    extent.high = std::max(extent.high, address);
    all |= address;
  }
  extent.aligned = (bytes & (bytes - 1)) == 0 && all % bytes == 0;
  extent.high += bytes;
  return extent;
}

struct Region {
  std::byte* data = nullptr;  // of address `base`
  Address base = 0;
  Shadow* shadow = nullptr;  // null: nothing is to be noted
  Clock first = 0;
  bool must_be_written = false;
};

Region shared_region(Warp& w, Address window, const Extent& extent) {
  Block& block = *w.block;
  if (extent.low < window || extent.high - window > block.shared.size()) return {};
  return {block.shared.data(), window, &block.shared_shadow, block.clocks.first(), true};
}

Region global_region(Warp& w, const Instruction& i, const Extent& extent) {
  Grid& grid = *w.block->grid;
  Buffer*& buffer = grid.last_buffers[static_cast<std::size_t>(i.line)];
  const std::size_t bytes = extent.high - extent.low;
  if (buffer == nullptr || !buffer->holds(extent.low, bytes)) {
    Buffer* found = grid.memory->find(extent.low);
    if (found == nullptr || !found->holds(extent.low, bytes)) return {};
    buffer = found;
  }
  const bool writes = (i.detail2 & kWrites) != 0;
  if (buffer->read_only && writes) return {};
  if (w.detect && !buffer->read_only && buffer->shadow.empty()) {
    buffer->shadow.resize(buffer->bytes);
  }
  return {buffer->data.get(), buffer->base, buffer->read_only ? nullptr : &buffer->shadow,
          grid.first, false};
}

Region region_of(Warp& w, const Instruction& i, const Extent& extent) {
  const auto space = static_cast<Space>(i.detail);
  if (space == Space::shared) return shared_region(w, 0, extent);
  if (space == Space::global) return global_region(w, i, extent);
  if (space != Space::generic) return {};
  if (extent.low >> kMachineShift != 0) return global_region(w, i, extent);
  return extent.low - kSharedWindow < kWindowBytes ? shared_region(w, kSharedWindow, extent)
                                                   : Region{};
}

// Device memory knows for good which of its bytes were written.
bool mark_lanes(Warp& w, const Instruction& i, Lanes mask, const Address (&addresses)[kLanes],
                unsigned bytes) {
  Buffer& buffer = *w.block->grid->last_buffers[static_cast<std::size_t>(i.line)];
  if (buffer.unwritten == 0) return true;
  for (Lanes rest = mask; rest != 0; rest &= rest - 1) {
    const std::size_t at = addresses[__builtin_ctz(rest)] - buffer.base;
    if ((i.detail2 & kWrites) != 0) {
      buffer.mark(at, bytes, true);
    } else if (w.detect && !buffer.is_written(at, bytes)) {
      return false;
    }
  }
  return true;
}

void judge_lanes(Warp& w, const Instruction& i, Lanes mask, const Address (&addresses)[kLanes],
                 const Region& region) {
  const unsigned bytes = unsigned{i.bytes} * i.count;
  Address before = ~Address{0};
  int times = 0;  // that the lanes before went to the same place
  for (Lanes rest = mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(rest));
    Access access = access_of(w, lane, i.detail2);
    access.first = region.first;
    access.must_be_written = region.must_be_written;
    times = addresses[lane] == before ? times + 1 : 0;
    before = addresses[lane];
    const std::size_t at = addresses[lane] - region.base;
    // Of many lanes that read the same, two are noted.
    if (times > 1 && !access.write && region.shadow->written_before(at, bytes, access)) continue;
    if (region.shadow->touch_quickly(at, bytes, access)) continue;
    const Verdict verdict = region.shadow->touch(at, bytes, access);
    if (region.must_be_written) {
      report_shared(w, i, lane, at, bytes, verdict, !access.write);
    } else {
      report_global(w, i, lane, *w.block->grid->last_buffers[static_cast<std::size_t>(i.line)], at,
                    verdict);
    }
  }
}

}  // namespace

LanesAt locate_lanes(Warp& w, const Instruction& i, Lanes mask,
                     const Address (&addresses)[kLanes]) {
  const unsigned bytes = unsigned{i.bytes} * i.count;
  const Extent extent = extent_of(addresses, mask, bytes);
  if (!extent.aligned || extent.high < extent.low) return {};
  const Region region = region_of(w, i, extent);
  if (region.data == nullptr) return {};
  if (!region.must_be_written && !mark_lanes(w, i, mask, addresses, bytes)) return {};
  if (w.detect && region.shadow != nullptr) judge_lanes(w, i, mask, addresses, region);
  return {region.data, region.base};
}

}  // namespace dsv32::ptxemu
