// Short PTX in tests: a machine, a kernel from a few lines, and what came of it.
#ifndef DSV32_TESTS_PTXEMU_KERNEL_WORLD_H_
#define DSV32_TESTS_PTXEMU_KERNEL_WORLD_H_

#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/ptxemu/machine.h"
#include "tests/support/catch.h"

namespace dsv32::ptxemu {

inline std::string ptx_module(const std::string& text) {
  return ".version 9.0\n.target sm_80\n.address_size 64\n" + text;
}

// A kernel "k" whose parameters are pointers p0, p1, .. of 64 bits. In its body there are
// registers of each size, %p<9> %h<40> %r<40> %f<40> %d<40> %a<40>, and for each pointer %pN.
inline std::string ptx_kernel(int pointers, const std::string& body,
                              const std::string& before = {}) {
  std::string parameters, loads;
  for (int k = 0; k < pointers; ++k) {
    const std::string n = std::to_string(k);
    parameters += (k == 0 ? "" : ", ") + std::string(".param .u64 p") + n;
    loads += "ld.param.u64 %pointer" + n + ", [p" + n + "];\n";
  }
  return ptx_module(before + ".visible .entry k(" + parameters + ")\n{\n" +
                    ".reg .pred %p<9>; .reg .b16 %h<40>; .reg .b32 %r<40>; .reg .f32 %f<40>;\n" +
                    ".reg .f64 %d<40>; .reg .b64 %a<40>; .reg .b64 %pointer<9>;\n" + loads + body +
                    "\nret;\n}\n");
}

inline Module parsed(const std::string& text) {
  const ParseResult result = parse(text);
  INFO("line " << result.line << ": " << result.error);
  REQUIRE(result.ok);
  return result.module;
}

struct World {
  Machine machine{std::size_t{1} << 28};
  Options options;

  template <class T>
  Address put(const std::vector<T>& values, const std::string& name = "buffer") {
    const Address address = machine.allocate(values.size() * sizeof(T), name);
    REQUIRE(address != 0);
    REQUIRE(machine.write(address, values.data(), values.size() * sizeof(T)).empty());
    return address;
  }
  template <class T>
  std::vector<T> get(Address address, std::size_t count) const {
    std::vector<T> values(count);
    REQUIRE(machine.read(values.data(), address, count * sizeof(T)).empty());
    return values;
  }
  // Parameters as the kernel wants them, each in its place.
  template <class... Values>
  Report run_kernel(const Module& module, const std::string& name, const Launch& shape,
                    Values... values) {
    const Kernel* kernel = module.kernel(name);
    REQUIRE(kernel != nullptr);
    std::vector<std::byte> parameters(kernel->parameter_bytes);
    std::size_t at = 0;
    [[maybe_unused]] const auto pack = [&](const auto& value) {
      REQUIRE(at < kernel->parameters.size());
      REQUIRE(kernel->parameters[at].bytes == sizeof value);
      std::memcpy(&parameters[kernel->parameters[at++].offset], &value, sizeof value);
    };
    (pack(values), ...);
    const Machine::Loaded loaded = machine.load(module);
    REQUIRE(loaded != 0);
    Launch launch = shape;
    launch.parameters = parameters;
    const Report report = machine.run(loaded, name, launch, options);
    machine.unload(loaded);
    return report;
  }
  template <class... Values>
  Report run(const std::string& text, Size3 grid, Size3 block, unsigned dynamic_shared,
             Values... values) {
    return run_kernel(parsed(text), "k", {grid, block, dynamic_shared, {}}, values...);
  }
};

// Instructions on up to 32 lanes: `a`, `b` and `c` come in %a1.. (64 bits), %r1.. (32) and %h1..
// (16), the result goes out of %a0, %r0 or %h0, whichever `bytes` says.
inline std::vector<std::uint64_t> on_lanes(const std::string& instructions, unsigned bytes,
                                           const std::vector<std::vector<std::uint64_t>>& inputs) {
  World world;
  std::string body = "mov.u32 %r39, %laneid;\nmul.wide.u32 %a39, %r39, 8;\n";
  std::vector<std::uint64_t> all;
  for (std::size_t k = 0; k < 3; ++k) {
    const std::string n = std::to_string(k + 1);
    body += "add.s64 %a38, %pointer0, %a39;\nld.global.u64 %a" + n + ", [%a38+" +
            std::to_string(256 * k) + "];\ncvt.u32.u64 %r" + n + ", %a" + n + ";\ncvt.u16.u64 %h" +
            n + ", %a" + n + ";\nmov.b64 %d" + n + ", %a" + n + ";\nmov.b32 %f" + n + ", %r" + n +
            ";\n";
    std::vector<std::uint64_t> lanes = k < inputs.size() ? inputs[k] : std::vector<std::uint64_t>{};
    lanes.resize(32, lanes.empty() ? 0 : lanes.back());
    all.insert(all.end(), lanes.begin(), lanes.end());
  }
  body += "mov.u64 %a0, 0;\nmov.u32 %r0, 0;\nmov.u16 %h0, 0;\n" + instructions + "\n";
  if (bytes == 2) body += "cvt.u64.u16 %a0, %h0;\n";
  if (bytes == 4) body += "cvt.u64.u32 %a0, %r0;\n";
  body += "add.s64 %a38, %pointer1, %a39;\nst.global.u64 [%a38], %a0;\n";
  const Address in = world.put(all), out = world.put(std::vector<std::uint64_t>(32));
  const Report report = world.run(ptx_kernel(2, body), {1, 1, 1}, {32, 1, 1}, 0, in, out);
  INFO(report.text());
  CHECK(report.clean());
  return world.get<std::uint64_t>(out, 32);
}

inline std::uint64_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_KERNEL_WORLD_H_
