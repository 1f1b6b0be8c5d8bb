// Counters of memory against what can be counted by hand.
#include "tests/ptxemu/meter.h"

#include <vector>

#include "tests/support/catch.h"

namespace dsv32::ptxemu {
namespace {

std::vector<LaneBytes> lanes(std::uint64_t stride, unsigned bytes, unsigned count = 32) {
  std::vector<LaneBytes> all;
  for (unsigned i = 0; i < count; ++i) all.push_back({i * stride, bytes});
  return all;
}

TEST_CASE("passes of shared memory are those of its banks", "[quick]") {
  CHECK(bank_passes(lanes(4, 4)) == 1);
  CHECK(bank_passes(lanes(0, 4)) == 1);     // one word for all
  CHECK(bank_passes(lanes(2, 2)) == 1);     // two lanes a word
  CHECK(bank_passes(lanes(8, 4)) == 2);     // every second bank
  CHECK(bank_passes(lanes(128, 4)) == 32);  // one bank
  CHECK(bank_passes(lanes(132, 4)) == 1);
  CHECK(bank_passes(lanes(8, 8)) == 2);    // by halves
  CHECK(bank_passes(lanes(16, 16)) == 4);  // by quarters
  CHECK(bank_passes(lanes(128, 16)) == 32);
  CHECK(bank_passes(lanes(144, 16)) == 4);
  CHECK(bank_passes(lanes(16, 16, 8)) == 1);
  CHECK(least_passes(lanes(128, 16)) == 4);
  CHECK(least_passes(lanes(128, 4)) == 1);
}

TEST_CASE("a meter counts sectors, and what a cache has no room for", "[quick]") {
  Meter meter(64 * kSector);
  meter.global(lanes(4, 4), false);  // four sectors
  CHECK(meter.l2_bytes() == 128);
  CHECK(meter.unique_bytes() == 128);
  CHECK(meter.dram_bytes() == 128);
  meter.global(lanes(4, 4), false);  // again, from L2
  CHECK(meter.l2_bytes() == 256);
  CHECK(meter.dram_bytes() == 128);
  meter.global(lanes(32, 4), true);  // 4 bytes of each of 32 sectors, of which four were read
  CHECK(meter.unique_bytes() == 128 + 28 * 4);
  CHECK(meter.unique_sector_bytes() == 32 * kSector);
  CHECK(meter.dram_bytes() == 128 + 32 * kSector);
  for (int i = 1; i <= 64; ++i)
    meter.global(std::vector<LaneBytes>{{1000 * kSector + i * kSector, 4}}, false);
  meter.global(lanes(4, 4), false);  // forgotten by now
  CHECK(meter.dram_bytes() == 128 + 32 * kSector + 64 * kSector + 128);
}

TEST_CASE("a meter's conflicts are of a line", "[quick]") {
  Meter meter(1 << 20);
  meter.shared(lanes(4, 4), 7);
  CHECK(meter.shared_conflicts() == 0);
  meter.shared(lanes(128, 16), 9);
  CHECK(meter.shared_passes() == 33);
  CHECK(meter.shared_conflicts() == 28);
  CHECK(meter.conflicts().at(9) == 28);
}

}  // namespace
}  // namespace dsv32::ptxemu
