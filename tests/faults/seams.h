// Seams of the fault tests: system calls and allocations of the library that fail when told to. The
// linker puts them in (-Wl,--wrap, and this program's own operator new); the library knows nothing.
#ifndef DSV32_TESTS_FAULTS_SEAMS_H_
#define DSV32_TESTS_FAULTS_SEAMS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

namespace dsv32::test {

// Everything off. Calls are counted from 0; a fault happens once, at its number.
struct Seams {
  static constexpr long kNever = -1;

  int fail_map = kNever, fail_read = kNever;
  int fail_write = kNever, fail_sync = kNever, fail_rename = kNever;
  bool map_nothing = false;   // every mapping of a file fails
  bool lock_nothing = false;  // mlock fails
  int threads = 1 << 20;      // that may still be started
  int error = 0;              // errno of the failing call
  bool short_reads = false;   // a few bytes at a time, every other call interrupted
  bool short_writes = false;  // likewise
  std::function<void(const std::string& name)> on_open{};  // before openat
  bool fail_memory = false;                                // no memory by mmap
  int maps = 0, unmaps = 0, reads = 0;                     // of files
  std::size_t read_bytes = 0;                              // asked for
  int writes = 0, syncs = 0, renames = 0;
};
extern Seams seams;  // of the thread that tests

// Allocations of the thread that makes one of these: one fails, or all from there on.
class FailAllocation {
 public:
  enum class Which { one, all };
  explicit FailAllocation(long number, Which which = Which::one);  // counted from 0
  ~FailAllocation();
  FailAllocation(const FailAllocation&) = delete;
  FailAllocation& operator=(const FailAllocation&) = delete;
  static bool happened();
};

// Allocations of the thread that makes one of these, while it lives.
class CountAllocations {
 public:
  CountAllocations();
  long calls() const;
  std::size_t bytes() const;  // asked for

 private:
  long calls_;
  std::size_t bytes_;
};

// While it lives all new memory is 0xFF: NaN in every format.
class PoisonMemory {
 public:
  PoisonMemory();
  ~PoisonMemory();
  PoisonMemory(const PoisonMemory&) = delete;
  PoisonMemory& operator=(const PoisonMemory&) = delete;
};

int open_descriptors();  // of this process

}  // namespace dsv32::test

#endif  // DSV32_TESTS_FAULTS_SEAMS_H_
