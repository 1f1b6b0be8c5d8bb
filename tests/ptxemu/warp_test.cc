// Instructions that lanes of a warp do together, atomics, asynchronous copies and matrices.
#include <bit>
#include <cmath>
#include <random>

#include "tests/ptxemu/kernel_world.h"
#include "tests/ptxemu/numbers.h"

namespace dsv32::ptxemu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

std::vector<u64> lanes_of(u64 (*f)(unsigned)) {
  std::vector<u64> values(32);
  for (unsigned lane = 0; lane < 32; ++lane) values[lane] = f(lane);
  return values;
}
std::vector<u64> ids() {
  return lanes_of([](unsigned lane) { return u64{lane}; });
}

TEST_CASE("shuffles take values of other lanes, within their segment") {
  const auto shuffled = [](const std::string& how) {
    return on_lanes("shfl.sync." + how + ", -1;", 4, {ids()});
  };
  CHECK(shuffled("bfly.b32 %r0, %r1, 5, 31") ==
        lanes_of([](unsigned lane) { return u64{lane ^ 5}; }));
  CHECK(shuffled("idx.b32 %r0, %r1, 3, 31") == lanes_of([](unsigned) { return u64{3}; }));
  CHECK(shuffled("up.b32 %r0, %r1, 4, 0") ==
        lanes_of([](unsigned lane) { return u64{lane < 4 ? lane : lane - 4}; }));
  CHECK(shuffled("down.b32 %r0, %r1, 4, 31") ==
        lanes_of([](unsigned lane) { return u64{lane > 27 ? lane : lane + 4}; }));
  // Segments of eight: bits of the mask that all lanes of one share are 24.
  CHECK(shuffled("idx.b32 %r0, %r1, 3, 0x181f") ==
        lanes_of([](unsigned lane) { return u64{(lane & 24) + 3}; }));
  CHECK(shuffled("up.b32 %r0, %r1, 1, 0x1800") ==
        lanes_of([](unsigned lane) { return u64{lane % 8 == 0 ? lane : lane - 1}; }));
  CHECK(on_lanes("shfl.sync.down.b32 %r2|%p1, %r1, 4, 31, -1; selp.u32 %r0, 1, 0, %p1;", 4,
                 {ids()}) == lanes_of([](unsigned lane) { return u64{lane <= 27}; }));
}

TEST_CASE("votes, matches, reductions and elections") {
  const std::string few = "setp.lt.u32 %p1, %r1, 3; ";
  const auto all = [](u64 value, const std::vector<u64>& lanes) {
    return lanes == std::vector<u64>(32, value);
  };
  CHECK(all(7, on_lanes(few + "vote.sync.ballot.b32 %r0, %p1, -1;", 4, {ids()})));
  CHECK(all(0xfffffff8, on_lanes(few + "vote.sync.ballot.b32 %r0, !%p1, -1;", 4, {ids()})));
  const std::string bit = " selp.u32 %r0, 1, 0, %p2;";
  CHECK(all(1, on_lanes(few + "vote.sync.any.pred %p2, %p1, -1;" + bit, 4, {ids()})));
  CHECK(all(0, on_lanes(few + "vote.sync.all.pred %p2, %p1, -1;" + bit, 4, {ids()})));
  CHECK(all(0, on_lanes(few + "vote.sync.uni.pred %p2, %p1, -1;" + bit, 4, {ids()})));
  CHECK(on_lanes("and.b32 %r2, %r1, 3; match.any.sync.b32 %r0, %r2, -1;", 4, {ids()}) ==
        lanes_of([](unsigned lane) { return u64{0x11111111u << lane % 4}; }));
  CHECK(all(0xffffffff, on_lanes("match.all.sync.b64 %r0|%p2, %a2, -1;", 4, {ids(), {5}})));
  CHECK(all(0, on_lanes("match.all.sync.b32 %r0|%p2, %r1, -1;", 4, {ids()})));
  CHECK(all(496, on_lanes("redux.sync.add.s32 %r0, %r1, -1;", 4, {ids()})));
  CHECK(all(31, on_lanes("redux.sync.max.u32 %r0, %r1, -1;", 4, {ids()})));
  CHECK(all(0xfffffff0,
            on_lanes("sub.s32 %r2, %r1, 16; redux.sync.min.s32 %r0, %r2, -1;", 4, {ids()})));
  CHECK(all(0, on_lanes("redux.sync.xor.b32 %r0, %r1, -1;", 4, {ids()})));
  CHECK(all(31, on_lanes("redux.sync.or.b32 %r0, %r1, -1;", 4, {ids()})));
  CHECK(on_lanes("elect.sync %r2|%p2, -1;" + bit, 4, {ids()}) ==
        lanes_of([](unsigned lane) { return u64{lane == 0}; }));
  // Each half with a mask of its own.
  CHECK(on_lanes("setp.lt.u32 %p3, %r1, 16; selp.b32 %r3, 0xffff, 0xffff0000, %p3;"
                 "redux.sync.add.u32 %r0, %r1, %r3;",
                 4,
                 {ids()}) == lanes_of([](unsigned lane) { return u64{lane < 16 ? 120u : 376u}; }));
}

