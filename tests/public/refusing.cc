// Loaded before a program: a system that refuses what DSV32_TEST_REFUSE names.
//   mmap     mappings of *.safetensors, as some file systems in user space and over 9p do
//   threads  every thread
//   memlock  locking memory
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <pthread.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

namespace {

bool refuses(const char* what) {
  const char* list = std::getenv("DSV32_TEST_REFUSE");
  return list != nullptr && std::strstr(list, what) != nullptr;
}

bool is_shard(int fd) {
  char name[4096] = "";
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  return readlink(link.c_str(), name, sizeof name - 1) > 0 &&
         std::string_view(name).ends_with(".safetensors");
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void* mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  static const auto real = next<decltype(&mmap)>("mmap");
  if (fd >= 0 && refuses("mmap") && is_shard(fd)) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  return real(at, size, protection, flags, fd, offset);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  static const auto real = next<decltype(&pthread_create)>("pthread_create");
  return refuses("threads") ? EAGAIN : real(thread, attributes, start, argument);
}

int mlock(const void* memory, std::size_t size) noexcept {
  static const auto real = next<decltype(&mlock)>("mlock");
  if (!refuses("memlock")) return real(memory, size);
  errno = ENOMEM;
  return -1;
}
}
