// Memory with two addresses: the one that callers get, which nobody can read or write, and the one
// behind it.
#ifndef DSV32_TESTS_SUPPORT_DEVICE_MEMORY_H_
#define DSV32_TESTS_SUPPORT_DEVICE_MEMORY_H_

#include <cstddef>
#include <map>
#include <memory>

#include "lib/base/tensor.h"

namespace dsv32::test {

// Bytes from a view's first to behind its last, with the gaps between its rows.
std::size_t extent_bytes(TensorView view);
bool overlap(TensorView a, TensorView b);  // gaps count

class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* take(std::size_t bytes);  // out_of_memory
  void give_back(void* device) noexcept;

  // The view behind a view; one without data is itself. Throws internal unless it lies in one
  // block.
  TensorView host(TensorView device) const;

 private:
  struct Block {
    std::size_t bytes = 0;
    std::shared_ptr<std::byte> host;
  };
  std::map<const std::byte*, Block> blocks_;  // by device address
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_DEVICE_MEMORY_H_
