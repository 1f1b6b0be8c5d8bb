#include "tests/faults/seams.h"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <set>
#include <sys/mman.h>
#include <sys/types.h>
#include <system_error>

namespace dsv32::test {

Seams seams;

namespace {

thread_local long t_left = Seams::kNever;  // allocations until the one that fails
thread_local bool t_happened = false, t_goes_on = false;
thread_local long t_calls = 0;
thread_local std::size_t t_bytes = 0;
std::atomic<bool> g_poison{false};

}  // namespace

bool poisons(std::size_t size) {
  constexpr std::size_t kMost = std::size_t{64} << 20;  // what is larger is hardly touched
  return g_poison.load(std::memory_order_relaxed) && size <= kMost;
}

namespace {

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

namespace {
std::set<void*> mapped_files;  // by the thread that tests
}

// The linker's names; the standard keeps such identifiers to itself, hence the labels.
extern "C" {
void* real_mmap(void*, std::size_t, int, int, int, off_t) asm("__real_mmap");
int real_munmap(void*, std::size_t) asm("__real_munmap");
ssize_t real_pread(int, void*, std::size_t, off_t) asm("__real_pread");
int real_openat(int, const char*, int, ...) asm("__real_openat");
int real_mlock(const void*, std::size_t) asm("__real_mlock");
int seam_mlock(const void*, std::size_t) asm("__wrap_mlock");
// std::thread's, by reference to what holds its state.
void real_start(void*, void*, void (*)()) asm(
    "__real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE");
void seam_start(void*, void*, void (*)()) asm(
    "__wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE");
void* seam_mmap(void*, std::size_t, int, int, int, off_t) asm("__wrap_mmap");
int seam_munmap(void*, std::size_t) asm("__wrap_munmap");
ssize_t seam_pread(int, void*, std::size_t, off_t) asm("__wrap_pread");
int seam_openat(int, const char*, int, ...) asm("__wrap_openat");
ssize_t real_write(int, const void*, std::size_t) asm("__real_write");
ssize_t seam_write(int, const void*, std::size_t) asm("__wrap_write");
int real_fsync(int) asm("__real_fsync");
int seam_fsync(int) asm("__wrap_fsync");
int real_rename(const char*, const char*) asm("__real_rename");
int seam_rename(const char*, const char*) asm("__wrap_rename");
}

void* seam_mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) {
  if (fd < 0 && !seams.fail_memory) {  // memory, no file
    void* memory = real_mmap(at, size, protection, flags, fd, offset);
    if (memory != MAP_FAILED && dsv32::test::poisons(size)) std::memset(memory, 0xFF, size);
    return memory;
  }
  if (fd < 0 || seams.maps++ == seams.fail_map || seams.map_nothing) {
    errno = seams.error;
    return MAP_FAILED;
  }
  void* memory = real_mmap(at, size, protection, flags, fd, offset);
  if (memory != MAP_FAILED) mapped_files.insert(memory);
  return memory;
}

int seam_munmap(void* at, std::size_t size) {
  if (mapped_files.erase(at) > 0) ++seams.unmaps;
  return real_munmap(at, size);
}

ssize_t seam_pread(int fd, void* out, std::size_t size, off_t offset) {
  const int number = seams.reads++;
  seams.read_bytes += size;
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

int seam_mlock(const void* memory, std::size_t size) {
  if (!seams.lock_nothing) return real_mlock(memory, size);
  errno = seams.error;
  return -1;
}

void seam_start(void* thread, void* state, void (*depend)()) {
  if (seams.threads == 0) throw std::system_error(EAGAIN, std::generic_category());
  --seams.threads;
  real_start(thread, state, depend);
}

int seam_openat(int folder, const char* name, int flags, ...) {
  if (seams.on_open) seams.on_open(name);
  return real_openat(folder, name, flags);
}

namespace {
// Whether the call of this number is the one that fails.
bool is_failing(int& count, int number) {
  if (count++ != number) return false;
  errno = seams.error;
  return true;
}
}  // namespace

ssize_t seam_write(int fd, const void* from, std::size_t size) {
  if (is_failing(seams.writes, seams.fail_write)) return -1;
  if (!seams.short_writes) return real_write(fd, from, size);
  if (seams.writes % 2 == 0) {
    errno = EINTR;
    return -1;
  }
  return real_write(fd, from, size < 1000 ? size : 1000);
}

int seam_fsync(int fd) { return is_failing(seams.syncs, seams.fail_sync) ? -1 : real_fsync(fd); }

int seam_rename(const char* from, const char* to) {
  return is_failing(seams.renames, seams.fail_rename) ? -1 : real_rename(from, to);
}
