// Kernels as a whole: parameters, memory, functions, and what the machine says of a bad launch.
#include <numeric>

#include "tests/ptxemu/kernel_world.h"

namespace dsv32::ptxemu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

TEST_CASE("memory of the device is apart from the host's and from another machine's") {
  Machine one(1 << 20), other(1 << 20);
  const Address a = one.allocate(1000, "a"), b = other.allocate(1000, "b");
  CHECK(a % 256 == 0);
  CHECK(one.bytes_used() == 1000);
  CHECK(one.room(a + 400) == 600);
  CHECK(one.begin_of(a + 999) == a);
  CHECK(one.begin_of(a + 1000) == 0);
  CHECK(one.room(b) == 0);
  CHECK(one.allocate(1 << 20) == 0);  // with the thousand it is too much
  CHECK(one.never_written(a, 1000) == 1000);
  const u32 word = 7;
  CHECK(one.write(a + 996, &word, 4).empty());
  CHECK(one.never_written(a, 1000) == 996);
  CHECK(one.write(a + 997, &word, 4).find("a+997 of 1000 bytes") != std::string::npos);
  u32 back = 0;
  CHECK(one.read(&back, a + 996, 4).empty());
  CHECK(back == 7);
  const Address c = one.allocate(8, "c");
  CHECK(one.copy(c, a + 992, 8).empty());
  CHECK(one.never_written(c, 8) == 4);
  CHECK(one.release(a));
  CHECK_FALSE(one.release(a));
  CHECK(one.read(&back, a, 4).find("freed") != std::string::npos);
  CHECK(one.allocate(1000) != a);
}

TEST_CASE("parameters of every size lie where the kernel says") {
  const Module module = parsed(ptx_module(
      ".visible .entry k(.param .u8 a, .param .u64 .ptr .align 1 b, .param .align 8 .b8 c[12], "
      ".param .u32 d)\n.maxntid 128, 1, 1\n.minnctapersm 2\n{\n.reg .b32 %r<5>; .reg .b64 %a<3>;\n"
      "ld.param.u8 %r1, [a];\nld.param.u64 %a1, [b];\nld.param.u32 %r2, [c+8];\n"
      "ld.param.u32 %r3, [d];\nadd.u32 %r1, %r1, %r2;\nadd.u32 %r1, %r1, %r3;\n"
      "st.global.u32 [%a1], %r1;\nmov.b64 %a2, c;\nld.param.u32 %r4, [%a2+4];\n"
      "st.global.u32 [%a1+4], %r4;\nret;\n}\n"));
  const Kernel& kernel = module.kernels().at(0);
  CHECK(kernel.max_block.x == 128);
  CHECK(kernel.parameter_bytes == 32);
  const std::size_t offsets[] = {0, 8, 16, 28}, bytes[] = {1, 8, 12, 4};
  for (std::size_t k = 0; k < 4; ++k) {
    CHECK(kernel.parameters[k].offset == offsets[k]);
    CHECK(kernel.parameters[k].bytes == bytes[k]);
  }
  Machine machine(1 << 20);
  const Address out = machine.allocate(8);
  std::vector<std::byte> parameters(32);
  const u32 c[3] = {1, 50, 30}, d = 100;
  parameters[0] = std::byte{5};
  std::memcpy(&parameters[8], &out, 8);
  std::memcpy(&parameters[16], c, 12);
  std::memcpy(&parameters[28], &d, 4);
  const Report report = machine.run(machine.load(module), "k", {{}, {}, 0, parameters}, {});
  INFO(report.text());
  CHECK(report.clean());
  u32 result[2] = {};
  CHECK(machine.read(result, out, 8).empty());
  CHECK(result[0] == 135);
  CHECK(result[1] == 50);
}

