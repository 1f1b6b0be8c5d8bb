// What single instructions make of their operands, against values from the PTX ISA's definitions.
#include <cmath>
#include <limits>

#include "tests/ptxemu/kernel_world.h"

namespace dsv32::ptxemu {
namespace {

using u64 = std::uint64_t;

struct Case {
  std::string text;
  unsigned bytes;
  std::vector<u64> operands;
  u64 result;
};

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    std::vector<std::vector<u64>> lanes;
    for (const u64 operand : c.operands) lanes.push_back({operand});
    INFO(c.text);
    CHECK(on_lanes(c.text, c.bytes, lanes)[17] == c.result);
  }
}

constexpr u64 minus(u64 x) { return 0 - x; }
constexpr u64 minus32(u64 x) { return (0 - x) & 0xffffffffu; }
constexpr u64 minus16(u64 x) { return (0 - x) & 0xffffu; }

TEST_CASE("integer instructions") {
  check({
      {"add.s32 %r0, %r1, %r2;", 4, {0x7fffffff, 1}, 0x80000000},
      {"add.sat.s32 %r0, %r1, %r2;", 4, {0x7fffffff, 1}, 0x7fffffff},
      {"sub.u16 %h0, %h1, %h2;", 2, {1, 2}, 0xffff},
      {"mul.lo.s32 %r0, %r1, %r2;", 4, {minus32(3), 7}, minus32(21)},
      {"mul.hi.s32 %r0, %r1, %r2;", 4, {minus32(3), 7}, 0xffffffff},
      {"mul.hi.u32 %r0, %r1, %r2;", 4, {minus32(3), 7}, 6},
      {"mul.hi.u64 %a0, %a1, %a2;", 8, {minus(1), minus(1)}, minus(2)},
      {"mul.hi.s64 %a0, %a1, %a2;", 8, {minus(1), minus(1)}, 0},
      {"mul.wide.s32 %a0, %r1, %r2;", 8, {minus32(3), 7}, minus(21)},
      {"mul.wide.u16 %r0, %h1, %h2;", 4, {0xffff, 0xffff}, 0xfffe0001},
      {"mad.lo.s32 %r0, %r1, %r2, %r3;", 4, {5, 6, 7}, 37},
      {"mad.wide.u32 %a0, %r1, %r2, %a3;", 8, {0xffffffff, 2, 5}, 0x200000003},
      {"div.s32 %r0, %r1, %r2;", 4, {minus32(7), 2}, minus32(3)},
      {"div.s32 %r0, %r1, %r2;", 4, {0x80000000, 0xffffffff}, 0x80000000},
      {"div.u32 %r0, %r1, %r2;", 4, {7, 0}, 0xffffffff},
      {"rem.s32 %r0, %r1, %r2;", 4, {minus32(7), 2}, minus32(1)},
      {"rem.u64 %a0, %a1, %a2;", 8, {1000000007, 10}, 7},
      {"min.s32 %r0, %r1, %r2;", 4, {minus32(1), 1}, minus32(1)},
      {"min.u32 %r0, %r1, %r2;", 4, {minus32(1), 1}, 1},
      {"abs.s16 %h0, %h1;", 2, {minus16(5)}, 5},
      {"neg.s64 %a0, %a1;", 8, {5}, minus(5)},
      {"sad.s32 %r0, %r1, %r2, %r3;", 4, {minus32(2), 3, 10}, 15},
      {"mul24.lo.u32 %r0, %r1, %r2;", 4, {0xff000003, 4}, 12},
      {"popc.b32 %r0, %r1;", 4, {0xf0f0f001}, 13},
      {"popc.b64 %r0, %a1;", 4, {minus(1)}, 64},
      {"clz.b32 %r0, %r1;", 4, {0x00010000}, 15},
      {"clz.b64 %r0, %a1;", 4, {0}, 64},
      {"brev.b32 %r0, %r1;", 4, {0x00000013}, 0xc8000000},
      {"bfind.u32 %r0, %r1;", 4, {0x00010000}, 16},
      {"bfind.s32 %r0, %r1;", 4, {minus32(1)}, 0xffffffff},
      {"bfind.shiftamt.u32 %r0, %r1;", 4, {0x00010000}, 15},
      {"bfe.u32 %r0, %r1, 4, 8;", 4, {0x12345678}, 0x67},
      {"bfe.s32 %r0, %r1, 4, 4;", 4, {0x000000f0}, 0xffffffff},
      {"bfe.s32 %r0, %r1, 28, 8;", 4, {0x80000000}, 0xfffffff8},
      {"bfe.u32 %r0, %r1, 0, 32;", 4, {0x12345678}, 0x12345678},
      {"bfe.s64 %a0, %a1, 60, 4;", 8, {0x8000000000000000}, minus(8)},
      {"bfi.b32 %r0, %r1, %r2, 8, 4;", 4, {0xa, 0xffffffff}, 0xfffffaff},
      {"bfi.b64 %a0, %a1, %a2, 32, 64;", 8, {7, 0x1}, 0x700000001},
      {"dp4a.s32.s32 %r0, %r1, %r2, %r3;", 4, {0xff010203, 0x01010101, 10}, 15},
      {"dp4a.u32.u32 %r0, %r1, %r2, %r3;", 4, {0xff010203, 0x01010101, 10}, 271},
      {"add.cc.u32 %r0, %r1, %r2; addc.u32 %r0, %r3, 0;", 4, {0xffffffff, 1, 41}, 42},
      {"sub.cc.u32 %r0, %r1, %r2; subc.u32 %r0, %r3, 0;", 4, {0, 1, 43}, 42},
      {"mad.lo.cc.u32 %r0, %r1, %r2, %r3; madc.hi.u32 %r0, %r1, %r2, 0;",
       4,
       {0x10000, 0xffff, 0x10000},
       1},
      {"vabsdiff4.u32.u32.u32 %r0, %r1, %r2, %r3;", 4, {0x05ff0102, 0x0a000201, 0}, 0x05ff0101},
  });
}

