#include "tests/ptxemu/memory.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace dsv32::ptxemu {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kGap = 4096;  // at least, behind every allocation
constexpr std::size_t kRemembered = 64;

void give_back(std::byte* p) { std::free(p); }

// No address of one machine is one of another's.
Address a_range() {
  static std::atomic<Address> machines{0};
  return (machines.fetch_add(1) % (Address{1} << 20) + 1) << kMachineShift;
}

}  // namespace

Memory::Memory(std::size_t total) : total_(total), next_(a_range()) {}

void Buffer::mark(std::size_t at, std::size_t count, bool as_written) {
  if (as_written && unwritten == 0) return;
  std::uint8_t* flags = written.data() + at;
  const auto were = static_cast<std::size_t>(std::count(flags, flags + count, 1));
  unwritten += as_written ? were - count : were;
  std::memset(flags, as_written ? 1 : 0, count);
}

bool Buffer::is_written(std::size_t at, std::size_t count) const {
  return unwritten == 0 || std::memchr(written.data() + at, 0, count) == nullptr;
}

Address Memory::allocate(std::size_t bytes, std::string_view name) {
  if (bytes == 0 || bytes > total_ - used_) return 0;
  auto* data = static_cast<std::byte*>(std::malloc(bytes));
  if (data == nullptr) return 0;
  std::memset(data, 0xff, bytes);  // NaN in every format, -1 in every integer
  auto buffer = std::make_unique<Buffer>();
  buffer->base = next_;
  buffer->bytes = bytes;
  buffer->name = name.empty() ? "allocation " + std::to_string(count_) : std::string(name);
  buffer->data = {data, give_back};
  buffer->written.assign(bytes, 0);
  buffer->unwritten = bytes;
  next_ += (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
  used_ += bytes;
  ++count_;
  const Address base = buffer->base;
  buffers_[base] = std::move(buffer);
  return base;
}

bool Memory::release(Address address) {
  const auto found = buffers_.find(address);
  if (found == buffers_.end()) return false;
  if (freed_.size() == kRemembered) freed_.erase(freed_.begin());
  freed_.emplace_back(address, found->second->bytes);
  used_ -= found->second->bytes;
  buffers_.erase(found);
  return true;
}

void Memory::forget_accesses() {
  for (const auto& [base, buffer] : buffers_) buffer->shadow = {};
}

const Buffer* Memory::find(Address address) const {
  auto after = buffers_.upper_bound(address);
  if (after == buffers_.begin()) return nullptr;
  const Buffer* buffer = std::prev(after)->second.get();
  return address - buffer->base < buffer->bytes ? buffer : nullptr;
}

Buffer* Memory::find(Address address) {
  return const_cast<Buffer*>(static_cast<const Memory*>(this)->find(address));
}

std::string Memory::describe(Address address) const {
  for (const auto& [base, bytes] : freed_) {
    if (address - base < bytes) return "memory that was freed";
  }
  const Buffer* near = nullptr;
  Address best = ~Address{0};
  for (const auto& [base, buffer] : buffers_) {
    const Address distance = address < base ? base - address : address - base - buffer->bytes;
    if (address - base < buffer->bytes || distance >= best) continue;
    best = distance;
    near = buffer.get();
  }
  if (const Buffer* inside = find(address)) near = inside;
  if (near == nullptr) return "no allocation";
  return near->name + (address < near->base ? "-" : "+") +
         std::to_string(address < near->base ? near->base - address : address - near->base) +
         " of " + std::to_string(near->bytes) + " bytes";
}

}  // namespace dsv32::ptxemu
