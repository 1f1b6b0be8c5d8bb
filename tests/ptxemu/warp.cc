#include "tests/ptxemu/warp.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace dsv32::ptxemu {
namespace {

constexpr std::uint32_t kMaxLocalBytes = 512 * 1024;  // of a thread
constexpr std::uint32_t kLocalAlignment = 16;

Lanes lanemask(Special what, unsigned lane) {
  const Lanes equal = 1u << lane;
  switch (what) {
    case Special::lanemask_eq:
      return equal;
    case Special::lanemask_lt:
      return equal - 1;
    case Special::lanemask_le:
      return equal | (equal - 1);
    case Special::lanemask_ge:
      return ~(equal - 1);
    default:
      return ~(equal | (equal - 1));
  }
}

std::uint64_t shared_address(const Grid& grid, const Fill& fill) {
  return grid.layout->offsets[fill.index] + static_cast<std::uint64_t>(fill.offset);
}

// Special registers whose value depends on the thread or on where the frame is.
std::uint64_t value_of(const Warp& w, const Frame& frame, const Fill& fill, unsigned lane) {
  const Grid& grid = *w.block->grid;
  const unsigned thread = w.thread(lane);
  switch (fill.what) {
    case Special::tid_x:
      return thread % grid.block.x;
    case Special::tid_y:
      return thread / grid.block.x % grid.block.y;
    case Special::tid_z:
      return thread / (grid.block.x * grid.block.y);
    case Special::ntid_x:
      return grid.block.x;
    case Special::ntid_y:
      return grid.block.y;
    case Special::ntid_z:
      return grid.block.z;
    case Special::ctaid_x:
      return w.block->id.x;
    case Special::ctaid_y:
      return w.block->id.y;
    case Special::ctaid_z:
      return w.block->id.z;
    case Special::nctaid_x:
      return grid.grid.x;
    case Special::nctaid_y:
      return grid.grid.y;
    case Special::nctaid_z:
      return grid.grid.z;
    case Special::laneid:
      return lane;
    case Special::warpid:
      return w.index;
    case Special::nwarpid:
      return w.block->warps.size();
    case Special::smid:
    case Special::gridid:
      return 0;
    case Special::nsmid:
      return 1;
    case Special::total_shared:
      return grid.layout->static_bytes + grid.dynamic_shared;
    case Special::dynamic_shared:
      return grid.dynamic_shared;
    case Special::shared_variable:
      return shared_address(grid, fill);
    case Special::variable:
      return grid.variables[fill.index] + static_cast<std::uint64_t>(fill.offset);
    case Special::local_variable:
      return frame.local_base + fill.index + static_cast<std::uint64_t>(fill.offset);
    case Special::function_address:
      return kFunctionWindow + std::uint64_t{fill.index} * kFunctionStride;
    default:
      return lanemask(fill.what, lane);
  }
}

void fill_registers(const Warp& w, Frame& frame) {
  for (const Fill& fill : frame.function->fills) {
    std::byte* to = frame.registers.data() + fill.slot;
    for (unsigned lane = 0; lane < kLanes; ++lane, to += fill.bytes) {
      const std::uint64_t value = value_of(w, frame, fill, lane);
      std::memcpy(to, &value, fill.bytes);
    }
  }
}

void say(Warp& w, const Instruction& i, unsigned lane, Kind kind, const char* format,
         va_list values) {
  Findings& findings = *w.block->grid->findings;
  if (findings.again(kind, i.line)) return;
  char text[400];
  std::vsnprintf(text, sizeof text, format, values);
  findings.add(kind, {w.block->index, w.thread(lane), i.line}, text);
}

}  // namespace

Frame* Warp::enter(const Function& function, Frame* caller, Lanes lanes) {
  std::unique_ptr<Frame> fresh;
  if (spare.empty()) {
    fresh = std::make_unique<Frame>();
  } else {
    fresh = std::move(spare.back());
    spare.pop_back();
  }
  fresh->function = &function;
  fresh->registers = function.image;
  fresh->params.assign(std::size_t{function.param_bytes} * kLanes, std::byte{0xff});
  fresh->caller = caller;
  fresh->lanes = lanes;
  fresh->depth = caller == nullptr ? 0 : caller->depth + 1;
  fresh->local_base = caller == nullptr ? 0 : caller->local_base + caller->function->local_bytes;
  fresh->local_base = (fresh->local_base + kLocalAlignment - 1) / kLocalAlignment * kLocalAlignment;
  const std::size_t end = std::size_t{fresh->local_base} + function.local_bytes;
  if (end > kMaxLocalBytes) return nullptr;
  for (unsigned lane = 0; lane < kLanes && function.local_bytes != 0; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    if (local[lane].size() < end) local[lane].resize(end);
    std::fill(local[lane].begin() + fresh->local_base,
              local[lane].begin() + static_cast<std::ptrdiff_t>(end), std::byte{0xff});
  }
  fill_registers(*this, *fresh);
  frames.push_back(std::move(fresh));
  return frames.back().get();
}

void Warp::leave(Frame* from, Lanes lanes) {
  from->lanes &= ~lanes;
  if (from->lanes != 0) return;
  for (auto at = frames.begin(); at != frames.end(); ++at) {
    if (at->get() != from) continue;
    spare.push_back(std::move(*at));
    frames.erase(at);
    return;
  }
}

void report(Warp& warp, const Instruction& i, unsigned lane, Kind kind, const char* format, ...) {
  va_list values;
  va_start(values, format);
  say(warp, i, lane, kind, format, values);
  va_end(values);
}

void end(Warp& warp, const Instruction& i, unsigned lane, Kind kind, const char* format, ...) {
  va_list values;
  va_start(values, format);
  say(warp, i, lane, kind, format, values);
  va_end(values);
  warp.block->grid->ended = true;
}

}  // namespace dsv32::ptxemu