TEST_CASE("logic, shifts, permutations") {
  check({
      {"and.b32 %r0, %r1, %r2;", 4, {0xff00ff00, 0x0ff00ff0}, 0x0f000f00},
      {"not.b64 %a0, %a1;", 8, {5}, minus(6)},
      {"cnot.b32 %r0, %r1;", 4, {0}, 1},
      {"shl.b32 %r0, %r1, %r2;", 4, {1, 32}, 0},
      {"shl.b64 %a0, %a1, %r2;", 8, {1, 63}, 0x8000000000000000},
      {"shr.s32 %r0, %r1, %r2;", 4, {0x80000000, 40}, 0xffffffff},
      {"shr.u32 %r0, %r1, %r2;", 4, {0x80000000, 40}, 0},
      {"shr.s16 %h0, %h1, %r2;", 2, {0x8000, 15}, 0xffff},
      {"shf.l.wrap.b32 %r0, %r1, %r2, %r3;", 4, {0xf0000000, 1, 36}, 0x1f},
      {"shf.l.clamp.b32 %r0, %r1, %r2, %r3;", 4, {0xf0000000, 1, 36}, 0xf0000000},
      {"shf.r.wrap.b32 %r0, %r1, %r2, %r3;", 4, {0xf0000000, 1, 28}, 0x1f},
      {"shf.r.clamp.b32 %r0, %r1, %r2, %r3;", 4, {0xf0000000, 1, 99}, 1},
      {"prmt.b32 %r0, %r1, %r2, %r3;", 4, {0x33221100, 0x77665544, 0x7410}, 0x77441100},
      {"prmt.b32 %r0, %r1, %r2, %r3;", 4, {0x80, 0, 0x8888}, 0xffffffff},
      {"prmt.b32.f4e %r0, %r1, %r2, %r3;", 4, {0x33221100, 0x77665544, 1}, 0x44332211},
      {"prmt.b32.b4e %r0, %r1, %r2, %r3;", 4, {0x33221100, 0x77665544, 1}, 0x66770011},
      {"prmt.b32.rc16 %r0, %r1, %r2, %r3;", 4, {0x33221100, 0x77665544, 1}, 0x33223322},
      {"lop3.b32 %r0, %r1, %r2, %r3, 0x96;", 4, {0xf0f0, 0xff00, 0xaaaa}, 0xa55a},
      {"lop3.b32 %r0, %r1, %r2, %r3, 0xe8;", 4, {0xf0f0, 0xff00, 0xaaaa}, 0xfaa0},
      {"lop3.b32 %r0, %r1, %r2, %r3, 0xca;", 4, {0xf0f0, 0xff00, 0xaaaa}, 0xfa0a},
  });
}

