#include "lib/base/saved_file.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/file.h"

namespace dsv32 {
namespace {

// Bytes that may wait in memory before the disk is told to begin: so it writes while the next ones
// are made, not all of them at the end.
constexpr std::uint64_t kSend = std::uint64_t{8} << 20;

// What a link leads to, whether or not it is there; anything else is itself.
std::filesystem::path target_of(const std::filesystem::path& path) {
  constexpr int kMostLinks = 40;  // as the system's
  std::filesystem::path at = path;
  for (int i = 0; i < kMostLinks; ++i) {
    std::error_code none;
    const std::filesystem::path next = std::filesystem::read_symlink(at, none);
    if (none) return at;
    at = next.is_absolute() ? next : at.parent_path() / next;
  }
  return at;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

// A write to a pipe whose reader has gone ends a process by SIGPIPE unless its thread does not let
// it come; one that was waiting before is left waiting.
class NoPipeSignal {
 public:
  NoPipeSignal() noexcept {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t waiting;
    sigpending(&waiting);
    was_waiting_ = sigismember(&waiting, SIGPIPE) == 1;
    blocked_ = pthread_sigmask(SIG_BLOCK, &pipe_, &before_) == 0;
  }
  ~NoPipeSignal() {
    if (!blocked_) return;
    const timespec now{};
    while (!was_waiting_ && sigtimedwait(&pipe_, nullptr, &now) == -1 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  sigset_t pipe_{}, before_{};
  bool was_waiting_ = false, blocked_ = false;
};

// The rest of `bytes`; 0, or an errno.
int write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return 0;
}

// The entry of a name, for a crash. Where a folder cannot be synced there is nothing to sync.
int sync_folder(const std::filesystem::path& folder) {
  const Descriptor opened(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) return errno;
  if (fsync(opened.get()) == 0) return 0;
  return errno == EINVAL || errno == EBADF ? 0 : errno;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}
Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

SavedFile::SavedFile(const std::filesystem::path& path) : path_(target_of(path)) {
  DSV32_CHECK(path_.has_filename(), io, "{} names no file", quote_path(path.string()));
  struct stat info {};
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode)) {
    file_ = Descriptor(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file_.get() < 0) fail("write", errno);
    return;
  }
  saving_ = path_;
  saving_ += ".saving";
  begin();
}

void SavedFile::begin() {
  do {
    // Not through a link that somebody has put there.
    file_ = Descriptor(open(saving_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file_.get() < 0) {
      const int error = errno;
      throw Error(code_of(error), formatted("cannot write {}: {}", quote_path(saving_.string()),
                                            system_reason(error)));
    }
  } while (!lock());
  // What a crash has left, and its mode.
  if (ftruncate(file_.get(), 0) != 0 || fchmod(file_.get(), 0600) != 0) {
    const int error = errno;
    unlink(saving_.c_str());
    fail("empty", error);
  }
  owned_ = true;
}

bool SavedFile::lock() {
  while (flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    DSV32_CHECK(errno != EWOULDBLOCK, busy, "{} is being written by somebody else",
                quote_path(path_.string()));
    fail("lock", errno);
  }
  struct stat mine {
  }, there{};
  if (fstat(file_.get(), &mine) != 0) fail("look at", errno);
  return stat(saving_.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
         mine.st_dev == there.st_dev;
}

SavedFile::~SavedFile() {
  if (owned_) unlink(saving_.c_str());
}

void SavedFile::write(std::span<const std::byte> bytes) {
  int error = 0;
  {
    std::optional<NoPipeSignal> no_signal;
    if (is_stream()) no_signal.emplace();
    error = write_all(file_.get(), bytes);
  }
  if (error != 0) fail("write", error);
  written_ += bytes.size();
  if (written_ - sent_ >= kSend) write_back();
}

// A hint: whether it can be followed is no matter.
void SavedFile::write_back() {
#ifdef SYNC_FILE_RANGE_WRITE
  if (!is_stream()) {
    static_cast<void>(sync_file_range(file_.get(), static_cast<off64_t>(sent_),
                                      static_cast<off64_t>(written_ - sent_),
                                      SYNC_FILE_RANGE_WRITE));
  }
#endif
  sent_ = written_;
}

void SavedFile::commit() {
  if (is_stream()) return;
  if (fsync(file_.get()) != 0) fail("sync", errno);
  if (rename(saving_.c_str(), path_.c_str()) != 0) fail("replace", errno);
  owned_ = false;
  if (const int error = sync_folder(folder_of(path_)); error != 0)
    fail("sync the folder of", error);
}

void SavedFile::fail(const char* what, int error) const {
  throw Error(code_of(error), formatted("cannot {} {}: {}", what, quote_path(path_.string()),
                                        system_reason(error)));
}

FileReader::FileReader(const std::filesystem::path& path)
    : path_(path), file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  const int error = file_.get() < 0 ? errno : 0;
  if (error != 0) {
    throw Error(code_of(error),
                formatted("cannot open {}: {}", quote_path(path.string()), system_reason(error)));
  }
  struct stat info {};
  if (fstat(file_.get(), &info) == 0 && S_ISREG(info.st_mode))
    size_ = static_cast<std::uint64_t>(info.st_size);
  static_cast<void>(posix_fadvise(file_.get(), 0, 0, POSIX_FADV_SEQUENTIAL));
}

std::size_t FileReader::read_some(std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(file_.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      throw Error(code_of(error), formatted("cannot read {}: {}", quote_path(path_.string()),
                                            system_reason(error)));
    }
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace dsv32
