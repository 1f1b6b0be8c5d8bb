#include "tests/support/device_memory.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <sys/mman.h>

#include "lib/base/check.h"

namespace dsv32::test {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr int kPoison = 0xFF;  // NaN in every type, and -1

constexpr std::size_t kMoreThanThereIs = std::size_t{1} << 32;

// What may be more than the machine has is only promised, and zero until written.
std::shared_ptr<std::byte> host_memory(std::size_t bytes) {
  if (bytes >= kMoreThanThereIs) {
    void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    DSV32_CHECK(pages != MAP_FAILED, out_of_memory, "could not allocate {} bytes", bytes);
    return {static_cast<std::byte*>(pages), [bytes](std::byte* p) { munmap(p, bytes); }};
  }
  auto* memory = static_cast<std::byte*>(::operator new(bytes, kAlignment, std::nothrow));
  DSV32_CHECK(memory != nullptr, out_of_memory, "could not allocate {} bytes", bytes);
  std::memset(memory, kPoison, bytes);
  return {memory, [](std::byte* p) { ::operator delete(p, kAlignment); }};
}

}  // namespace

std::size_t extent_bytes(TensorView view) {
  if (view.rows == 0 || view.cols == 0) return 0;
  const std::int64_t elements = (view.rows - 1) * view.stride + view.cols;
  return static_cast<std::size_t>(view.dtype == DType::i4 ? (elements + 1) / 2
                                                          : elements * dtype_size(view.dtype));
}

bool overlap(TensorView a, TensorView b) {
  if (a.data == nullptr || b.data == nullptr) return false;
  return a.data < b.data + extent_bytes(b) && b.data < a.data + extent_bytes(a);
}

DeviceMemory::~DeviceMemory() {
  while (!blocks_.empty()) give_back(const_cast<std::byte*>(blocks_.begin()->first));
}

void* DeviceMemory::take(std::size_t bytes) {
  const std::size_t size = std::max<std::size_t>(bytes, 1);
  Block block{.bytes = bytes, .host = host_memory(size)};
  void* device = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  DSV32_CHECK(device != MAP_FAILED, out_of_memory, "no addresses for {} bytes", bytes);
  blocks_.emplace(static_cast<const std::byte*>(device), std::move(block));
  return device;
}

void DeviceMemory::give_back(void* device) noexcept {
  const auto found = blocks_.find(static_cast<const std::byte*>(device));
  munmap(device, std::max<std::size_t>(found->second.bytes, 1));
  blocks_.erase(found);
}

TensorView DeviceMemory::host(TensorView device) const {
  if (device.data == nullptr) return device;
  DSV32_CHECK(device.rows >= 0 && device.cols >= 0 && device.stride >= 0, internal,
              "a view of {} x {}, stride {}", device.rows, device.cols, device.stride);
  const auto above = blocks_.upper_bound(device.data);
  DSV32_CHECK(above != blocks_.begin(), internal, "a view outside of all memory");
  const auto& [begin, block] = *std::prev(above);
  const auto offset = static_cast<std::size_t>(device.data - begin);
  const std::size_t bytes = extent_bytes(device);
  DSV32_CHECK(offset <= block.bytes && bytes <= block.bytes - offset, internal,
              "a view of {} bytes at {} of {}", bytes, offset, block.bytes);
  device.data = block.host.get() + offset;
  return device;
}

}  // namespace dsv32::test
