// What a launch moves and multiplies, counted at each instruction of a warp, for models of its
// time. Nothing here is a time: what a GPU makes of these numbers is measured on one.
#ifndef DSV32_TESTS_PTXEMU_METER_H_
#define DSV32_TESTS_PTXEMU_METER_H_

#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <unordered_map>
#include <unordered_set>

namespace dsv32::ptxemu {

inline constexpr std::uint64_t kSector = 32;  // bytes that global memory moves at least

// One lane's part of an access.
struct LaneBytes {
  std::uint64_t address = 0;
  unsigned bytes = 0;
};

// The passes that shared memory's 32 banks of four bytes need for an access of a warp: lanes of 4
// bytes or fewer go together, of 8 bytes by halves, of 16 by quarters ("CUDA C++ Programming
// Guide", shared memory); lanes that read one word share it.
unsigned bank_passes(std::span<const LaneBytes> lanes);
// What they would be without a conflict.
unsigned least_passes(std::span<const LaneBytes> lanes);

class Meter {
 public:
  // Of an L2 cache of so many bytes, which forgets what was used longest ago.
  explicit Meter(std::uint64_t l2_bytes) : l2_sectors_(l2_bytes / kSector) {}

  void global(std::span<const LaneBytes> lanes, bool writes);
  void shared(std::span<const LaneBytes> lanes, int line);
  void tensor(std::uint64_t flop) { tensor_flop_ += flop; }

  // Bytes that differ from each other, read or written; the sectors that hold them; what went
  // between L2 and the multiprocessors, and between L2 and DRAM.
  std::uint64_t unique_bytes() const { return words_.size() * 4; }  // in whole words
  std::uint64_t unique_sector_bytes() const { return sectors_.size() * kSector; }
  std::uint64_t l2_bytes() const { return l2_accesses_ * kSector; }
  std::uint64_t dram_bytes() const { return (misses_ + written_.size()) * kSector; }
  std::uint64_t tensor_flop() const { return tensor_flop_; }
  std::uint64_t shared_passes() const { return shared_passes_; }
  std::uint64_t shared_conflicts() const;  // passes beyond the least
  // Of each PTX line that had some.
  const std::map<int, std::uint64_t>& conflicts() const { return conflicts_; }

 private:
  void use(std::uint64_t sector, bool writes);

  std::uint64_t l2_sectors_, l2_accesses_ = 0, misses_ = 0;
  std::uint64_t tensor_flop_ = 0, shared_passes_ = 0;
  std::unordered_set<std::uint64_t> words_, sectors_, written_;
  std::list<std::uint64_t> recent_;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> cached_;
  std::map<int, std::uint64_t> conflicts_;
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_METER_H_
