// Files that have another name until they are whole.
#ifndef EXAMPLES_CLI_SCRATCH_H_
#define EXAMPLES_CLI_SCRATCH_H_

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace cli {

// "cannot write 'FILE': " and the system's reason for errno.
[[noreturn]] void cannot_write(const std::filesystem::path& file);

// A path of ours, gone when the program ends by SIGTERM, SIGHUP, SIGQUIT or remove_scratch(). The
// first one also makes a file that grows beyond `ulimit -f` an error instead of a signal.
class Removed {
 public:
  explicit Removed(const std::filesystem::path& path);
  ~Removed();  // removes it, a folder with what else of ours is in it first, unless let go
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;
  void let_go() noexcept { name_->store(nullptr); }

 private:
  std::atomic<const char*>* name_;
  std::string path_;
};

// Removes what is still ours. Safe in signal handlers and before _exit.
void remove_scratch() noexcept;

// FILE.part-PID beside FILE, until keep() gives it its name. Throws std::runtime_error with the
// system's reason.
class ScratchFile {
 public:
  explicit ScratchFile(const std::filesystem::path& file, unsigned mode = 0666);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  // The size that it will have: what the file system or `ulimit -f` forbids is found now, and so is
  // a disk that is too small.
  void reserve(std::size_t bytes) const;
  void write(std::size_t at, std::span<const std::byte> bytes) const;
  void sync() const;  // onto the disk, so that keep() survives a crash
  void keep();

 private:
  std::filesystem::path file_;
  std::filesystem::path temporary_;
  Removed removed_;
  int descriptor_;
};

// "OUT.part-PID": beside what it will be.
std::filesystem::path scratch_name(const std::filesystem::path& path);
// Throws std::runtime_error if the folder's disk has room for less.
void check_space(const std::filesystem::path& folder, std::size_t bytes);
// pwrite until all is written.
void write_at(int descriptor, std::size_t at, std::span<const std::byte> bytes,
              const std::filesystem::path& file);

}  // namespace cli

#endif  // EXAMPLES_CLI_SCRATCH_H_
