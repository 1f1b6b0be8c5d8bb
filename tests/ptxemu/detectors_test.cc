// Each detector on a kernel that is wrong, beside the one that is right.
#include "tests/ptxemu/kernel_world.h"

namespace dsv32::ptxemu {
namespace {

using u32 = std::uint32_t;

// Reports of all orders and three seeds must agree on what is found.
template <class... Values>
void check_orders(const std::string& text, Size3 grid, Size3 block, Kind kind, Values... values) {
  for (const Order order : {Order::random, Order::forward, Order::backward}) {
    for (std::uint64_t seed = 1; seed <= (order == Order::random ? 3 : 1); ++seed) {
      World world;
      world.options.order = order;
      world.options.seed = seed;
      const Address memory = world.put(std::vector<u32>(4096));
      const Report report = world.run(text, grid, block, 0, memory, values...);
      INFO(text << "\n" << report.text());
      if (kind == Kind::count) {
        CHECK(report.clean());
      } else {
        CHECK(report.has(kind));
      }
    }
  }
}
constexpr Kind kClean = Kind::count;

// %a1: this thread's word of shared memory `s`; %a2: another's.
const std::string kNeighbours =
    ".shared .align 4 .b8 s[4096];\nmov.u32 %r1, %tid.x;\nmov.u64 %a9, s;\nmul.wide.u32 %a1, %r1, "
    "4;"
    "\nadd.s64 %a1, %a1, %a9;\nxor.b32 %r2, %r1, 33;\nmul.wide.u32 %a2, %r2, 4;\nadd.s64 %a2, %a2, "
    "%a9;\nmul.wide.u32 %a3, %r1, 4;\nadd.s64 %a3, %a3, %pointer0;\n";

TEST_CASE("shared memory: reads and writes that no barrier orders") {
  const Size3 block{128, 1, 1};
  const std::string write = "st.shared.u32 [%a1], %r1;\n", read = "ld.shared.u32 %r3, [%a2];\n",
                    barrier = "bar.sync 0;\n", out = "st.global.u32 [%a3], %r3;\n";
  check_orders(ptx_kernel(1, kNeighbours + write + barrier + read + out), {}, block, kClean);
  check_orders(ptx_kernel(1, kNeighbours + write + barrier + read + out + barrier + write), {},
               block, kClean);
  check_orders(ptx_kernel(1, kNeighbours + write + read + out), {}, block, Kind::race_shared);
  check_orders(ptx_kernel(1, kNeighbours + write + barrier + read + out + write), {}, block,
               Kind::race_shared);
  check_orders(ptx_kernel(1, kNeighbours + "st.shared.u32 [s], %r1;\n"), {}, block,
               Kind::race_shared);
  check_orders(ptx_kernel(1, kNeighbours + "st.shared.u8 [%a1+1], %r1;\n" + barrier +
                                 "st.shared.u8 [%a2+1], %r1;\n"),
               {}, block, kClean);
}

TEST_CASE("bytes of one word that threads write apart do not race") {
  const std::string bytes =
      ".shared .align 4 .b8 s[128];\nmov.u32 %r1, %tid.x;\ncvt.u64.u32 %a1, %r1;\nmov.u64 %a9, s;\n"
      "add.s64 %a1, %a1, %a9;\n";
  check_orders(ptx_kernel(1, bytes + "st.shared.u8 [%a1], %r1;\nbar.sync 0;\nld.shared.u8 %h1, "
                                     "[s+3];\n"),
               {}, {128, 1, 1}, kClean);
  check_orders(ptx_kernel(1, bytes + "st.shared.u8 [%a1], %r1;\nld.shared.u8 %h1, [%a1];\n"), {},
               {128, 1, 1}, kClean);
  check_orders(
      ptx_kernel(1, bytes + "st.shared.u8 [%a1], %r1;\nbar.sync 0;\nst.shared.u8 [%a1], 1;\n"
                            "ld.shared.u8 %h1, [s+3];\n"),
      {}, {128, 1, 1}, Kind::race_shared);
}

TEST_CASE("bar.warp.sync orders a warp, a shuffle orders nothing") {
  const std::string neighbours =
      ".shared .align 4 .b8 s[128];\nmov.u32 %r1, %tid.x;\nmov.u64 %a9, s;\nmul.wide.u32 %a1, %r1, "
      "4;"
      "\nadd.s64 %a1, %a1, %a9;\nxor.b32 %r2, %r1, 1;\nmul.wide.u32 %a2, %r2, 4;\nadd.s64 %a2, "
      "%a2, "
      "%a9;\n";
  const std::string write = "st.shared.u32 [%a1], %r1;\n", read = "ld.shared.u32 %r3, [%a2];\n";
  check_orders(ptx_kernel(1, neighbours + write + "bar.warp.sync -1;\n" + read), {}, {32, 1, 1},
               kClean);
  check_orders(
      ptx_kernel(1, neighbours + write + "shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;\n" + read), {},
      {32, 1, 1}, Kind::race_shared);
  check_orders(ptx_kernel(1, neighbours + read), {}, {32, 1, 1}, Kind::uninitialised_shared);
}

TEST_CASE("one lane reads what all read before it writes") {
  // The reader that is kept for a word must not be the writer itself.
  const std::string text =
      ".shared .align 4 .b32 s;\nmov.u32 %r1, %tid.x;\nsetp.eq.u32 %p1, %r1, WRITER;\n"
      "setp.eq.u32 %p2, %r1, 0;\n@%p2 st.shared.u32 [s], 5;\nbar.sync 0;\nld.shared.u32 %r2, [s];\n"
      "SYNC@%p1 st.shared.u32 [s], 6;\n";
  for (const char* writer : {"0", "1", "7", "31"}) {
    std::string with = text, without = text;
    for (std::string* t : {&with, &without}) {
      t->replace(t->find("WRITER"), 6, writer);
      t->replace(t->find("SYNC"), 4, t == &with ? "bar.warp.sync -1;\n" : "");
    }
    check_orders(ptx_kernel(1, with), {}, {32, 1, 1}, kClean);
    check_orders(ptx_kernel(1, without), {}, {32, 1, 1}, Kind::race_shared);
  }
}

TEST_CASE("named barriers order those who come to them and nobody else") {
  // Warps 0 and 1 exchange; warps 2 and 3 come to another barrier.
  const std::string pairs =
      kNeighbours +
      "st.shared.u32 [%a1], %r1;\nshr.u32 %r5, %r1, 6;\nadd.u32 %r5, %r5, 1;\n"
      "barrier.sync %r5, 64;\nld.shared.u32 %r3, [PARTNER];\n";
  std::string inside = pairs, across = pairs;
  inside.replace(inside.find("PARTNER"), 7, "%a2");
  across.replace(across.find("PARTNER"), 7, "%a4");
  across.insert(across.find("ld.shared"),
                "xor.b32 %r6, %r1, 64;\nmul.wide.u32 %a4, %r6, 4;\nadd.s64 %a4, %a4, %a9;\n");
  check_orders(ptx_kernel(1, inside), {}, {128, 1, 1}, kClean);
  check_orders(ptx_kernel(1, across), {}, {128, 1, 1}, Kind::race_shared);
}

TEST_CASE("a producer arrives, a consumer waits") {
  const std::string text =
      kNeighbours +
      "setp.lt.u32 %p1, %r1, 32;\n@!%p1 bra CONSUMER;\nst.shared.u32 [%a1], %r1;\nbar.arrive 3, "
      "64;\n"
      "bra END;\nCONSUMER:\nBARRIERld.shared.u32 %r3, [%a2];\nst.global.u32 [%a3], %r3;\nEND:\n";
  std::string with = text, without = text;
  with.replace(with.find("BARRIER"), 7, "bar.sync 3, 64;\n");
  without.replace(without.find("BARRIER"), 7, "bar.sync 4, 32;\n");
  check_orders(ptx_kernel(1, with), {}, {64, 1, 1}, kClean);
  World world;
  const Address memory = world.put(std::vector<u32>(64));
  const Report report = world.run(ptx_kernel(1, without), {}, {64, 1, 1}, 0, memory);
  CHECK((report.has(Kind::race_shared) || report.has(Kind::uninitialised_shared)));
}

TEST_CASE("bar.red counts and joins predicates") {
  World world;
  const Address out = world.put(std::vector<u32>(3));
  const Report report = world.run(
      ptx_kernel(
          1,
          "mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 40;\nbar.red.popc.u32 %r2, 0, %p1;\n"
          "bar.red.and.pred %p2, 0, %p1;\nbar.red.or.pred %p3, 0, !%p1;\nselp.u32 %r3, 1, 0, "
          "%p2;\nselp.u32 %r4, 1, 0, %p3;\nsetp.eq.u32 %p4, %r1, 77;\n@%p4 st.global.u32 "
          "[%pointer0], %r2;\n@%p4 st.global.u32 [%pointer0+4], %r3;\n@%p4 st.global.u32 "
          "[%pointer0+8], %r4;"),
      {}, {96, 1, 1}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  CHECK(world.get<u32>(out, 3) == std::vector<u32>{40, 0, 1});
}

// %a1: this thread's word of the grid's.
const std::string kWord =
    "mov.u32 %r1, %tid.x;\nmov.u32 %r2, %ctaid.x;\nmov.u32 %r3, %ntid.x;\nmad.lo.u32 %r4, %r2, "
    "%r3, "
    "%r1;\nmul.wide.u32 %a1, %r4, 4;\nadd.s64 %a1, %a1, %pointer0;\n";

TEST_CASE("global memory: two writers, and CTAs that read each other") {
  const Size3 grid{4, 1, 1}, block{64, 1, 1};
  check_orders(ptx_kernel(1, kWord + "st.global.u32 [%a1], %r1;\nld.global.u32 %r5, [%a1];\n"),
               grid, block, kClean);
  check_orders(ptx_kernel(1, kWord + "st.global.u32 [%pointer0], %r1;\n"), grid, {1, 1, 1},
               Kind::conflict_global);
  check_orders(
      ptx_kernel(1, kWord + "st.global.u32 [%a1], %r1;\nld.global.u32 %r5, [%pointer0];\n"), grid,
      block, Kind::race_global);
  check_orders(
      ptx_kernel(1, kWord + "xor.b32 %r5, %r4, 32;\nmul.wide.u32 %a2, %r5, 4;\nadd.s64 %a2, "
                            "%a2, %pointer0;\nst.global.u32 [%a1], %r1;\nbar.sync "
                            "0;\nld.global.u32 %r6, [%a2];\n"),
      grid, block, kClean);
  check_orders(ptx_kernel(1, kWord + "atom.global.add.u32 %r5, [%pointer0], 1;\n"), grid, block,
               kClean);
  check_orders(ptx_kernel(1, kWord + "red.global.add.u32 [%pointer0], 1;\nld.global.u32 %r5, "
                                     "[%pointer0];\n"),
               grid, block, Kind::race_global);
  check_orders(
      ptx_kernel(1, kWord + "atom.global.add.u32 %r5, [%pointer0], 1;\nld.relaxed.gpu.global"
                            ".u32 %r5, [%pointer0];\n"),
      grid, block, kClean);
}

// The last CTA to come adds up what all have left (a fence, an atomic, a fence).
std::string last_cta(const std::string& before, const std::string& after) {
  return ptx_kernel(
      1,
      kWord +
          "setp.ne.u32 %p1, %r1, 0;\nst.global.u32 [%a1+64], %r2;\nbar.sync 0;\n"
          ".shared .b32 last;\n@%p1 bra WAIT;\n" +
          before + "atom.global.add.u32 %r5, [%pointer0], 1;\n" + after +
          "st.shared.u32 [last], %r5;\nWAIT:\nbar.sync 0;\nld.shared.u32 %r6, [last];\n"
          "setp.ne.u32 %p2, %r6, 3;\n@%p2 bra END;\nmul.wide.u32 %a2, %r1, 4;\nadd.s64 %a2, %a2, "
          "%pointer0;\nld.global.u32 %r7, [%a2+64];\nld.global.u32 %r8, [%a2+192];\nEND:\n");
}

TEST_CASE("a fence on both sides of an atomic hands on what was written before") {
  const std::string fence = "fence.acq_rel.gpu;\n", membar = "membar.gl;\n";
  check_orders(last_cta(fence, fence), {4, 1, 1}, {32, 1, 1}, kClean);
  check_orders(last_cta(membar, membar), {4, 1, 1}, {32, 1, 1}, kClean);
  check_orders(last_cta("", fence), {4, 1, 1}, {32, 1, 1}, Kind::race_global);
  check_orders(last_cta(fence, ""), {4, 1, 1}, {32, 1, 1}, Kind::race_global);
  check_orders(last_cta("membar.cta;\n", fence), {4, 1, 1}, {32, 1, 1}, Kind::race_global);
}

TEST_CASE("release and acquire of an atomic are such fences") {
  const auto with = [](const std::string& how) {
    std::string text = last_cta("", "");
    text.replace(text.find("atom.global.add"), 15, "atom." + how + ".gpu.global.add");
    return text;
  };
  check_orders(with("acq_rel"), {4, 1, 1}, {32, 1, 1}, kClean);
  check_orders(with("relaxed"), {4, 1, 1}, {32, 1, 1}, Kind::race_global);
  check_orders(with("release"), {4, 1, 1}, {32, 1, 1}, Kind::race_global);
}

TEST_CASE("global memory: bounds, freed memory, constants, alignment, what nobody wrote") {
  World world;
  const Address small = world.put(std::vector<u32>(8), "small");
  const Address fresh = world.machine.allocate(64, "fresh");
  const Address freed = world.put(std::vector<u32>(8), "freed");
  const Address fixed = world.put(std::vector<u32>(8), "fixed");
  world.machine.release(freed);
  CHECK(world.machine.protect(fixed, true).empty());
  const auto run = [&](const std::string& body, Address a) {
    return world.run(ptx_kernel(1, body), {}, {}, 0, a);
  };
  const std::string load = "ld.global.u32 %r1, [%pointer0+", store = "st.global.u32 [%pointer0+";
  CHECK(run(load + "28];", small).clean());
  CHECK(run(load + "32];", small).text().find("small+32 of 32 bytes") != std::string::npos);
  CHECK(run(load + "32];", small).has(Kind::bounds_global));
  CHECK(run(load + "-4];", small).has(Kind::bounds_global));
  CHECK(run(store + "32], 1;", small).has(Kind::bounds_global));
  CHECK(run("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%pointer0+24];", small)
            .has(Kind::bounds_global));
  CHECK(run(load + "0];", 0).has(Kind::bounds_global));
  CHECK(run(load + "0];", reinterpret_cast<Address>(&world)).has(Kind::bounds_global));
  CHECK(run(load + "0];", freed).text().find("freed") != std::string::npos);
  CHECK(run(load + "2];", small).has(Kind::misaligned));
  CHECK(run("ld.global.v2.u32 {%r1, %r2}, [%pointer0+4];", small).has(Kind::misaligned));
  CHECK(run(load + "0];", fixed).clean());
  CHECK(run(store + "0], 1;", fixed).has(Kind::write_to_const));
  CHECK(run("atom.global.add.u32 %r1, [%pointer0], 1;", fixed).has(Kind::write_to_const));
  CHECK(run(load + "4];", fresh).has(Kind::uninitialised_global));
  CHECK(run("atom.global.add.u32 %r1, [%pointer0+4], 1;", fresh).has(Kind::uninitialised_global));
  CHECK(run(store + "8], 1;\n" + load + "8];", fresh).clean());
  CHECK(run(load + "8];", fresh).clean());
  CHECK(run("ld.global.v2.u32 {%r1, %r2}, [%pointer0+8];", fresh).has(Kind::uninitialised_global));
  World other;
  CHECK(other.run(ptx_kernel(1, load + "0];"), {}, {}, 0, small).has(Kind::bounds_global));
}

TEST_CASE("what a launch ignores is not reported, and without detectors values alone are made") {
  World world;
  const Address fresh = world.machine.allocate(64);
  const std::string text = ptx_kernel(1, "ld.global.u32 %r1, [%pointer0];");
  CHECK_FALSE(world.run(text, {}, {}, 0, fresh).clean());
  world.options.ignored = 1u << static_cast<unsigned>(Kind::uninitialised_global);
  CHECK(world.run(text, {}, {}, 0, fresh).clean());
  world.options.ignored = 0;
  world.options.detect = false;
  CHECK(world.run(text, {}, {}, 0, fresh).clean());
}

TEST_CASE("shared memory: bounds and alignment, through either kind of address") {
  const std::string s =
      ".shared .align 8 .b8 s[64];\nmov.u64 %a1, s;\ncvta.shared.u64 %a2, %a1;\n"
      "cvt.u32.u64 %r1, %a1;\nst.shared.u64 [s], 0;\nst.shared.u64 [s+56], 0;\n";
  World world;
  const auto run = [&](const std::string& body) {
    return world.run(ptx_kernel(0, s + body), {}, {}, 0);
  };
  CHECK(run("ld.shared.u64 %a3, [%a1+56];\nld.u64 %a3, [%a2+56];\nld.shared.u64 %a3, [%r1+56];")
            .clean());
  CHECK(run("ld.shared.u64 %a3, [%a1+64];").has(Kind::bounds_shared));
  CHECK(run("ld.u64 %a3, [%a2+64];").has(Kind::bounds_shared));
  CHECK(run("ld.shared.u64 %a3, [%r1+64];").has(Kind::bounds_shared));
  CHECK(run("ld.shared.u32 %r3, [%a1-4];").has(Kind::bounds_shared));
  CHECK(run("ld.shared.u64 %a3, [%a1+4];").has(Kind::misaligned));
}

TEST_CASE("a .sync instruction that not all of its lanes come to") {
  const std::string half = "mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 16;\n";
  const std::string shuffle = "shfl.sync.bfly.b32 %r2, %r1, 1, 31, MASK;\n";
  const auto with = [&](const std::string& mask) {
    std::string text = shuffle;
    text.replace(text.find("MASK"), 4, mask);
    return text;
  };
  check_orders(ptx_kernel(1, half + "@%p1 bra END;\n" + with("-1") + "END:\n"), {}, {32, 1, 1},
               kClean);
  check_orders(
      ptx_kernel(1, half + "@!%p1 bra ELSE;\n" + with("-1") + "ELSE:\nbar.warp.sync -1;\n"), {},
      {32, 1, 1}, Kind::divergent_sync);
  check_orders(
      ptx_kernel(1, half + "@!%p1 bra ELSE;\n" + with("0xffff") + "ELSE:\nbar.warp.sync -1;\n"), {},
      {32, 1, 1}, kClean);
  check_orders(ptx_kernel(1, half + with("0xffff")), {}, {32, 1, 1}, Kind::divergent_sync);
  check_orders(
      ptx_kernel(1, half + "@!%p1 bra ELSE;\nbar.sync 0;\nELSE:\nmov.u32 %r3, 1;\nbar.sync 0;\n"),
      {}, {32, 1, 1}, Kind::divergent_sync);
}

TEST_CASE("lanes of a .sync meet even when they took different ways to it") {
  const std::string text =
      "mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 16;\nmov.u32 %r2, 0;\n@%p1 bra SHORT;\nLOOP:\n"
      "add.u32 %r2, %r2, 1;\nsetp.lt.u32 %p2, %r2, %r1;\n@%p2 bra LOOP;\nSHORT:\n"
      "shfl.sync.idx.b32 %r3, %r1, 31, 31, -1;\nsetp.ne.u32 %p3, %r3, 31;\n@%p3 trap;\n";
  check_orders(ptx_kernel(1, text), {}, {32, 1, 1}, kClean);
}

TEST_CASE("a shuffle from a lane that is not there") {
  const std::string text =
      "mov.u32 %r1, %tid.x;\nsetp.ge.u32 %p1, %r1, 16;\n@%p1 bra END;\nshfl.sync.FROM, 31, "
      "0xffff;\nEND:\n";
  std::string inside = text, outside = text;
  inside.replace(inside.find("FROM"), 4, "bfly.b32 %r2, %r1, 8");
  outside.replace(outside.find("FROM"), 4, "bfly.b32 %r2, %r1, 16");
  check_orders(ptx_kernel(1, inside), {}, {32, 1, 1}, kClean);
  check_orders(ptx_kernel(1, outside), {}, {32, 1, 1}, Kind::inactive_source);
}

TEST_CASE("deadlock, watchdog and trap end a launch") {
  const std::string half = "mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 32;\n";
  check_orders(ptx_kernel(1, half + "@%p1 bar.sync 1, 64;\n@!%p1 bar.sync 2, 64;\n"), {},
               {64, 1, 1}, Kind::deadlock);
  check_orders(ptx_kernel(1, half + "@%p1 bra END;\nbar.sync 0;\nEND:\n"), {}, {64, 1, 1}, kClean);
  check_orders(ptx_kernel(1, "trap;"), {}, {}, Kind::trap);
  World world;
  world.options.max_instructions = 10000;
  const Report report = world.run(ptx_kernel(0, "LOOP: bra LOOP;"), {}, {}, 0);
  CHECK(report.has(Kind::watchdog));
  CHECK(report.instructions < 11000);
  const Report spin = world.run(
      ptx_kernel(1, kWord +
                        "LOOP: ld.volatile.global.u32 %r5, [%pointer0];\nsetp.ne.u32 %p1, %r5, 1;\n"
                        "@%p1 bra LOOP;"),
      {2, 1, 1}, {32, 1, 1}, 0, world.put(std::vector<u32>(64)));
  CHECK(spin.has(Kind::watchdog));
}

TEST_CASE("barriers with counts that cannot be") {
  World world;
  const auto run = [&](const std::string& body) {
    return world.run(ptx_kernel(0, body), {}, {64, 1, 1}, 0);
  };
  CHECK(run("bar.sync 1, 64;").clean());
  CHECK(run("bar.sync 1, 40;").has(Kind::barrier));
  CHECK(run("bar.sync 1, 128;").has(Kind::barrier));
  CHECK(run("mov.u32 %r1, 16;\nbarrier.sync %r1;").has(Kind::barrier));
  // Whoever comes first, one of the two waits for a count that the other does not know.
  CHECK_FALSE(run("mov.u32 %r1, %tid.x;\nand.b32 %r1, %r1, 32;\nadd.u32 %r1, %r1, 32;\n"
                  "barrier.sync 1, %r1;")
                  .clean());
}

TEST_CASE("findings are gathered by line and counted") {
  World world;
  const Report report = world.run(ptx_kernel(0, "mov.u64 %a1, 4096;\nld.global.u32 %r1, [%a1];"),
                                  {2, 1, 1}, {64, 1, 1}, 0);
  REQUIRE(report.findings.size() == 1);
  CHECK(report.findings[0].kind == Kind::bounds_global);
  CHECK(report.findings[0].times == 128);
  CHECK(report.findings[0].line == 9);
  CHECK(report.text().find("PTX line 9") != std::string::npos);
  CHECK(report.text().find("(128 times)") != std::string::npos);
}

TEST_CASE("the same seed is the same run") {
  std::string first;
  for (int k = 0; k < 2; ++k) {
    World world;
    world.options.seed = 5;
    const Address memory = world.put(std::vector<u32>(4096));
    const Report report = world.run(
        ptx_kernel(1, kWord + "st.global.u32 [%a1], %r1;\nld.global.u32 %r5, [%pointer0];\n"),
        {8, 1, 1}, {128, 1, 1}, 0, memory);
    if (k == 0) first = report.text();
    CHECK(report.text() == first);
  }
}

}  // namespace
}  // namespace dsv32::ptxemu
