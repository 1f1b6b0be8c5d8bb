#include "tests/ptxemu/access.h"

#include <cinttypes>

#include "tests/ptxemu/meter.h"
#include "tests/ptxemu/verdicts.h"

namespace dsv32::ptxemu {

namespace {

const char* clash_text(Clash clash) {
  switch (clash) {
    case Clash::write_write:
      return "written after a write";
    case Clash::write_after_read:
      return "written after a read";
    default:
      return "read after a write";
  }
}

}  // namespace

void report_global(Warp& w, const Instruction& i, unsigned lane, const Buffer& buffer,
                   std::size_t at, const Verdict& verdict) {
  if (verdict.clash == Clash::none) return;
  const Kind kind = verdict.clash == Clash::write_write ? Kind::conflict_global : Kind::race_global;
  report(w, i, lane, kind, "%s+%zu %s of block %u thread %u that nothing orders",
         buffer.name.c_str(), at, clash_text(verdict.clash), verdict.other / kMaxThreads,
         verdict.other % kMaxThreads);
}

void report_shared(Warp& w, const Instruction& i, unsigned lane, Address offset, unsigned bytes,
                   const Verdict& verdict, bool reads) {
  if (verdict.unwritten && reads) {
    report(w, i, lane, Kind::uninitialised_shared, "%u bytes at %" PRIu64 " that nobody wrote",
           bytes, offset);
  }
  if (verdict.clash != Clash::none) {
    report(w, i, lane, Kind::race_shared, "byte %" PRIu64 " %s of thread %u that nothing orders",
           offset, clash_text(verdict.clash), verdict.other % kMaxThreads);
  }
}

Access access_of(Warp& w, unsigned lane, unsigned how) {
  const WarpClocks& clocks = w.block->clocks.warp(w.index);
  Access access;
  access.warp = w.index;
  access.who = w.block->who(w.thread(lane)) | ((how & kStrongAccess) != 0 ? kStrong : 0);
  access.clock = clocks.own[lane];
  access.write = (how & kWrites) != 0;
  access.known = &clocks.known[lane];
  return access;
}

namespace {

bool aligned(Warp& w, const Instruction& i, unsigned lane, Address address, unsigned bytes) {
  if ((bytes & (bytes - 1)) != 0 || address % bytes == 0) return true;
  report(w, i, lane, Kind::misaligned, "%u bytes at %#" PRIx64, bytes, address);
  return false;
}

void judge_global(Warp& w, const Instruction& i, unsigned lane, Buffer& buffer, std::size_t at,
                  unsigned bytes, unsigned how) {
  if ((how & kReads) != 0 && !buffer.is_written(at, bytes)) {
    report(w, i, lane, Kind::uninitialised_global, "%u bytes at %s+%zu that nobody wrote", bytes,
           buffer.name.c_str(), at);
  }
  if (buffer.read_only) return;
  if (buffer.shadow.empty()) buffer.shadow.resize(buffer.bytes);
  Access access = access_of(w, lane, how);
  access.first = w.block->grid->first;
  const Verdict verdict = buffer.shadow.touch(at, bytes, access);
  report_global(w, i, lane, buffer, at, verdict);
}

std::byte* locate_global(Warp& w, const Instruction& i, unsigned lane, Address address,
                         unsigned bytes, unsigned how) {
  Grid& grid = *w.block->grid;
  Buffer*& buffer = grid.last_buffers[static_cast<std::size_t>(i.line)];
  if (buffer == nullptr || !buffer->holds(address, bytes)) {
    Buffer* found = grid.memory->find(address);
    if (found == nullptr || !found->holds(address, bytes)) {
      report(w, i, lane, Kind::bounds_global, "%s of %u bytes at %#" PRIx64 ": %s",
             (how & kWrites) != 0 ? "write" : "read", bytes, address,
             grid.memory->describe(address).c_str());
      return nullptr;
    }
    buffer = found;
  }
  if (!aligned(w, i, lane, address, bytes)) return nullptr;
  if ((how & kWrites) != 0 && buffer->read_only) {
    report(w, i, lane, Kind::write_to_const, "%s", buffer->name.c_str());
    return nullptr;
  }
  const std::size_t at = address - buffer->base;
  if (w.detect) judge_global(w, i, lane, *buffer, at, bytes, how);
  if ((how & kWrites) != 0) buffer->mark(at, bytes, true);
  return buffer->data.get() + at;
}

std::byte* locate_local(Warp& w, const Instruction& i, unsigned lane, Address offset,
                        unsigned bytes) {
  std::vector<std::byte>& memory = w.local[lane];
  if (offset > memory.size() || bytes > memory.size() - offset) {
    report(w, i, lane, Kind::bounds_local, "%u bytes at %" PRIu64 " of %zu of local memory", bytes,
           offset, memory.size());
    return nullptr;
  }
  if (!aligned(w, i, lane, offset, bytes)) return nullptr;
  return memory.data() + offset;
}

std::byte* locate_in(Warp& w, const Instruction& i, unsigned lane, std::vector<std::byte>& memory,
                     Address offset, unsigned bytes) {
  if (offset <= memory.size() && bytes <= memory.size() - offset) return memory.data() + offset;
  report(w, i, lane, Kind::bounds_local, "%u bytes at %" PRIu64 " of %zu of parameters", bytes,
         offset, memory.size());
  return nullptr;
}

std::byte* locate_kernel_params(Warp& w, const Instruction& i, unsigned lane, Address offset,
                                unsigned bytes, unsigned how) {
  if ((how & kWrites) != 0) {
    report(w, i, lane, Kind::write_to_const, "the kernel's parameters");
    return nullptr;
  }
  if (!aligned(w, i, lane, offset, bytes)) return nullptr;
  return locate_in(w, i, lane, w.block->grid->parameters, offset, bytes);
}

std::byte* locate_params(Warp& w, const Instruction& i, unsigned lane, Address offset,
                         unsigned bytes) {
  Frame& frame = *w.frame;
  const std::uint32_t own = frame.function->param_bytes;
  if (offset > own || bytes > own - offset) {
    report(w, i, lane, Kind::bounds_local, "%u bytes at %" PRIu64 " of %u of parameters", bytes,
           offset, own);
    return nullptr;
  }
  return frame.params.data() + std::size_t{lane} * own + offset;
}

// `known`: what the thread knows, unless it is what it knew at another time.
std::byte* locate_shared(Warp& w, const Instruction& i, unsigned lane, Address offset,
                         unsigned bytes, unsigned how, const Known* known) {
  Block& block = *w.block;
  if (offset > block.shared.size() || bytes > block.shared.size() - offset) {
    report(w, i, lane, Kind::bounds_shared, "%s of %u bytes at %" PRIu64 " of %zu",
           (how & kWrites) != 0 ? "write" : "read", bytes, offset, block.shared.size());
    return nullptr;
  }
  if (!aligned(w, i, lane, offset, bytes)) return nullptr;
  if (!w.detect) return block.shared.data() + offset;
  Access access = access_of(w, lane, how);
  access.first = block.clocks.first();
  if (known != nullptr) access.known = known;
  const Verdict verdict = block.shared_shadow.touch(offset, bytes, access);
  report_shared(w, i, lane, offset, bytes, verdict, (how & kReads) != 0);
  return block.shared.data() + offset;
}

// Gathers what the thread itself may learn from what was left at an address.
void take_view(const std::vector<Released>& left, std::uint32_t cta, bool wide, View& into) {
  for (const Released& released : left) {
    if (released.cta == cta || (released.wide && wide)) join(into, released.view);
  }
}

}  // namespace

std::byte* locate_copied(Warp& w, const Instruction& i, unsigned lane, const Copy& copy) {
  return locate_shared(w, i, lane, copy.to, copy.bytes, kWrites, &copy.known);
}

std::byte* locate(Warp& w, const Instruction& i, unsigned lane, Space space, Address address,
                  unsigned bytes, unsigned how) {
  switch (space) {
    case Space::global:
      return locate_global(w, i, lane, address, bytes, how);
    case Space::shared:
      return locate_shared(w, i, lane, address, bytes, how, nullptr);
    case Space::local:
      return locate_local(w, i, lane, address, bytes);
    case Space::kernel_params:
      return locate_kernel_params(w, i, lane, address, bytes, how);
    case Space::params:
      return locate_params(w, i, lane, address, bytes);
    case Space::generic:
      break;
  }
  if (address - kSharedWindow < kWindowBytes) {
    return locate(w, i, lane, Space::shared, address - kSharedWindow, bytes, how);
  }
  if (address - kLocalWindow < kWindowBytes) {
    return locate_local(w, i, lane, address - kLocalWindow, bytes);
  }
  if (address - kParamWindow < kWindowBytes) {
    return locate_kernel_params(w, i, lane, address - kParamWindow, bytes, how);
  }
  return locate_global(w, i, lane, address, bytes, how);
}

void measure(Warp& w, const Instruction& i, Lanes mask, Space space,
             const Address (&addresses)[kLanes], unsigned bytes, unsigned how) {
  Meter* meter = w.block->grid->options.meter;
  if (meter == nullptr || space == Space::kernel_params || space == Space::params) return;
  LaneBytes shared[kLanes], global[kLanes];
  std::size_t in_shared = 0, in_global = 0;
  for (; mask != 0; mask &= mask - 1) {
    const Address address = addresses[__builtin_ctz(mask)];
    if (space == Space::shared) {
      shared[in_shared++] = {address, bytes};
    } else if (address - kSharedWindow < kWindowBytes) {
      shared[in_shared++] = {address - kSharedWindow, bytes};
    } else if (space == Space::global || address >= Address{1} << kMachineShift) {
      global[in_global++] = {address, bytes};
    }
  }
  meter->shared({shared, in_shared}, i.line);
  meter->global({global, in_global}, (how & kWrites) != 0);
}

void hand_on(Warp& w, unsigned lane, Space space, Address address, unsigned how) {
  if (!w.detect) return;
  Block& block = *w.block;
  if (space == Space::generic && address - kSharedWindow < kWindowBytes) {
    space = Space::shared;
    address -= kSharedWindow;
  }
  Releases& releases = space == Space::shared ? block.releases : block.grid->releases;
  WarpClocks& mine = block.clocks.warp(w.index);
  const bool wide = (how & kWide) != 0;
  if ((how & kReads) != 0 && !releases.empty()) {
    const auto left = releases.find(address);
    if (left != releases.end()) {
      View view;
      take_view(left->second, block.index, wide, view);
      if ((how & kAcquires) != 0) block.clocks.learn(w.index, lane, view);
      if (!mine.seen[lane]) mine.seen[lane] = std::make_shared<View>();
      join(*mine.seen[lane], view);
    }
  }
  if ((how & kWrites) == 0) return;
  const bool releases_now = (how & kReleases) != 0;
  const bool has = releases_now || mine.released[lane] != nullptr;
  if (!has && releases.empty()) return;
  std::vector<Released>& left = releases[address];
  if ((how & kReads) == 0) left.clear();  // a store ends the release sequence, an atomic does not
  if (releases_now) {
    left.push_back({block.index, wide, block.clocks.view(w.index, lane)});
    block.clocks.advance(w.index, lane);
  } else if (has) {
    left.push_back({block.index, mine.released_widely[lane] && wide, *mine.released[lane]});
  }
}

void fence(Warp& w, Lanes lanes, bool wide) {
  if (!w.detect) return;
  Clocks& clocks = w.block->clocks;
  WarpClocks& mine = clocks.warp(w.index);
  for (; lanes != 0; lanes &= lanes - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(lanes));
    if (mine.seen[lane]) {
      clocks.learn(w.index, lane, *mine.seen[lane]);
      mine.seen[lane].reset();
    }
    mine.released[lane] = std::make_shared<View>(clocks.view(w.index, lane));
    mine.released_widely[lane] = wide;
    clocks.advance(w.index, lane);
  }
}

}  // namespace dsv32::ptxemu
