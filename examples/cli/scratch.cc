// Files that have another name until they are whole.
#include "cli/scratch.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <pthread.h>
#include <stdexcept>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "cli/terminal.h"

namespace cli {
namespace {

// A list that only grows, so that a signal handler can walk it at any time: a handful of names a
// run. Files come before the folder that they are in.
struct Node {
  std::atomic<const char*> name{nullptr};
  std::string text{};
  Node* next = nullptr;
};
std::atomic<Node*> g_nodes{nullptr};

extern "C" void end_by_signal(int signal) {
  remove_scratch();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

// On the thread that makes files: whatever other threads wait for these signals, this one is asked
// first. A program that was started to ignore them (nohup) goes on ignoring them.
void catch_signals() {
  ::signal(SIGXFSZ, SIG_IGN);  // the write fails with EFBIG instead
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGHUP, SIGQUIT}) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action.sa_flags = 0;
    action.sa_handler = end_by_signal;
    ::sigaction(number, &action, nullptr);
    sigaddset(&set, number);
  }
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

void cannot_write(const std::filesystem::path& file) {
  const int error = errno;
  throw std::runtime_error("cannot write '" + file.string() + "': " + std::strerror(error));
}

void remove_scratch() noexcept {
  for (Node* node = g_nodes.load(); node != nullptr; node = node->next) {
    const char* name = node->name.load();
    if (name != nullptr && ::unlink(name) != 0) ::rmdir(name);
  }
}

Removed::Removed(const std::filesystem::path& path) : path_(path.string()) {
  if (g_nodes.load() == nullptr) catch_signals();
  auto* node = new Node;  // for good: a handler may be reading the list
  node->text = path_;
  node->name = node->text.c_str();
  node->next = g_nodes.load();
  g_nodes = node;
  name_ = &node->name;
}

Removed::~Removed() {
  if (name_->load() != nullptr && ::unlink(path_.c_str()) != 0) ::rmdir(path_.c_str());
  name_->store(nullptr);
}

std::filesystem::path scratch_name(const std::filesystem::path& path) {
  std::filesystem::path name = path;  // "DIR/" gives a hidden name in it
  return name += ".part-" + std::to_string(::getpid());
}

void check_space(const std::filesystem::path& folder, std::size_t bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error || space.available >= bytes) return;
  throw std::runtime_error("'" + folder.string() + "' has room for " +
                           human_bytes(static_cast<double>(space.available)) + ", not for " +
                           human_bytes(static_cast<double>(bytes)));
}

void write_at(int descriptor, std::size_t at, std::span<const std::byte> bytes,
              const std::filesystem::path& file) {
  while (!bytes.empty()) {
    const auto count = pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ENOSPC;
    if (count <= 0) cannot_write(file);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    at += static_cast<std::size_t>(count);
  }
}

namespace {

// What a name leads to is replaced, not the link; a device or a folder never is.
std::filesystem::path replaceable(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) return file;
  if (std::filesystem::is_directory(status)) {
    errno = EISDIR;
    cannot_write(file);
  }
  if (!std::filesystem::is_regular_file(status))
    throw std::runtime_error("cannot write '" + file.string() + "': it is no plain file");
  return std::filesystem::canonical(file);
}

}  // namespace

ScratchFile::ScratchFile(const std::filesystem::path& file, unsigned mode)
    : file_(replaceable(file)),
      temporary_(scratch_name(file_)),
      removed_(temporary_),
      descriptor_(open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)) {
  if (descriptor_ < 0) cannot_write(file_);
}

ScratchFile::~ScratchFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ScratchFile::reserve(std::size_t bytes) const {
  const auto folder = file_.has_parent_path() ? file_.parent_path() : std::filesystem::path(".");
  check_space(folder, bytes);
  if (ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) cannot_write(file_);
}

void ScratchFile::write(std::size_t at, std::span<const std::byte> bytes) const {
  write_at(descriptor_, at, bytes, file_);
}

void ScratchFile::sync() const {
  if (::fsync(descriptor_) != 0) cannot_write(file_);
}

void ScratchFile::keep() {
  if (::close(std::exchange(descriptor_, -1)) != 0 ||
      std::rename(temporary_.c_str(), file_.c_str()) != 0)
    cannot_write(file_);
  removed_.let_go();
}

}  // namespace cli