TEST_CASE("lop3 follows its table, all of them") {
  // With these operands bit k of the result is bit k of the table.
  for (unsigned table = 0; table < 256; table += 5) {
    const std::string text = "lop3.b32 %r0, %r1, %r2, %r3, " + std::to_string(table) + ";";
    CHECK(on_lanes(text, 4, {{0xf0}, {0xcc}, {0xaa}})[0] % 256 == table);
  }
}

TEST_CASE("float instructions") {
  const float inf = std::numeric_limits<float>::infinity();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const u64 nan = bits_of(std::numeric_limits<float>::quiet_NaN());
  const float third = 1.0f / 3.0f;
  check({
      {"add.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(1.5f), bits_of(2.25f)},
       bits_of(3.75f)},
      {"add.rz.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(1.0f), bits_of(-1e-9f)},
       bits_of(std::nextafter(1.0f, 0.0f))},
      {"add.rp.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(1.0f), bits_of(1e-9f)},
       bits_of(std::nextafter(1.0f, 2.0f))},
      {"fma.rn.f32 %f0, %f1, %f2, %f3; mov.b32 %r0, %f0;",
       4,
       {bits_of(third), bits_of(3.0f), bits_of(-1.0f)},
       bits_of(std::fma(third, 3.0f, -1.0f))},
      {"mul.rn.f32 %f0, %f1, %f2; add.rn.f32 %f0, %f0, %f3; mov.b32 %r0, %f0;",
       4,
       {bits_of(third), bits_of(3.0f), bits_of(-1.0f)},
       bits_of(0.0f)},
      {"mul.ftz.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;", 4, {bits_of(tiny), bits_of(1e30f)}, 0},
      {"add.sat.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(1.0f), bits_of(1.0f)},
       bits_of(1.0f)},
      {"add.sat.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;", 4, {nan, bits_of(1.0f)}, 0},
      {"max.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;", 4, {nan, bits_of(-1.0f)}, bits_of(-1.0f)},
      {"max.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;", 4, {bits_of(-0.0f), bits_of(0.0f)}, 0},
      {"min.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;", 4, {bits_of(0.0f), bits_of(-0.0f)}, 0x80000000},
      {"div.rn.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(1.0f), bits_of(0.0f)},
       bits_of(inf)},
      {"rcp.rn.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(3.0f)}, bits_of(third)},
      {"sqrt.rn.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(2.0f)}, bits_of(std::sqrt(2.0f))},
      {"ex2.approx.ftz.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(-3.0f)}, bits_of(0.125f)},
      {"ex2.approx.ftz.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(-140.0f)}, 0},
      {"lg2.approx.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(0.125f)}, bits_of(-3.0f)},
      {"copysign.f32 %f0, %f1, %f2; mov.b32 %r0, %f0;",
       4,
       {bits_of(-1.0f), bits_of(2.0f)},
       bits_of(-2.0f)},
      {"fma.rn.f64 %d0, %d1, %d2, %d3; mov.b64 %a0, %d0;",
       8,
       {bits_of(0.1), bits_of(10.0), bits_of(-1.0)},
       bits_of(std::fma(0.1, 10.0, -1.0))},
      {"div.rn.f64 %d0, %d1, %d2; mov.b64 %a0, %d0;",
       8,
       {bits_of(1.0), bits_of(3.0)},
       bits_of(1.0 / 3.0)},
      {"rcp.approx.ftz.f64 %d0, %d1; mov.b64 %a0, %d0;",
       8,
       {bits_of(3.0)},
       bits_of(1.0 / 3.0) >> 32 << 32},
  });
}

TEST_CASE("half precision instructions") {
  // f16: 1 0x3c00, 2 0x4000, 3 0x4200; bf16: 1 0x3f80, 2 0x4000, 3 0x4040
  check({
      {"add.f16 %h0, %h1, %h2;", 2, {0x3c00, 0x4000}, 0x4200},
      {"fma.rn.f16 %h0, %h1, %h2, %h3;", 2, {0x4000, 0x3c00, 0x3c00}, 0x4200},
      {"mul.f16 %h0, %h1, %h2;", 2, {0x7bff, 0x4000}, 0x7c00},
      {"fma.rn.f16 %h0, %h1, %h2, %h3;", 2, {0x3c01, 0x3c01, 0x0001}, 0x3c02},
      {"fma.rn.relu.f16 %h0, %h1, %h2, %h3;", 2, {0x3c00, 0x3c00, 0xc000}, 0},
      {"fma.rn.bf16 %h0, %h1, %h2, %h3;", 2, {0x4000, 0x3f80, 0x3f80}, 0x4040},
      {"fma.rn.f16x2 %r0, %r1, %r2, %r3;", 4, {0x40003c00, 0x3c003c00, 0x3c003c00}, 0x42004000},
      {"fma.rn.bf16x2 %r0, %r1, %r2, %r3;", 4, {0x40003f80, 0x3f803f80, 0x3f803f80}, 0x40404000},
      {"max.f16x2 %r0, %r1, %r2;", 4, {0x3c004000, 0x40003c00}, 0x40004000},
      {"max.NaN.f16 %h0, %h1, %h2;", 2, {0x7e00, 0x3c00}, 0x7fff},
      {"neg.bf16 %h0, %h1;", 2, {0x3f80}, 0xbf80},
      {"abs.f16x2 %r0, %r1;", 4, {0xbc00c000}, 0x3c004000},
  });
}

TEST_CASE("conversions") {
  check({
      {"cvt.s32.s8 %r0, %r1;", 4, {0x1280}, 0xffffff80},
      {"cvt.u32.u8 %r0, %r1;", 4, {0x1280}, 0x80},
      {"cvt.s64.s32 %a0, %r1;", 8, {minus32(5)}, minus(5)},
      {"cvt.u64.u32 %a0, %r1;", 8, {minus32(5)}, minus32(5)},
      {"cvt.sat.u8.s32 %r0, %r1;", 4, {300}, 255},
      {"cvt.sat.s8.s32 %r0, %r1;", 4, {minus32(300)}, minus32(128)},
      {"cvt.rn.f32.s32 %f0, %r1; mov.b32 %r0, %f0;", 4, {minus32(16777217)}, bits_of(-16777216.0f)},
      {"cvt.rn.f32.u64 %f0, %a1; mov.b32 %r0, %f0;",
       4,
       {minus(1)},
       bits_of(18446744073709551616.0f)},
      {"cvt.rz.f32.u32 %f0, %r1; mov.b32 %r0, %f0;", 4, {0xffffffff}, bits_of(4294967040.0f)},
      {"cvt.rzi.s32.f32 %r0, %f1;", 4, {bits_of(-2.7f)}, minus32(2)},
      {"cvt.rni.s32.f32 %r0, %f1;", 4, {bits_of(2.5f)}, 2},
      {"cvt.rmi.s32.f32 %r0, %f1;", 4, {bits_of(-2.1f)}, minus32(3)},
      {"cvt.rpi.s32.f32 %r0, %f1;", 4, {bits_of(2.1f)}, 3},
      {"cvt.rzi.s32.f32 %r0, %f1;", 4, {bits_of(3e9f)}, 0x7fffffff},
      {"cvt.rzi.u32.f32 %r0, %f1;", 4, {bits_of(-1.0f)}, 0},
      {"cvt.rzi.s32.f32 %r0, %f1;", 4, {0x7fc00000}, 0},
      {"cvt.rzi.s64.f32 %a0, %f1;", 8, {0x7fc00000}, 0x8000000000000000},
      {"cvt.rzi.s32.f64 %r0, %d1;", 4, {0x7ff8000000000000}, 0x80000000},
      {"cvt.rzi.u64.f64 %a0, %d1;", 8, {bits_of(1e19)}, 10000000000000000000u},
      {"cvt.rni.f32.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(3.5f)}, bits_of(4.0f)},
      {"cvt.sat.f32.f32 %f0, %f1; mov.b32 %r0, %f0;", 4, {bits_of(3.5f)}, bits_of(1.0f)},
      {"cvt.rn.f32.f64 %f0, %d1; mov.b32 %r0, %f0;", 4, {bits_of(0.1)}, bits_of(0.1f)},
      {"cvt.f64.f32 %d0, %f1; mov.b64 %a0, %d0;", 8, {bits_of(0.1f)}, bits_of(double{0.1f})},
      {"cvt.rn.f16.f32 %h0, %f1;", 2, {bits_of(65520.0f)}, 0x7c00},
      {"cvt.rz.f16.f32 %h0, %f1;", 2, {bits_of(65520.0f)}, 0x7bff},
      {"cvt.rn.f16.f32 %h0, %f1;", 2, {bits_of(1.0f + 1.0f / 2048)}, 0x3c00},
      {"cvt.rn.f16.f32 %h0, %f1;", 2, {bits_of(5.9604645e-8f)}, 1},
      {"cvt.f32.f16 %f0, %h1; mov.b32 %r0, %f0;", 4, {0x0001}, bits_of(5.9604645e-8f)},
      {"cvt.rn.bf16.f32 %h0, %f1;", 2, {0x3f808000}, 0x3f80},
      {"cvt.rn.bf16.f32 %h0, %f1;", 2, {0x3f818000}, 0x3f82},
      {"cvt.rn.bf16.f32 %h0, %f1;", 2, {0x7fc00001}, 0x7fff},
      {"cvt.rn.bf16x2.f32 %r0, %f1, %f2;", 4, {bits_of(2.0f), bits_of(1.0f)}, 0x40003f80},
      {"cvt.rn.f16x2.f32 %r0, %f1, %f2;", 4, {bits_of(2.0f), bits_of(1.0f)}, 0x40003c00},
      {"cvt.rn.relu.bf16x2.f32 %r0, %f1, %f2;", 4, {bits_of(-2.0f), bits_of(1.0f)}, 0x3f80},
      {"cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f2;", 2, {bits_of(1000.0f), bits_of(-1.0f)}, 0x7eb8},
      {"cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f2;",
       2,
       {0x7fc00000, bits_of(0.001953125f)},
       0x7f01},
      {"cvt.rn.satfinite.e5m2x2.f32 %h0, %f1, %f2;", 2, {bits_of(1e6f), bits_of(1.0f)}, 0x7b3c},
      {"cvt.rn.f16x2.e4m3x2 %r0, %h1;", 4, {0x7eb8}, 0x5f00bc00},
      {"cvt.rn.f16x2.e5m2x2 %r0, %h1;", 4, {0x7b3c}, 0x7b003c00},
      {"cvt.rna.tf32.f32 %r0, %r1;", 4, {0x3f801000}, 0x3f802000},
  });
}

TEST_CASE("comparisons and selections") {
  const u64 nan = 0x7fc00000;
  const auto compared = [](const std::string& how) {
    return "setp." + how + " %p1, X1, X2; selp.u32 %r0, 1, 0, %p1;";
  };
  const auto with = [&](std::string text, const std::string& prefix) {
    for (std::size_t at; (at = text.find('X')) != text.npos;) text.replace(at, 1, prefix);
    return text;
  };
  check({
      {with(compared("lt.s32"), "%r"), 4, {minus32(1), 1}, 1},
      {with(compared("lt.u32"), "%r"), 4, {minus32(1), 1}, 0},
      {with(compared("ge.s64"), "%a"), 4, {5, 5}, 1},
      {with(compared("ne.b16"), "%h"), 4, {5, 5}, 0},
      {with(compared("lt.f32"), "%f"), 4, {nan, bits_of(1.0f)}, 0},
      {with(compared("ltu.f32"), "%f"), 4, {nan, bits_of(1.0f)}, 1},
      {with(compared("neu.f32"), "%f"), 4, {nan, nan}, 1},
      {with(compared("ne.f32"), "%f"), 4, {nan, nan}, 0},
      {with(compared("nan.f32"), "%f"), 4, {bits_of(1.0f), nan}, 1},
      {with(compared("eq.ftz.f32"), "%f"), 4, {1, 0}, 1},
      {with(compared("gt.f64"), "%d"), 4, {bits_of(2.0), bits_of(1.0)}, 1},
      {with(compared("lt.f16"), "%h"), 4, {0xbc00, 0x3c00}, 1},
      {"setp.lt.s32 %p2, %r3, 0; setp.lt.and.s32 %p1|%p3, %r1, %r2, !%p2; selp.u32 %r0, 1, 0, %p1; "
       "selp.u32 %r4, 2, 0, %p3; add.u32 %r0, %r0, %r4;",
       4,
       {1, 2, 3},
       1},
      {"setp.lt.s32 %p1|%p2, %r1, %r2; selp.u32 %r0, 7, 9, %p2;", 4, {1, 2}, 9},
      {"set.lt.f32.s32 %r0, %r1, %r2;", 4, {1, 2}, bits_of(1.0f)},
      {"set.eq.f16.f16 %h0, %h1, %h2;", 2, {0x3c00, 0x3c00}, 0x3c00},
      {"set.eq.u32.f16x2 %r0, %r1, %r2;", 4, {0x3c004000, 0x3c003c00}, 0xffff0000},
      {"set.gt.f16x2.f16x2 %r0, %r1, %r2;", 4, {0x3c004000, 0x3c003c00}, 0x00003c00},
      {"set.neu.bf16x2.bf16x2 %r0, %r1, %r2;", 4, {0x3f807fc0, 0x3f803f80}, 0x00003f80},
      {"set.lt.u32.s32 %r0, %r1, %r2;", 4, {1, 2}, 0xffffffff},
      {"selp.b64 %a0, %a1, %a2, %p1;", 8, {1, 1}, 1},
      {"slct.b32.s32 %r0, %r1, %r2, %r3;", 4, {10, 20, minus32(1)}, 20},
      {"testp.infinite.f32 %p1, %f1; selp.u32 %r0, 1, 0, %p1;", 4, {0x7f800000}, 1},
      {"setp.eq.u32 %p1, %r1, 1; not.pred %p2, %p1; xor.pred %p3, %p1, %p2; selp.u32 %r0, 1, 0, "
       "%p3;",
       4,
       {1},
       1},
  });
}

TEST_CASE("a guard keeps lanes from an instruction") {
  const auto result =
      on_lanes("setp.lt.u32 %p1, %r1, 5; @%p1 mov.u32 %r0, 1; @!%p1 mov.u32 %r0, 2;", 4,
               {{0, 1, 2, 3, 4, 5, 6, 7}});
  for (std::size_t lane = 0; lane < 8; ++lane) CHECK(result[lane] == (lane < 5 ? 1 : 2));
}

TEST_CASE("moves take registers apart and together") {
  check({
      {"mov.b64 {%r4, %r5}, %a1; mov.b64 %a0, {%r5, %r4};",
       8,
       {0x1111111122222222},
       0x2222222211111111},
      {"mov.b32 {%h4, %h5}, %r1; mov.b32 %r0, {%h5, %h4};", 4, {0x11112222}, 0x22221111},
      {"mov.b64 {%h4, %h5, %h6, %h7}, %a1; mov.b64 %a0, {%h7, %h6, %h5, %h4};",
       8,
       {0x1111222233334444},
       0x4444333322221111},
      {"mov.b64 {_, %r0}, %a1;", 4, {0x1111111122222222}, 0x11111111},
      {"mov.f32 %f0, 0f3F800000; mov.b32 %r0, %f0;", 4, {}, 0x3f800000},
      {"mov.u32 %r0, -1;", 4, {}, 0xffffffff},
      {"mov.u32 %r0, %ntid.x;", 4, {}, 32},
      {"mov.u32 %r0, %lanemask_lt;", 4, {}, (1u << 17) - 1},
  });
}

}  // namespace
}  // namespace dsv32::ptxemu
