// POSIX files behind File and Folder.
#include "lib/base/file.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/wrong_file.h"

namespace dsv32 {
namespace {

// The system's words for `error`; std::strerror is not thread-safe.
std::string reason(int error) { return std::generic_category().message(error); }

ErrorCode code_of(int error) {
  if (error == ENOENT || error == ENOTDIR) return ErrorCode::not_found;
  return error == ENOMEM ? ErrorCode::out_of_memory : ErrorCode::io;
}

[[noreturn]] void fail(const std::filesystem::path& path, const char* what, int error) {
  throw Error(code_of(error),
              formatted("cannot {} {}: {}", what, quote_path(path.string()), reason(error)));
}

// A descriptor that is closed.
class Descriptor {
 public:
  Descriptor(int folder, const std::string& name, const std::filesystem::path& path)
      // Not blocking: opening a FIFO must not wait for its other end.
      : fd_(openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail(path, "open", errno);
  }
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  // Its size, if it is a regular file.
  std::size_t size(const std::filesystem::path& path) const {
    struct stat info {};
    if (fstat(fd_, &info) != 0) fail(path, "look at", errno);
    DSV32_CHECK(S_ISREG(info.st_mode), io, "{} is no regular file", quote_path(path.string()));
    return static_cast<std::size_t>(info.st_size);
  }

  void read(std::byte* out, std::size_t count, const std::filesystem::path& path) const {
    for (std::size_t done = 0; done < count;) {
      const ssize_t n = pread(fd_, out + done, count - done, static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        const int error = errno;
        throw Error(code_of(error), formatted("cannot read {} at byte {}: {}",
                                              quote_path(path.string()), done, reason(error)));
      }
      DSV32_CHECK(n > 0, io, "{} ended at byte {} of {}", quote_path(path.string()), done, count);
      done += static_cast<std::size_t>(n);
    }
  }

  int get() const { return fd_; }

 private:
  int fd_;
};

std::shared_ptr<const std::byte> map(const Descriptor& fd, std::size_t size,
                                     const std::filesystem::path& path) {
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (memory == MAP_FAILED) fail(path, "map", errno);
  return {static_cast<const std::byte*>(memory),
          [size](const std::byte* p) { munmap(const_cast<std::byte*>(p), size); }};
}

std::shared_ptr<const std::byte> read_all(const Descriptor& fd, std::size_t size,
                                          const std::filesystem::path& path) {
  auto* memory = new (std::nothrow) std::byte[size];
  DSV32_CHECK(memory, out_of_memory, "no memory for the {} bytes of {}", size,
              quote_path(path.string()));
  std::shared_ptr<std::byte> data(memory, std::default_delete<std::byte[]>());
  fd.read(memory, size, path);
  return data;
}

}  // namespace

Folder::Folder(const std::filesystem::path& path) : path_(path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (fd < 0) fail(path, "open the folder", errno);
  descriptor_ = std::shared_ptr<const int>(new int(fd), [](const int* p) {
    close(*p);
    delete p;
  });
}

bool Folder::has(const std::string& name) const {
  return faccessat(*descriptor_, name.c_str(), F_OK, 0) == 0;
}

std::vector<std::string> Folder::names() const {
  const int fd = openat(*descriptor_, ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  DIR* raw = fd < 0 ? nullptr : fdopendir(fd);
  if (raw == nullptr) {
    const int error = errno;
    if (fd >= 0) close(fd);
    fail(path_, "list", error);
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(raw, closedir);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(listing.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

File::File(const Folder& folder, const std::string& name, FileAccess access)
    : path_(folder.path() / name) {
  const Descriptor fd(folder.descriptor(), name, path_);
  const std::size_t size = fd.size(path_);
  if (size == 0) return;
  data_ = access == FileAccess::mmap ? map(fd, size, path_) : read_all(fd, size, path_);
  bytes_ = {data_.get(), size};
}

void File::hint_scattered(bool scattered) const noexcept {
  // Of memory that is no mapping the system refuses it: as good.
  madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(),
          scattered ? MADV_RANDOM : MADV_NORMAL);
}

std::string read_text(const Folder& folder, const std::string& name, std::size_t max_bytes) {
  const std::filesystem::path path = folder.path() / name;
  const Descriptor fd(folder.descriptor(), name, path);
  const std::size_t size = fd.size(path);
  DSV32_CHECK(size <= max_bytes, limit, "{} has {} bytes, more than {}", quote_path(path.string()),
              size, max_bytes);
  std::string text(size, '\0');
  fd.read(reinterpret_cast<std::byte*>(text.data()), size, path);
  const std::string_view other = wrong_file(text);
  DSV32_CHECK(other.empty(), bad_format, "{} is {}", quote_path(path.string()), other);
  return text;
}

}  // namespace dsv32
