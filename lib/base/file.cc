// POSIX files behind File and Folder.
#include "lib/base/file.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/memory.h"
#include "lib/base/wrong_file.h"

namespace dsv32 {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what, int error) {
  throw Error(code_of(error),
              formatted("cannot {} {}: {}", what, quote_path(path.string()), system_reason(error)));
}

// `name` in an open folder, or AT_FDCWD; closed with the last owner.
std::shared_ptr<const int> open_at(int folder, const char* name, int flags, const char* what,
                                   const std::filesystem::path& path) {
  struct Descriptor {
    int fd = -1;
    ~Descriptor() {
      if (fd >= 0) close(fd);
    }
  };
  const auto opened = std::make_shared<Descriptor>();
  opened->fd = openat(folder, name, O_RDONLY | O_CLOEXEC | flags);
  if (opened->fd < 0) fail(path, what, errno);
  return {opened, &opened->fd};
}

std::shared_ptr<const int> open_file(const Folder& folder, const std::string& name,
                                     const std::filesystem::path& path) {
  // Not blocking: opening a FIFO must not wait for its other end.
  return open_at(folder.descriptor(), name.c_str(), O_NONBLOCK, "open", path);
}

FileStamp stamp_of(const struct stat& info) {
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size = static_cast<std::uint64_t>(info.st_size),
          .seconds = info.st_mtim.tv_sec,
          .nanoseconds = info.st_mtim.tv_nsec};
}

// Of a regular file.
FileStamp look_at(int fd, const std::filesystem::path& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) fail(path, "look at", errno);
  DSV32_CHECK(S_ISREG(info.st_mode), io, "{} is no regular file", quote_path(path.string()));
  return stamp_of(info);
}

// Bytes [first, end) of the file to the same places of `out`.
void read_range(int fd, std::byte* out, std::size_t first, std::size_t end,
                const std::filesystem::path& path) {
  while (first < end) {
    const ssize_t n = pread(fd, out + first, end - first, static_cast<off_t>(first));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      throw Error(code_of(error),
                  formatted("cannot read {} at byte {}: {}", quote_path(path.string()), first,
                            system_reason(error)));
    }
    DSV32_CHECK(n > 0, io, "{} ended at byte {} of {}", quote_path(path.string()), first, end);
    first += static_cast<std::size_t>(n);
  }
}

// What a file system says that has no mappings, as some in user space and over 9p have none.
bool maps_nothing(int error) {
  return error == ENODEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

}  // namespace

ErrorCode code_of(int error) {
  if (error == ENOENT || error == ENOTDIR) return ErrorCode::not_found;
  return error == ENOMEM ? ErrorCode::out_of_memory : ErrorCode::io;
}

// std::strerror is not thread-safe.
std::string system_reason(int error) { return std::generic_category().message(error); }

Folder::Folder(const std::filesystem::path& path)
    : path_(path),
      descriptor_(open_at(AT_FDCWD, path.c_str(), O_DIRECTORY, "open the folder", path)) {}

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
    : path_(folder.path() / name), name_(name), descriptor_(open_file(folder, name, path_)) {
  stamp_ = look_at(*descriptor_, path_);
  const std::size_t size = stamp_.size;
  mapped_ = access == FileAccess::mmap;
  if (mapped_ && size > 0) {
    void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, *descriptor_, 0);
    if (memory != MAP_FAILED) {
      data_ = {static_cast<const std::byte*>(memory),
               [size](const std::byte* p) { munmap(const_cast<std::byte*>(p), size); }};
    } else {
      map_error_ = errno;
      if (!maps_nothing(map_error_)) fail(path_, "map", map_error_);
      mapped_ = false;
    }
  }
  if (!mapped_ && size > 0) {
    data_ = map_memory(size);
    DSV32_CHECK(data_, out_of_memory, "no memory for the {} bytes of {}", size,
                quote_path(path_.string()));
  }
  bytes_ = {data_.get(), size};
  if (mapped_) read_ = size;
  if (unread() == 0) descriptor_.reset();
}

void File::read_until(std::size_t count) {
  count = std::min(count, bytes_.size());
  if (count <= read_) return;
  read_range(*descriptor_, const_cast<std::byte*>(bytes_.data()), read_, count, path_);
  read_ = count;
  if (unread() > 0) return;
  DSV32_CHECK(look_at(*descriptor_, path_) == stamp_, io, "{} was written to while it was read",
              quote_path(path_.string()));
  descriptor_.reset();
}

void File::hint_scattered(bool scattered) const noexcept {
  if (!mapped_) return;
  madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(),
          scattered ? MADV_RANDOM : MADV_NORMAL);
}

bool File::was_written(const Folder& folder) const noexcept {
  struct stat info {};
  if (!mapped_ || fstatat(folder.descriptor(), name_.c_str(), &info, 0) != 0) return false;
  const FileStamp now = stamp_of(info);
  return now.is_same_file(stamp_) && now != stamp_;
}

std::string read_text(const Folder& folder, const std::string& name, std::size_t max_bytes) {
  const std::filesystem::path path = folder.path() / name;
  const std::shared_ptr<const int> fd = open_file(folder, name, path);
  const std::size_t size = look_at(*fd, path).size;
  DSV32_CHECK(size <= max_bytes, limit, "{} has {}, more than {}", quote_path(path.string()),
              human_bytes(size), human_bytes(max_bytes));
  std::string text(size, '\0');
  read_range(*fd, reinterpret_cast<std::byte*>(text.data()), 0, size, path);
  const std::string_view other = wrong_file(text);
  DSV32_CHECK(other.empty(), bad_format, "{} is {}", quote_path(path.string()), other);
  return text;
}

}  // namespace dsv32
