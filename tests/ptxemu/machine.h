// A GPU without a GPU: executes the PTX that nvcc wrote, a warp of 32 lanes at each interpreted
// instruction, and looks at every access on the way. Numbers of sections are those of NVIDIA's
// "PTX ISA" 9.0. What it cannot show: the machine code that ptxas makes of PTX, time, power.
//
// Nothing here is global: two machines are two devices, and an address of one is none of the other.
// One thread at a time may use a machine; modules may be parsed on any.
#ifndef DSV32_TESTS_PTXEMU_MACHINE_H_
#define DSV32_TESTS_PTXEMU_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/ptxemu/tensor_units.h"

namespace dsv32::ptxemu {

class Meter;  // meter.h

using Address = std::uint64_t;  // of device memory; no pointer of the host

// What a kernel did that is wrong on some GPU, on some day, with some schedule.
enum class Kind : std::uint8_t {
  race_shared,      // two accesses of a CTA's shared memory, one a write, that nothing orders
  race_global,      // the same in global memory, of one CTA or of two
  conflict_global,  // two threads of one launch write a byte, and nothing orders them
  uninitialised_shared,
  uninitialised_global,
  bounds_shared,
  bounds_global,    // of no allocation, of one that was freed, or across the end of one
  bounds_local,     // .local, .param and .const memory
  write_to_const,   // constant memory, parameters, or an allocation made read-only
  misaligned,       // an access that is no multiple of its size
  divergent_sync,   // a .sync instruction that not all lanes of its mask came to
  inactive_source,  // a lane's value is taken that did not take part
  barrier,          // bar: thread counts that no multiple of 32 are, differ, or are exceeded
  async_copy,       // cp.async: sizes, and a CTA that ends with copies in flight
  deadlock,         // every warp waits
  watchdog,         // more warp instructions than Options allow
  trap,             // trap, brkpt, a failed assert
  bad_launch,       // sizes that no device takes, parameters of other sizes
  bad_instruction,  // tensor instructions that the mode's hardware lacks, stack overflow
  count
};
const char* kind_name(Kind kind);

struct Finding {
  Kind kind = Kind::count;
  std::string text;         // of the first time, with block, thread and PTX line
  int line = 0;             // of the PTX text, from 1; 0: none
  std::uint64_t times = 0;  // at that line
};

struct Report {
  std::vector<Finding> findings;   // in order of their first time; empty: clean
  std::uint64_t instructions = 0;  // of warps
  bool clean() const { return findings.empty(); }
  bool has(Kind kind) const;
  std::string text() const;  // a line for each finding
};

enum class Order : std::uint8_t {
  random,    // warps by the seed, a few instructions at a time; CTAs shuffled by it
  forward,   // warps in turns, CTAs ascending
  backward,  // the same from the other end
};

struct Options {
  Mode mode = Mode::ideal;  // whose tensor cores
  std::uint64_t seed = 1;
  Order order = Order::random;
  bool eager = false;  // asynchronous copies land when issued instead of when waited for
  bool detect = true;  // false: values only, no races, no uninitialised reads
  std::uint64_t max_instructions = 2'000'000'000;
  std::uint32_t ignored = 0;  // bits 1 << Kind; the execution goes on as if found
  Meter* meter = nullptr;     // counts, if there is one
};

struct Size3 {
  unsigned x = 1, y = 1, z = 1;
};

// Parameters as they lie in .param space: one behind the other, each aligned, as Kernel says.
struct Launch {
  Size3 grid, block;
  unsigned dynamic_shared = 0;  // bytes
  std::span<const std::byte> parameters;
};

struct Parameter {
  std::string name;
  std::size_t offset = 0, bytes = 0;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  std::size_t parameter_bytes = 0;
  std::size_t static_shared = 0, local_bytes = 0;  // bytes; local of a thread
  Size3 max_block{0, 0, 0};                        // .maxntid; 0: not said
  Size3 required_block{0, 0, 0};                   // .reqntid
  unsigned registers = 0;                          // of 32 bits as declared, at most 255
};

struct Symbol {  // of the module's .global and .const variables
  std::string name;
  std::size_t bytes = 0, alignment = 1;
  bool constant = false;
};

struct Code;  // the decoded functions

// A module's text, decoded. Copies share what they hold.
class Module {
 public:
  const std::vector<Kernel>& kernels() const;
  const std::vector<Symbol>& symbols() const;
  const Kernel* kernel(std::string_view name) const;
  const std::string& target() const;  // "sm_80"
  int version() const;                // 90: ".version 9.0"

 private:
  friend struct ModuleAccess;
  std::shared_ptr<const Code> code_;
};

struct ParseResult {
  bool ok = false;
  Module module;      // if ok
  std::string error;  // if not, with the text that is meant
  int line = 0;
};
ParseResult parse(std::string_view ptx);

// Device memory: allocations with room between them, whose bytes know whether they were written.
class Machine {
 public:
  explicit Machine(std::size_t memory_bytes = std::size_t{16} << 30);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // 256-aligned; its bytes are not zero and count as never written. 0: it does not fit.
  Address allocate(std::size_t bytes, std::string_view name = {});
  bool release(Address address);  // false: no allocation begins there
  std::size_t bytes_used() const;
  std::size_t bytes_total() const;
  // Bytes of the allocation from this address on; 0: it lies in none.
  std::size_t room(Address address) const;
  Address begin_of(Address address) const;  // of the allocation that it lies in; 0: none

  // Empty, or what was wrong: nothing is copied then. The host's writes count as writes; copies
  // within the device carry along what was never written.
  std::string write(Address to, const void* from, std::size_t bytes);
  std::string read(void* to, Address from, std::size_t bytes) const;
  std::string fill(Address to, std::uint8_t value, std::size_t bytes);
  std::string copy(Address to, Address from, std::size_t bytes);
  std::string protect(Address allocation, bool read_only);           // against kernels
  std::size_t never_written(Address from, std::size_t bytes) const;  // how many of these

  // A module with its variables in this machine's memory. 0: no room for them.
  using Loaded = std::uint64_t;
  Loaded load(const Module& module);
  void unload(Loaded loaded);
  Address symbol(Loaded loaded, std::string_view name, std::size_t* bytes = nullptr) const;

  // Every finding but one lets the kernel go on, a wrong access reads ones and writes nothing;
  // deadlock, watchdog, trap and bad_launch end it.
  Report run(Loaded loaded, std::string_view kernel, const Launch& launch, const Options& options);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_MACHINE_H_