TEST_CASE("atomics give back what was there and leave what is due") {
  struct Case {
    const char* text;
    u64 before, operand, after;
  };
  constexpr Case kCases[] = {
      {"atom.global.add.u32 %r0, [%a9], %r2;", 0xffffffff, 2, 1},
      {"atom.global.min.s32 %r0, [%a9], %r2;", 3, 0xffffffff, 0xffffffff},
      {"atom.global.max.u32 %r0, [%a9], %r2;", 3, 0xffffffff, 0xffffffff},
      {"atom.global.inc.u32 %r0, [%a9], %r2;", 7, 7, 0},
      {"atom.global.dec.u32 %r0, [%a9], %r2;", 0, 7, 7},
      {"atom.global.exch.b32 %r0, [%a9], %r2;", 3, 9, 9},
      {"atom.global.cas.b32 %r0, [%a9], %r2, 5;", 3, 3, 5},
      {"atom.global.cas.b32 %r0, [%a9], %r2, 5;", 3, 4, 3},
      {"atom.global.xor.b32 %r0, [%a9], %r2;", 6, 3, 5},
      {"atom.global.add.f32 %f0, [%a9], %f2; mov.b32 %r0, %f0;", 0x3f800000, 0x40000000,
       0x40400000},
      {"atom.global.add.noftz.f16x2 %r0, [%a9], %r2;", 0x3c003c00, 0x3c004000, 0x40004200},
      {"atom.add.release.gpu.u32 %r0, [%a9], %r2;", 1, 2, 3},
      {"atom.global.add.u64 %a0, [%a9], %a2; cvt.u32.u64 %r0, %a0;", 0xffffffff, 1, 0x100000000},
      {"atom.global.max.s64 %a0, [%a9], %a2; cvt.u32.u64 %r0, %a0;", 5, ~u64{0}, 5},
      {"atom.global.cas.b64 %a0, [%a9], %a2, 77; cvt.u32.u64 %r0, %a0;", 5, 5, 77},
      {"red.global.or.b64 [%a9], %a2; mov.u32 %r0, 5;", 5, u64{1} << 40, (u64{1} << 40) + 5},
  };
  for (const Case& c : kCases) {
    World world;
    const Address at = world.put(std::vector<u64>{c.before, c.operand, 0});
    const Report report = world.run(
        ptx_kernel(1,
                   "mov.u64 %a9, %pointer0;\nld.global.u64 %a2, [%a9+8];\ncvt.u32.u64 %r2, "
                   "%a2;\nmov.b32 %f2, %r2;\n" +
                       std::string(c.text) + "\nst.global.u32 [%a9+16], %r0;"),
        {}, {}, 0, at);
    INFO(c.text << "\n" << report.text());
    CHECK(report.clean());
    const auto words = world.get<u64>(at, 3);
    CHECK(words[0] == c.after);
    CHECK(words[2] == (c.before & 0xffffffff));
  }
}

