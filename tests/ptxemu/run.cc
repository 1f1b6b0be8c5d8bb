// Who runs when. CTAs run one after the other, in an order of the seed's (what they may not assume
// of each other shows in the clocks, not in the schedule); warps of a CTA take turns of a few
// instructions.
#include "tests/ptxemu/run.h"

#include <algorithm>
#include <numeric>

#include "tests/ptxemu/flow.h"

namespace dsv32::ptxemu {
namespace {

constexpr unsigned kLongestTurn = 40;
constexpr unsigned kPlainTurn = 16;

Size3 id_of(std::uint32_t index, const Size3& grid) {
  return {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
}

void start_warp(Block& block, unsigned index, unsigned threads) {
  Warp& w = block.warps[index];
  const unsigned here = std::min<unsigned>(kLanes, threads - index * kLanes);
  w.block = &block;
  w.index = index;
  w.detect = block.grid->options.detect;
  w.live = here == kLanes ? kAllLanes : (1u << here) - 1;
  for (std::unique_ptr<Frame>& frame : w.frames) w.spare.push_back(std::move(frame));
  w.frames.clear();
  w.copies.clear();
  w.groups.clear();
  Group group;
  group.frame = w.enter(*block.grid->function, nullptr, w.live);
  group.lanes = w.live;
  if (group.frame == nullptr) {
    Instruction nowhere;
    return end(w, nowhere, 0, Kind::bad_instruction, "more local memory than a thread may have");
  }
  w.groups.push_back(group);
}

void start_block(Block& block, std::uint32_t index, Clock first) {
  Grid& grid = *block.grid;
  const unsigned threads = grid.block.x * grid.block.y * grid.block.z;
  block.index = index;
  block.id = id_of(index, grid.grid);
  block.live_threads = threads;
  std::fill(block.shared.begin(), block.shared.end(), std::byte{0xff});
  block.clocks.begin(index, threads, first);
  block.releases.clear();
  for (Barrier& barrier : block.barriers) barrier = {};
  block.warps.resize((threads + kLanes - 1) / kLanes);
  for (unsigned k = 0; k < block.warps.size(); ++k) start_warp(block, k, threads);
}

void take_turn(Warp& w, unsigned instructions) {
  Grid& grid = *w.block->grid;
  if (!regroup(w)) return;
  for (; instructions > 0 && !grid.ended; --instructions) {
    Group& group = w.groups[w.current];
    const Instruction& i = group.frame->function->code[group.pc];
    Lanes mask = group.lanes;
    if (i.predicate != kNone) mask &= i.negated ? ~w.bits(i.predicate) : w.bits(i.predicate);
    ++grid.instructions;
    if (i.flow == Flow::straight) {
      if (mask != 0) i.run(w, i, mask);
      ++group.pc;
      if (w.groups.size() == 1) continue;
    } else {
      flow(w, i, mask);
    }
    if (!regroup(w)) return;
  }
}

const Instruction& where(const Warp& w) {
  const Group& group = w.groups.front();
  const std::uint32_t back = group.wait == Wait::barrier ? 1 : 0;
  return group.frame->function->code[group.pc - back];
}

// Nobody can go on. Lanes that wait for others of their warp are let go, with a finding; else this
// is the end.
void resolve(Block& block) {
  for (Warp& w : block.warps) {
    if (force_sync(w)) return;
  }
  for (Warp& w : block.warps) {
    if (w.done()) continue;
    const auto lane = static_cast<unsigned>(__builtin_ctz(w.groups.front().lanes));
    return end(w, where(w), lane, Kind::deadlock, "every warp waits, %u threads at this barrier",
               block.live_threads);
  }
}

void run_block(Block& block) {
  Grid& grid = *block.grid;
  std::vector<Warp*> ready;
  std::size_t turn = 0;
  while (!grid.ended) {
    ready.clear();
    bool done = true;
    for (Warp& w : block.warps) {
      done = done && w.done();
      if (is_ready(w)) ready.push_back(&w);
    }
    if (done) return;
    if (ready.empty()) {
      resolve(block);
      continue;
    }
    std::size_t next = turn++ % ready.size();
    unsigned instructions = kPlainTurn;
    if (grid.options.order == Order::backward) next = ready.size() - 1 - next;
    if (grid.options.order == Order::random) {
      next = grid.below(static_cast<unsigned>(ready.size()));
      instructions = 1 + grid.below(kLongestTurn);
    }
    Warp& w = *ready[next];
    take_turn(w, instructions);
    if (grid.instructions > grid.options.max_instructions && !w.done()) {
      end(w, where(w), 0, Kind::watchdog, "more than %llu warp instructions",
          static_cast<unsigned long long>(grid.options.max_instructions));
    }
  }
}

}  // namespace

Clock run_grid(Grid& grid) {
  std::vector<std::uint32_t> order(std::size_t{grid.grid.x} * grid.grid.y * grid.grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (grid.options.order == Order::random) std::shuffle(order.begin(), order.end(), grid.random);
  if (grid.options.order == Order::backward) std::reverse(order.begin(), order.end());
  Block block;
  block.grid = &grid;
  block.shared.resize(grid.layout->static_bytes + grid.dynamic_shared);
  block.shared_shadow.resize(block.shared.size());
  Clock next = grid.first;
  for (const std::uint32_t index : order) {
    start_block(block, index, next);
    run_block(block);
    next = block.clocks.highest() + 1;
    if (grid.ended) break;
  }
  return next;
}

}  // namespace dsv32::ptxemu