TEST_CASE("loads and stores of every width, with and without a sign") {
  World world;
  const Address in = world.put(std::vector<u32>{0x80ff7f01, 0x12345678, 0xfffffffe, 4});
  const Address out = world.put(std::vector<u32>(12));
  const Report report =
      world.run(ptx_kernel(2,
                           "ld.global.s8 %r1, [%pointer0+3];\nst.global.u32 [%pointer1], %r1;\n"
                           "ld.global.u8 %h1, [%pointer0+3];\ncvt.u32.u16 %r1, %h1;\n"
                           "st.global.u32 [%pointer1+4], %r1;\n"
                           "ld.global.s16 %r1, [%pointer0+2];\nst.global.u32 [%pointer1+8], %r1;\n"
                           "ld.global.nc.v2.u32 {%r1, %r2}, [%pointer0+8];\nst.global.v2.b32 "
                           "[%pointer1+16], {%r2, %r1};\n"
                           "ld.global.v4.u32 {%r1, _, %r3, %r4}, [%pointer0];\nst.global.u32 "
                           "[%pointer1+24], %r3;\nst.global.u8 [%pointer1+28], %r1;\n"
                           "ld.global.s32 %a1, [%pointer0+8];\nst.global.u64 [%pointer1+32], %a1;\n"
                           "st.global.v2.f32 [%pointer1+40], {0f3F800000, %f1};"),
                {}, {}, 0, in, out);
  INFO(report.text());
  CHECK(report.clean());
  const auto words = world.get<u32>(out, 12);
  CHECK(words[0] == 0xffffff80);
  CHECK(words[1] == 0x80);
  CHECK(words[2] == 0xffff80ff);
  CHECK(words[4] == 4);
  CHECK(words[5] == 0xfffffffe);
  CHECK(words[6] == 0xfffffffe);
  CHECK(words[7] == 1);
  CHECK(words[8] == 0xfffffffe);
  CHECK(words[9] == 0xffffffff);
  CHECK(words[10] == 0x3f800000);
}

