// Instructions that make one result of a few sources, lane by lane, each a line of a table: its
// mnemonic and what it does. The types of the function are the sizes of the registers.
#ifndef DSV32_TESTS_PTXEMU_ROWS_H_
#define DSV32_TESTS_PTXEMU_ROWS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/ptxemu/warp.h"

// A destination is one of the sources or apart from them.
#if defined(__clang__)
#define PTXEMU_EACH_LANE _Pragma("clang loop vectorize(assume_safety)")
#else
#define PTXEMU_EACH_LANE _Pragma("GCC ivdep")
#endif

namespace dsv32::ptxemu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
__extension__ typedef __int128 s128;  // no type of ISO C++
__extension__ typedef unsigned __int128 u128;

template <class F>
void for_lanes(Lanes mask, F f) {
  if (mask == kAllLanes) {
    PTXEMU_EACH_LANE
    for (int lane = 0; lane < kLanes; ++lane) f(lane);
    return;
  }
  for (; mask != 0; mask &= mask - 1) f(__builtin_ctz(mask));
}

struct Row {
  std::string key;
  Execute run = nullptr;
  unsigned result = 0;            // bytes
  std::vector<unsigned> sources;  // bytes
};
using Rows = std::vector<Row>;

template <class F, class Result, class... Sources, std::size_t... N>
void run_row(Warp& w, const Instruction& i, Lanes mask, std::index_sequence<N...>) {
  Result* to = w.lanes<Result>(i.reg[0]);
  const std::tuple<const Sources*...> from{w.lanes<const Sources>(i.reg[N + 1])...};
  for_lanes(mask, [&](int lane) { to[lane] = F{}(std::get<N>(from)[lane]...); });
}

template <class F, class Result, class... Sources>
Row make_row(std::string key, Result (F::*)(Sources...) const) {
  return {std::move(key),
          [](Warp& w, const Instruction& i, Lanes mask) {
            run_row<F, Result, Sources...>(w, i, mask, std::index_sequence_for<Sources...>{});
          },
          sizeof(Result),
          {sizeof(Sources)...}};
}

// add(rows, "add.u32", [](u32 a, u32 b) { return a + b; }); nothing may be captured.
template <class F>
void add(Rows& rows, std::string key, F) {
  rows.push_back(make_row<F>(std::move(key), &F::operator()));
}

void add_integer_rows(Rows& rows);  // PTX ISA, "Integer Arithmetic Instructions"
void add_carry_rows(Rows& rows);    // "Extended-Precision Integer Arithmetic Instructions"
void add_float_rows(Rows& rows);    // "Floating-Point Instructions"
void add_half_rows(Rows& rows);     // "Half Precision Floating-Point Instructions"
void add_logic_rows(Rows& rows);    // "Logic and Shift Instructions"
void add_video_rows(Rows& rows);    // dp4a, dp2a, sad

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_ROWS_H_
