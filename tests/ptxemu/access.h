// One lane's access to memory: where it goes, whether it may, and what it races with.
#ifndef DSV32_TESTS_PTXEMU_ACCESS_H_
#define DSV32_TESTS_PTXEMU_ACCESS_H_

#include "tests/ptxemu/warp.h"

namespace dsv32::ptxemu {

// PTX ISA, "State Spaces". Constant memory is device memory that kernels may not write.
enum class Space : std::uint8_t { generic, global, shared, local, kernel_params, params };

// How, of Instruction::detail2: bits.
inline constexpr unsigned kWrites = 1, kReads = 2;  // atomics do both
inline constexpr unsigned kStrongAccess = 4;        // see kStrong
inline constexpr unsigned kAcquires = 8, kReleases = 16;
inline constexpr unsigned kWide = 32;  // gpu or sys scope, not cta

// The bytes, or null with a finding. A generic address may turn out to be of any space.
std::byte* locate(Warp& w, const Instruction& i, unsigned lane, Space space, Address address,
                  unsigned bytes, unsigned how);

Access access_of(Warp& w, unsigned lane, unsigned how);

// Where a copy lands, judged by what its thread knew when it was issued.
std::byte* locate_copied(Warp& w, const Instruction& i, unsigned lane, const Copy& copy);

// Tells the launch's meter, if it has one.
void measure(Warp& w, const Instruction& i, Lanes mask, Space space,
             const Address (&addresses)[kLanes], unsigned bytes, unsigned how);

inline Address address_of(Warp& w, const Instruction& i, std::uint32_t slot, unsigned lane) {
  const Address base =
      i.wide ? w.lanes<Address>(slot)[lane] : Address{w.lanes<std::uint32_t>(slot)[lane]};
  const Address sum = base + static_cast<Address>(i.imm);
  return i.wide ? sum : sum & 0xffffffffu;
}

// What strong accesses hand on (PTX ISA, "Release and Acquire Patterns"), after the access.
void hand_on(Warp& w, unsigned lane, Space space, Address address, unsigned how);
void fence(Warp& w, Lanes lanes, bool wide);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_ACCESS_H_