TEST_CASE("variables of a module have their first values and their addresses") {
  World world;
  const Address out = world.put(std::vector<u32>(8));
  const std::string variables =
      ".const .align 4 .u32 table[4] = {10, 20, 30};\n"
      ".global .align 4 .b8 bytes[8] = {1, 0, 0, 0, 2};\n"
      ".global .align 8 .u64 where = bytes+4;\n.global .f32 one = 0f3F800000;\n.global .u32 "
      "zero;\n";
  const Report report =
      world.run(ptx_kernel(1,
                           "ld.const.u32 %r1, [table+8];\nst.global.u32 [%pointer0], %r1;\n"
                           "ld.const.u32 %r1, [table+12];\nst.global.u32 [%pointer0+4], %r1;\n"
                           "ld.global.u64 %a1, [where];\nld.u32 %r1, [%a1];\nst.global.u32 "
                           "[%pointer0+8], %r1;\n"
                           "ld.global.f32 %f1, [one];\nst.global.f32 [%pointer0+12], %f1;\n"
                           "ld.global.u32 %r1, [zero];\nst.global.u32 [%pointer0+16], %r1;\n"
                           "mov.u64 %a1, table;\nadd.s64 %a1, %a1, 4;\nld.const.u32 %r1, [%a1];\n"
                           "st.global.u32 [%pointer0+20], %r1;",
                           variables),
                {}, {}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  CHECK(world.get<u32>(out, 6) == std::vector<u32>{30, 0, 2, 0x3f800000, 0, 20});
}

TEST_CASE("functions call themselves and others, by name and by address") {
  const std::string functions =
      ".func (.param .b32 result) factorial(.param .b32 n)\n{\n.reg .pred %p<2>; .reg .b32 %r<5>;\n"
      "ld.param.u32 %r1, [n];\nsetp.lt.u32 %p1, %r1, 2;\n@%p1 bra ONE;\nsub.u32 %r2, %r1, 1;\n"
      "{ .param .b32 in; st.param.b32 [in+0], %r2; .param .b32 out;\ncall.uni (out), factorial, "
      "(in);\nld.param.b32 %r3, [out+0]; }\nmul.lo.u32 %r4, %r3, %r1;\nst.param.b32 [result+0], "
      "%r4;\nret;\nONE:\nst.param.b32 [result+0], 1;\nret;\n}\n"
      ".func (.param .b32 result) twice(.param .b32 n)\n{\n.reg .b32 %r<3>;\nld.param.u32 %r1, "
      "[n];\nadd.u32 %r2, %r1, %r1;\nst.param.b32 [result+0], %r2;\nret;\n}\n";
  World world;
  const Address out = world.put(std::vector<u32>(32));
  const Report report = world.run(
      ptx_kernel(1,
                 "mov.u32 %r1, %tid.x;\nand.b32 %r2, %r1, 7;\n"
                 "mov.u64 %a1, factorial;\nsetp.lt.u32 %p1, %r1, 16;\n@%p1 bra GO;\nmov.u64 %a1, "
                 "twice;\nGO:\n"
                 "{ .param .b32 in; st.param.b32 [in+0], %r2; .param .b32 out;\nproto : "
                 ".callprototype (.param .b32 _) _ (.param .b32 _);\ncall (out), %a1, (in), "
                 "proto;\nld.param.b32 %r3, [out+0]; }\n"
                 "mul.wide.u32 %a2, %r1, 4;\nadd.s64 %a2, %pointer0, %a2;\nst.global.u32 [%a2], "
                 "%r3;",
                 functions),
      {}, {32, 1, 1}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  const auto results = world.get<u32>(out, 32);
  const u32 factorials[] = {1, 1, 2, 6, 24, 120, 720, 5040};
  for (u32 k = 0; k < 32; ++k) CHECK(results[k] == (k < 16 ? factorials[k % 8] : 2 * (k % 8)));
}

TEST_CASE("a switch by table, and lanes that part meet again") {
  World world;
  const Address out = world.put(std::vector<u32>(32));
  const Report report = world.run(
      ptx_kernel(
          1,
          "mov.u32 %r1, %tid.x;\nand.b32 %r2, %r1, 3;\nTS: .branchtargets A, B, C, A;\n"
          "brx.idx %r2, TS;\nA: mov.u32 %r3, 10; bra.uni END;\nB: mov.u32 %r3, 20; bra END;\n"
          "C: mov.u32 %r3, 30;\nEND:\nactivemask.b32 %r4;\nsetp.ne.u32 %p1, %r4, -1;\n"
          "@%p1 mov.u32 %r3, 99;\n"
          "mul.wide.u32 %a2, %r1, 4;\nadd.s64 %a2, %pointer0, %a2;\nst.global.u32 [%a2], "
          "%r3;"),
      {}, {32, 1, 1}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  const u32 expected[] = {10, 20, 30, 10};
  const auto results = world.get<u32>(out, 32);
  for (u32 k = 0; k < 32; ++k) CHECK(results[k] == expected[k % 4]);
}

TEST_CASE("local memory is each thread's own") {
  World world;
  const Address out = world.put(std::vector<u32>(64));
  const Report report = world.run(
      ptx_kernel(1,
                 ".local .align 16 .b8 depot[64];\nmov.u64 %a1, depot;\ncvta.local.u64 %a2, %a1;\n"
                 "mov.u32 %r1, %tid.x;\nand.b32 %r2, %r1, 15;\nmul.wide.u32 %a3, %r2, 4;\n"
                 "add.s64 %a4, %a2, %a3;\nst.u32 [%a4], %r1;\nadd.s64 %a5, %a1, %a3;\n"
                 "ld.local.u32 %r3, [%a5];\nmul.wide.u32 %a6, %r1, 4;\nadd.s64 %a6, %pointer0, "
                 "%a6;\nst.global.u32 [%a6], %r3;"),
      {}, {64, 1, 1}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  std::vector<u32> expected(64);
  std::iota(expected.begin(), expected.end(), 0u);
  CHECK(world.get<u32>(out, 64) == expected);
}

TEST_CASE("kernels have the shared memory that they name, and dynamic memory behind it") {
  const Module module = parsed(ptx_module(
      ".shared .align 4 .b8 first[100];\n.shared .align 16 .b8 second[32];\n"
      ".extern .shared .align 128 .b8 rest[];\n"
      ".visible .entry one()\n{\n.reg .b32 %r<3>;\nmov.u32 %r1, first;\nst.shared.u32 [first], "
      "%r1;\nret;\n}\n"
      ".visible .entry both()\n{\n.reg .b32 %r<3>;\nmov.u32 %r1, second;\nst.shared.u32 "
      "[first+96], %r1;\nst.shared.u32 [rest+4], %r1;\nret;\n}\n"));
  CHECK(module.kernel("one")->static_shared == 100);
  CHECK(module.kernel("both")->static_shared == 256);
  Machine machine(1 << 20);
  const Machine::Loaded loaded = machine.load(module);
  CHECK(machine.run(loaded, "both", {{}, {}, 8, {}}, {}).clean());
  CHECK(machine.run(loaded, "both", {{}, {}, 4, {}}, {}).has(Kind::bounds_shared));
}

TEST_CASE("a bad launch runs nothing and says why") {
  World world;
  const std::string text = ptx_kernel(1, "st.global.u32 [%pointer0], 1;");
  const Address out = world.put(std::vector<u32>(1));
  CHECK(world.run(text, {}, {2048, 1, 1}, 0, out).has(Kind::bad_launch));
  CHECK(world.run(text, {1, 1, 65536}, {}, 0, out).has(Kind::bad_launch));
  CHECK(world.run(text, {}, {0, 1, 1}, 0, out).has(Kind::bad_launch));
  CHECK(world.run(text, {}, {}, 300000, out).has(Kind::bad_launch));
  CHECK(world.get<u32>(out, 1)[0] == 0);
  Machine machine(1 << 20);
  const Machine::Loaded loaded = machine.load(parsed(text));
  CHECK(machine.run(loaded, "k", {{}, {}, 0, {}}, {}).text().find("0 bytes of parameters") !=
        std::string::npos);
  CHECK(machine.run(loaded, "other", {{}, {}, 0, {}}, {}).has(Kind::bad_launch));
  machine.unload(loaded);
  CHECK(machine.run(loaded, "k", {{}, {}, 0, {}}, {}).has(Kind::bad_launch));
}

TEST_CASE("threads of three dimensions, and warps that are not full") {
  World world;
  const Address out = world.put(std::vector<u32>(5 * 3 * 3 * 4));
  const Report report = world.run(
      ptx_kernel(1,
                 "mov.u32 %r1, %tid.z; mov.u32 %r2, %ntid.y; mov.u32 %r3, %tid.y;\n"
                 "mad.lo.u32 %r1, %r1, %r2, %r3; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;\n"
                 "mad.lo.u32 %r1, %r1, %r2, %r3; mov.u32 %r4, %ctaid.y; mov.u32 %r5, %nctaid.x;\n"
                 "mov.u32 %r6, %ctaid.x; mad.lo.u32 %r4, %r4, %r5, %r6; mad.lo.u32 %r1, %r4, 45, "
                 "%r1;\nmul.wide.u32 %a1, %r1, 4; add.s64 %a1, %pointer0, %a1; st.global.u32 "
                 "[%a1], %r1;"),
      {2, 2, 1}, {5, 3, 3}, 0, out);
  INFO(report.text());
  CHECK(report.clean());
  std::vector<u32> expected(180);
  std::iota(expected.begin(), expected.end(), 0u);
  CHECK(world.get<u32>(out, 180) == expected);
}

}  // namespace
}  // namespace dsv32::ptxemu