// Each thread copies 16 bytes to its place and reads its neighbour's.
std::string copying(const std::string& wait, const std::string& extra = {}) {
  return ptx_kernel(
      2,
      ".shared .align 16 .b8 s[1024];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %a1, %r1, 16;\n"
      "mov.u64 %a9, s;\nadd.s64 %a2, %a9, %a1;\nadd.s64 %a3, %pointer0, %a1;\n"
      "cp.async.cg.shared.global [%a2], [%a3], 16" +
          extra + ";\ncp.async.commit_group;\n" + wait +
          "xor.b32 %r2, %r1, 33;\nmul.wide.u32 %a4, %r2, 16;\nadd.s64 %a4, %a9, %a4;\n"
          "ld.shared.u32 %r3, [%a4+12];\nmul.wide.u32 %a5, %r1, 4;\nadd.s64 %a5, "
          "%pointer1, %a5;\nst.global.u32 [%a5], %r3;\n");
}

TEST_CASE("an asynchronous copy is there after its wait and a barrier, and not before") {
  std::vector<u32> source(256);
  for (u32 k = 0; k < 256; ++k) source[k] = k;
  for (const bool eager : {false, true}) {
    World world;
    world.options.eager = eager;
    const Address from = world.put(source, "source"), out = world.put(std::vector<u32>(64));
    const auto run = [&](const std::string& text) {
      return world.run(text, {}, {64, 1, 1}, 0, from, out);
    };
    const Report good = run(copying("cp.async.wait_group 0;\nbar.sync 0;\n"));
    INFO(good.text());
    CHECK(good.clean());
    const auto words = world.get<u32>(out, 64);
    for (u32 k = 0; k < 64; ++k) CHECK(words[k] == (k ^ 33) * 4 + 3);
    CHECK(run(copying("cp.async.wait_all;\nbar.sync 0;\n")).clean());
    CHECK_FALSE(run(copying("cp.async.wait_group 1;\nbar.sync 0;\n")).clean());
    CHECK_FALSE(run(copying("bar.sync 0;\ncp.async.wait_group 0;\n")).clean());
    CHECK_FALSE(run(copying("cp.async.wait_group 0;\n")).clean());
  }
}

TEST_CASE("an asynchronous copy of fewer bytes fills up with zeroes") {
  World world;
  const Address from = world.put(std::vector<u32>(256, 7)), out = world.put(std::vector<u32>(64));
  const std::string wait = "cp.async.wait_group 0;\nbar.sync 0;\n";
  CHECK(world.run(copying(wait, ", 8"), {}, {64, 1, 1}, 0, from, out).clean());
  CHECK(world.get<u32>(out, 64) == std::vector<u32>(64, 0));
  // Of a source of no bytes nothing is read, wherever it is.
  CHECK(world.run(copying(wait, ", 0"), {}, {64, 1, 1}, 0, Address{16}, out).clean());
  CHECK(world.run(copying(wait, ", 17"), {}, {64, 1, 1}, 0, from, out).has(Kind::async_copy));
  CHECK(world.run(copying(wait), {}, {64, 1, 1}, 0, from + 16, out).has(Kind::bounds_global));
  CHECK(world.run(copying(wait), {}, {32, 1, 1}, 0, from + 8, out).has(Kind::misaligned));
}

TEST_CASE("a buffer that is filled again while it is read is a race at the copy") {
  const std::string text = ptx_kernel(
      1,
      ".shared .align 16 .b8 s[1024];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %a1, %r1, 16;\n"
      "mov.u64 %a9, s;\nadd.s64 %a2, %a9, %a1;\nadd.s64 %a3, %pointer0, %a1;\nxor.b32 %r2, %r1, "
      "33;\n"
      "mul.wide.u32 %a4, %r2, 16;\nadd.s64 %a4, %a9, %a4;\nst.shared.v4.u32 [%a2], {%r1, %r1, %r1, "
      "%r1};\nbar.sync 0;\nld.shared.u32 %r3, [%a4];\nBARRIERcp.async.ca.shared.global [%a2], "
      "[%a3], 16;\ncp.async.wait_all;\n");
  for (const bool barrier : {true, false}) {
    std::string changed = text;
    changed.replace(changed.find("BARRIER"), 7, barrier ? "bar.sync 0;\n" : "");
    World world;
    const Address from = world.put(std::vector<u32>(256));
    const Report report = world.run(changed, {}, {64, 1, 1}, 0, from);
    INFO(report.text());
    CHECK(report.has(Kind::race_shared) == !barrier);
    CHECK(report.clean() == barrier);
  }
}

