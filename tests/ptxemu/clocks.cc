#include "tests/ptxemu/clocks.h"

#include <algorithm>

namespace dsv32::ptxemu {
namespace {

void raise(std::vector<Clock>& into, const std::vector<Clock>& from) {
  if (into.size() < from.size()) into.resize(from.size(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

// `last`: the row merged before; neighbours mostly share one.
void merge(ClockRow& into, const ClockRow& from, const ClockRow*& last) {
  if (&from == last) return;
  last = &from;
  raise(into.clocks, from.clocks);
  if (!from.foreign || from.foreign == into.foreign) return;
  auto both = std::make_shared<View>(into.foreign ? *into.foreign : View{});
  join(*both, *from.foreign);
  into.foreign = std::move(both);
}

void set_floor(ClockRow& row) {
  row.floor = *std::min_element(row.clocks.begin(), row.clocks.end());
}

void set_row(Known& known, const std::shared_ptr<const ClockRow>& row) {
  known.row = row;
  known.floor = std::max(known.floor, row->floor);
}

}  // namespace

void join(View& into, const View& from) {
  for (const auto& [cta, clocks] : from) raise(into[cta], clocks);
}

bool Known::holds_foreign(std::uint32_t cta, unsigned thread, Clock clock) const {
  if (!row->foreign) return false;
  const auto found = row->foreign->find(cta);
  return found != row->foreign->end() && thread < found->second.size() &&
         found->second[thread] >= clock;
}

void Clocks::begin(std::uint32_t cta, unsigned threads, Clock first) {
  cta_ = cta;
  threads_ = threads;
  first_ = highest_ = first;
  auto nothing = std::make_shared<ClockRow>();
  nothing->clocks.assign(threads, first - 1);
  nothing->floor = first - 1;
  warps_.resize((threads + kLanes - 1) / kLanes);
  for (WarpClocks& mine : warps_) {
    std::fill_n(mine.own, kLanes, first);
    for (int lane = 0; lane < kLanes; ++lane) {
      mine.known[lane].floor = first - 1;
      std::fill_n(mine.known[lane].near, kLanes, first - 1);
      mine.known[lane].row = nothing;
      mine.released[lane].reset();
      mine.released_widely[lane] = false;
      mine.seen[lane].reset();
    }
  }
}

unsigned Clocks::lanes_of(std::size_t warp) const {
  return std::min<unsigned>(kLanes, threads_ - static_cast<unsigned>(warp) * kLanes);
}

void Clocks::advance(unsigned warp, unsigned lane) {
  highest_ = std::max(highest_, ++warps_[warp].own[lane]);
}

// Into the row goes what these lanes know of all, and that they are where they are.
void Clocks::gather(ClockRow& row, std::size_t warp, Lanes who) const {
  const WarpClocks& mine = warps_[warp];
  Clock* near = row.clocks.data() + warp * kLanes;
  const ClockRow* last = nullptr;
  const unsigned lanes = lanes_of(warp);
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (!(who >> lane & 1)) continue;
    merge(row, *mine.known[lane].row, last);
    for (unsigned m = 0; m < lanes; ++m) near[m] = std::max(near[m], mine.known[lane].near[m]);
  }
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (who >> lane & 1) near[lane] = mine.own[lane];
  }
}

void Clocks::meet(const std::vector<Lanes>& who) {
  auto row = std::make_shared<ClockRow>();
  row->clocks.assign(threads_, 0);
  for (std::size_t warp = 0; warp < who.size(); ++warp) gather(*row, warp, who[warp]);
  set_floor(*row);
  const std::shared_ptr<const ClockRow> shared = row;
  for (std::size_t warp = 0; warp < who.size(); ++warp) {
    const Clock* near = row->clocks.data() + warp * kLanes;
    const unsigned lanes = lanes_of(warp);
    for (unsigned lane = 0; lane < lanes; ++lane) {
      if (!(who[warp] >> lane & 1)) continue;
      Known& known = warps_[warp].known[lane];
      set_row(known, shared);
      std::copy_n(near, lanes, known.near);
      advance(static_cast<unsigned>(warp), lane);
    }
  }
}

void Clocks::meet_in_warp(unsigned warp, Lanes who) {
  WarpClocks& mine = warps_[warp];
  Clock near[kLanes] = {};
  const ClockRow* first = mine.known[__builtin_ctz(who)].row.get();
  bool one_row = true;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(who >> lane & 1)) continue;
    const Known& known = mine.known[lane];
    for (int m = 0; m < kLanes; ++m) near[m] = std::max(near[m], known.near[m]);
    one_row = one_row && known.row.get() == first;
  }
  std::shared_ptr<const ClockRow> row;
  if (!one_row) {
    auto merged = std::make_shared<ClockRow>();
    merged->clocks.assign(threads_, 0);
    gather(*merged, warp, who);
    set_floor(*merged);
    row = std::move(merged);
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (who >> lane & 1) near[lane] = mine.own[lane];
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(who >> lane & 1)) continue;
    std::copy_n(near, kLanes, mine.known[lane].near);
    if (row) set_row(mine.known[lane], row);
    advance(warp, lane);
  }
}

View Clocks::view(unsigned warp, unsigned lane) {
  const WarpClocks& mine = warps_[warp];
  const Known& known = mine.known[lane];
  View view = known.row->foreign ? *known.row->foreign : View{};
  std::vector<Clock> clocks = known.row->clocks;
  for (unsigned m = 0; m < lanes_of(warp); ++m) {
    Clock& clock = clocks[warp * kLanes + m];
    clock = std::max(clock, m == lane ? mine.own[lane] : known.near[m]);
  }
  raise(view[cta_], clocks);
  return view;
}

void Clocks::learn(unsigned warp, unsigned lane, const View& view) {
  Known& known = warps_[warp].known[lane];
  auto row = std::make_shared<ClockRow>(*known.row);
  View foreign = row->foreign ? *row->foreign : View{};
  for (const auto& [cta, clocks] : view) {
    if (cta != cta_) {
      raise(foreign[cta], clocks);
      continue;
    }
    raise(row->clocks, clocks);
    for (unsigned m = 0; m < lanes_of(warp); ++m) {
      known.near[m] = std::max(known.near[m], clocks[warp * kLanes + m]);
    }
  }
  if (!foreign.empty()) row->foreign = std::make_shared<View>(std::move(foreign));
  set_floor(*row);
  set_row(known, row);
}

}  // namespace dsv32::ptxemu
