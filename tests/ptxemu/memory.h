// Device memory (PTX ISA, "Global State Space"): allocations with gaps between them, so that an
// address beside one is an address of none.
#ifndef DSV32_TESTS_PTXEMU_MEMORY_H_
#define DSV32_TESTS_PTXEMU_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/ptxemu/shadow.h"

namespace dsv32::ptxemu {

struct Buffer {
  Address base = 0;
  std::size_t bytes = 0;
  std::string name;
  bool read_only = false;  // for kernels
  std::unique_ptr<std::byte, void (*)(std::byte*)> data{nullptr, nullptr};
  std::vector<std::uint8_t> written;  // of each byte: 1 once it was
  std::size_t unwritten = 0;
  Shadow shadow;  // from a kernel's first access on

  bool holds(Address address, std::size_t count) const {
    return address - base <= bytes && count <= bytes - (address - base);
  }
  void mark(std::size_t at, std::size_t count, bool as_written);
  bool is_written(std::size_t at, std::size_t count) const;
};

class Memory {
 public:
  explicit Memory(std::size_t total);

  Address allocate(std::size_t bytes, std::string_view name);
  bool release(Address address);
  std::size_t used() const { return used_; }
  std::size_t total() const { return total_; }

  Buffer* find(Address address);  // that this address lies in
  const Buffer* find(Address address) const;
  // What an address that lies in none is near, for messages.
  std::string describe(Address address) const;
  void forget_accesses();

 private:
  std::size_t total_, used_ = 0;
  Address next_;
  std::uint64_t count_ = 0;
  std::map<Address, std::unique_ptr<Buffer>> buffers_;
  std::vector<std::pair<Address, std::size_t>> freed_;  // the latest
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_MEMORY_H_