TEST_CASE("matrices come and go in the fragments that mma wants") {
  // ldmatrix, a transposition in registers, stmatrix: the transpose of each 8 x 8.
  World world;
  std::vector<std::uint16_t> values(256);
  for (std::uint16_t k = 0; k < 256; ++k) values[k] = k;
  const Address in = world.put(values), out = world.put(std::vector<std::uint16_t>(256));
  const std::string copy_in =
      ".shared .align 16 .b8 s[1024];\nmov.u64 %a9, s;\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %a1, "
      "%r1, "
      "16;\nadd.s64 %a2, %a9, %a1;\nadd.s64 %a3, %pointer0, %a1;\nadd.s64 %a4, %pointer1, %a1;\n"
      "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%a3];\nst.shared.v4.u32 [%a2], {%r2, %r3, %r4, "
      "%r5};\n"
      "bar.sync 0;\n";
  const std::string copy_out =
      "bar.sync 0;\nld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%a2+512];\nst.global.v4.u32 [%a4], "
      "{%r2, "
      "%r3, %r4, %r5};\n";
  const auto run = [&](const std::string& middle) {
    const Report report =
        world.run(ptx_kernel(2, copy_in + middle + copy_out), {}, {32, 1, 1}, 0, in, out);
    INFO(report.text());
    CHECK(report.clean());
    return world.get<std::uint16_t>(out, 256);
  };
  std::vector<std::uint16_t> transposed(256);
  for (std::uint16_t m = 0; m < 4; ++m) {
    for (std::uint16_t r = 0; r < 8; ++r) {
      for (std::uint16_t c = 0; c < 8; ++c) {
        transposed[m * 64u + c * 8u + r] = static_cast<std::uint16_t>(m * 64 + r * 8 + c);
      }
    }
  }
  const std::string load =
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6, %r7, %r8, %r9}, [%a2];\n";
  const std::string store =
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%a2+512], {%r6, %r7, %r8, %r9};\n";
  std::string load_transposed = load, store_transposed = store;
  load_transposed.replace(load.find(".shared"), 0, ".trans");
  store_transposed.replace(store.find(".shared"), 0, ".trans");
  CHECK(run(load + store) == values);
  CHECK(run(load_transposed + store) == transposed);
  CHECK(run(load + store_transposed) == transposed);
  std::string moved;
  for (const char* r : {"%r6", "%r7", "%r8", "%r9"}) {
    moved += "movmatrix.sync.aligned.m8n8.trans.b16 " + std::string(r) + ", " + r + ";\n";
  }
  CHECK(run(load + moved + store) == transposed);
}

// d = a b' + c in fragments, which lanes load element by element from plain matrices.
std::vector<float> product(const std::string& instruction, const std::vector<std::uint8_t>& a,
                           const std::vector<std::uint8_t>& b, Mode mode, Report* report) {
  World world;
  world.options.mode = mode;
  // %r1 = lane / 4, %r2 = lane % 4; rows of k have 32 bytes, words lie at row * 32 + half * 16 + t
  // * 4.
  const std::string body =
      "mov.u32 %r3, %laneid;\nshr.u32 %r1, %r3, 2;\nand.b32 %r2, %r3, 3;\nmul.lo.u32 %r4, %r1, "
      "32;\nmad.lo.u32 %r4, %r2, 4, %r4;\ncvt.u64.u32 %a1, %r4;\nadd.s64 %a2, %pointer0, "
      "%a1;\nadd.s64 "
      "%a3, %pointer1, %a1;\nld.global.u32 %r10, [%a2];\nld.global.u32 %r11, [%a2+256];\n"
      "ld.global.u32 %r12, [%a2+16];\nld.global.u32 %r13, [%a2+272];\nld.global.u32 %r14, [%a3];\n"
      "ld.global.u32 %r15, [%a3+16];\nmov.f32 %f1, 0f3F800000;\n" +
      instruction +
      " {%f4, %f5, %f6, %f7}, {%r10, %r11, %r12, %r13}, {%r14, %r15}, {%f1, %f1, %f1, %f1};\n"
      "mul.lo.u32 %r5, %r1, 32;\nmad.lo.u32 %r5, %r2, 8, %r5;\ncvt.u64.u32 %a4, %r5;\nadd.s64 %a4, "
      "%pointer2, %a4;\nst.global.v2.f32 [%a4], {%f4, %f5};\nst.global.v2.f32 [%a4+256], {%f6, "
      "%f7};\n";
  const Address out = world.put(std::vector<float>(128));
  *report = world.run(ptx_kernel(3, body), {}, {32, 1, 1}, 0, world.put(a), world.put(b), out);
  return world.get<float>(out, 128);
}

