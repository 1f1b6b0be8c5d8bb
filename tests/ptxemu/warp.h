// A launch in execution: grid, CTA, warp, and the frames and groups of lanes in a warp.
#ifndef DSV32_TESTS_PTXEMU_WARP_H_
#define DSV32_TESTS_PTXEMU_WARP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "tests/ptxemu/clocks.h"
#include "tests/ptxemu/code.h"
#include "tests/ptxemu/findings.h"
#include "tests/ptxemu/memory.h"

namespace dsv32::ptxemu {

struct Block;

// A function that lanes of a warp are in: its registers and its .param area.
struct Frame {
  const Function* function = nullptr;
  std::vector<std::byte> registers;
  std::vector<std::byte> params;  // lane after lane
  Frame* caller = nullptr;
  const Call* call = nullptr;
  std::uint32_t return_pc = 0;
  std::uint32_t local_base = 0;
  int depth = 0;
  Lanes lanes = 0;  // that are in it or in what it called
};

enum class Wait : std::uint8_t { none, lanes, barrier };

// Lanes at one instruction. A warp that diverged has several.
struct Group {
  Frame* frame = nullptr;
  std::uint32_t pc = 0;
  Lanes lanes = 0;
  Wait wait = Wait::none;
  bool forced = false;  // goes on without the lanes that it waited for in vain
};

struct Copy {  // cp.async in flight, of one lane
  std::uint32_t to = 0;
  std::uint8_t bytes = 0, taken = 0;
  Address from = 0;
  std::byte data[16];
  bool landed = false;  // eager: when issued
  Known known;          // when issued
  int line = 0;
};

struct LaneCopies {
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
};

struct Warp {
  Block* block = nullptr;
  unsigned index = 0;
  std::byte* registers = nullptr;  // of the frame that runs
  Frame* frame = nullptr;
  Lanes live = 0;
  bool detect = true;
  std::vector<Group> groups;
  std::size_t current = 0;  // the group that runs
  std::vector<std::unique_ptr<Frame>> frames;
  std::vector<std::unique_ptr<Frame>> spare;
  std::vector<std::byte> local[kLanes];
  std::vector<LaneCopies> copies;  // of each lane, from the first cp.async on

  unsigned thread(unsigned lane) const { return index * kLanes + lane; }
  template <class T>
  T* lanes(std::uint32_t slot) {
    return reinterpret_cast<T*>(registers + slot);
  }
  Lanes& bits(std::uint32_t slot) { return *lanes<Lanes>(slot); }
  Frame* enter(const Function& function, Frame* caller, Lanes lanes);
  void leave(Frame* frame, Lanes lanes);
  bool done() const { return groups.empty(); }
};

struct Barrier {
  std::vector<Lanes> who;  // that came, of each warp; empty: nobody did
  unsigned arrived = 0, expected = 0;
  std::uint32_t votes = 0;  // bar.red: lanes whose predicate held
  struct Waiting {
    unsigned warp;
    Lanes lanes;
    Frame* frame;
    const Instruction* instruction;
  };
  std::vector<Waiting> waiting;
};
inline constexpr int kBarriers = 16;

// What a release left at an address, by CTA and scope.
struct Released {
  std::uint32_t cta = 0;
  bool wide = false;  // gpu or sys scope
  View view;
};
using Releases = std::unordered_map<Address, std::vector<Released>>;

struct Grid;

struct Block {
  Grid* grid = nullptr;
  std::uint32_t index = 0;
  Size3 id;
  std::vector<std::byte> shared;
  Shadow shared_shadow;
  Clocks clocks;
  Releases releases;  // in shared memory
  std::vector<Warp> warps;
  Barrier barriers[kBarriers];
  unsigned live_threads = 0;

  Who who(unsigned thread) const { return index * kMaxThreads + thread; }
};

struct Grid {
  const Code* code = nullptr;
  const Function* function = nullptr;
  const SharedLayout* layout = nullptr;
  Memory* memory = nullptr;
  Findings* findings = nullptr;
  Options options;
  Size3 grid, block;
  std::uint32_t dynamic_shared = 0;
  std::vector<std::byte> parameters;
  std::vector<Address> variables;  // of the module's .global and .const
  Clock first = 1;                 // of this launch
  Releases releases;               // in global memory
  std::uint64_t instructions = 0;
  bool ended = false;  // by what no kernel goes on from
  std::mt19937_64 random;
  std::vector<Buffer*> last_buffers;  // by PTX line; neighbours mostly take the same

  unsigned below(unsigned count) { return static_cast<unsigned>(random() % count); }
};

// Lets copies land until so many groups are pending; or all, at a thread's end.
void land_copies(Warp& warp, Lanes mask, std::size_t pending);
void land_all_copies(Warp& warp, Lanes mask);

// A finding of the lane's thread at an instruction.
__attribute__((format(printf, 5, 6))) void report(Warp& warp, const Instruction& i, unsigned lane,
                                                  Kind kind, const char* format, ...);
// The same, of what ends the launch.
__attribute__((format(printf, 5, 6))) void end(Warp& warp, const Instruction& i, unsigned lane,
                                               Kind kind, const char* format, ...);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_WARP_H_
