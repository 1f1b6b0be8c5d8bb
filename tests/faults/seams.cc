#include "tests/faults/seams.h"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <sys/mman.h>
#include <sys/types.h>

namespace dsv32::test {

Seams seams;

namespace {

thread_local long t_left = Seams::kNever;  // allocations until the one that fails
thread_local bool t_happened = false, t_goes_on = false;
thread_local long t_calls = 0;
thread_local std::size_t t_bytes = 0;
std::atomic<bool> g_poison{false};

bool fails() {
  if (t_left == Seams::kNever) return false;
  if (t_left > 0) {
    --t_left;
    return false;
  }
  if (!t_goes_on) t_left = Seams::kNever;
  t_happened = true;
  return true;
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  ++t_calls;
  t_bytes += size;
  if (fails()) return nullptr;
  void* memory = nullptr;
  size = size == 0 ? 1 : size;
  if (alignment <= alignof(std::max_align_t)) {
    memory = std::malloc(size);
  } else if (posix_memalign(&memory, alignment, size) != 0) {
    memory = nullptr;
  }
  if (memory != nullptr && g_poison.load(std::memory_order_relaxed))
    std::memset(memory, 0xFF, size);
  return memory;
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

FailAllocation::FailAllocation(long number, Which which) {
  t_happened = false;
  t_goes_on = which == Which::all;
  t_left = number;
}
FailAllocation::~FailAllocation() { t_left = Seams::kNever; }
bool FailAllocation::happened() { return t_happened; }

CountAllocations::CountAllocations() : calls_(t_calls), bytes_(t_bytes) {}
long CountAllocations::calls() const { return t_calls - calls_; }
std::size_t CountAllocations::bytes() const { return t_bytes - bytes_; }

PoisonMemory::PoisonMemory() { g_poison.store(true); }
PoisonMemory::~PoisonMemory() { g_poison.store(false); }

int open_descriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

}  // namespace dsv32::test

using dsv32::test::allocate;
using dsv32::test::allocate_or_throw;
using dsv32::test::seams;

void* operator new(std::size_t size) { return allocate_or_throw(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

// The linker's names; the standard keeps such identifiers to itself, hence the labels.
extern "C" {
void* real_mmap(void*, std::size_t, int, int, int, off_t) asm("__real_mmap");
int real_munmap(void*, std::size_t) asm("__real_munmap");
ssize_t real_pread(int, void*, std::size_t, off_t) asm("__real_pread");
int real_openat(int, const char*, int, ...) asm("__real_openat");
void* seam_mmap(void*, std::size_t, int, int, int, off_t) asm("__wrap_mmap");
int seam_munmap(void*, std::size_t) asm("__wrap_munmap");
ssize_t seam_pread(int, void*, std::size_t, off_t) asm("__wrap_pread");
int seam_openat(int, const char*, int, ...) asm("__wrap_openat");
}

void* seam_mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) {
  if (fd < 0 && !seams.fail_memory)
    return real_mmap(at, size, protection, flags, fd, offset);  // memory, no file
  if (fd < 0 || seams.maps++ == seams.fail_map) {
    errno = seams.error;
    return MAP_FAILED;
  }
  return real_mmap(at, size, protection, flags, fd, offset);
}

int seam_munmap(void* at, std::size_t size) {
  constexpr std::size_t kLargeMemory = std::size_t{8} << 20;  // no file of a test is as large
  if (size < kLargeMemory) ++seams.unmaps;
  return real_munmap(at, size);
}

ssize_t seam_pread(int fd, void* out, std::size_t size, off_t offset) {
  const int number = seams.reads++;
  if (number == seams.fail_read) {
    errno = seams.error;
    return -1;
  }
  if (!seams.short_reads) return real_pread(fd, out, size, offset);
  if (number % 2 == 1) {
    errno = EINTR;
    return -1;
  }
  return real_pread(fd, out, size < 1000 ? size : 1000, offset);
}

int seam_openat(int folder, const char* name, int flags, ...) {
  if (seams.on_open) seams.on_open(name);
  return real_openat(folder, name, flags);
}