TEST_CASE("mma multiplies rows of A with columns of B, in bf16 and in e4m3") {
  std::mt19937 random(7);
  for (const unsigned bytes : {2u, 1u}) {
    const int k = bytes == 2 ? 16 : 32;
    std::vector<std::uint8_t> a(512), b(256);
    const auto number = [&](const std::vector<std::uint8_t>& from, int row, int at) -> double {
      const auto index = static_cast<std::size_t>(row * 32 + at * static_cast<int>(bytes));
      return bytes == 2 ? from_bf16(from[index] | u32{from[index + 1]} << 8)
                        : decode(from[index], kE4m3);
    };
    // Small whole numbers: sums are exact in every mode.
    const auto fill = [&](std::vector<std::uint8_t>& to) {
      for (std::size_t i = 0; i < to.size(); i += bytes) {
        const double x = static_cast<double>(random() % 9) - 4;
        const u32 code =
            bytes == 2 ? to_bf16(static_cast<float>(x)) : encode(x, kE4m3, Rounding::nearest, true);
        to[i] = static_cast<std::uint8_t>(code);
        if (bytes == 2) to[i + 1] = static_cast<std::uint8_t>(code >> 8);
      }
    };
    fill(a);
    fill(b);
    const std::string instruction = bytes == 2
                                        ? "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
                                        : "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32";
    for (const Mode mode : {Mode::ideal, Mode::sm80, Mode::sm89, Mode::sm90}) {
      Report report;
      const auto d = product(instruction, a, b, mode, &report);
      if (tensor_refusal(mode, bytes == 2 ? TensorType::bf16 : TensorType::e4m3,
                         TensorInstruction::mma_sync) != nullptr) {
        CHECK(report.has(Kind::bad_instruction));
        continue;
      }
      INFO(report.text());
      CHECK(report.clean());
      for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) {
          double sum = 1;
          for (int i = 0; i < k; ++i) sum += number(a, m, i) * number(b, n, i);
          CHECK(double{d[static_cast<std::size_t>(m * 8 + n)]} == sum);
        }
      }
    }
  }
}

TEST_CASE("every code of every narrow format goes through its number and back") {
  for (const Format& format : {kF16, kBf16, kE5m2, kE4m3}) {
    for (u32 bits = 0; bits < 2 * format.sign(); ++bits) {
      const double x = decode(bits, format);
      if (x != x) continue;
      for (const Rounding rounding :
           {Rounding::nearest, Rounding::zero, Rounding::down, Rounding::up}) {
        REQUIRE(encode(x, format, rounding, false) == bits);
      }
    }
    // Half way between neighbours: to the even one; just beyond: up.
    for (u32 bits = 0; bits < format.largest(); ++bits) {
      const double low = decode(bits, format), high = decode(bits + 1, format),
                   half = (low + high) / 2;
      REQUIRE(encode(half, format, Rounding::nearest, false) == bits + (bits & 1));
      REQUIRE(encode(std::nextafter(half, high), format, Rounding::nearest, false) == bits + 1);
      REQUIRE(encode(half, format, Rounding::zero, false) == bits);
      REQUIRE(encode(half, format, Rounding::up, false) == bits + 1);
      REQUIRE(encode(-half, format, Rounding::up, false) == (bits | format.sign()));
    }
  }
  for (u32 bits = 0; bits < 0x10000; ++bits) {  // the fast way is the slow one
    const float x = std::bit_cast<float>(bits << 16 | (bits * 40503u & 0xffff));
    REQUIRE(to_bf16(x) == encode(x, kBf16, Rounding::nearest, false));
  }
}

}  // namespace
}  // namespace dsv32::ptxemu
