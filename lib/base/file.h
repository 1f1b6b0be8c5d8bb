// A file's bytes: mapped, or read into memory. And a folder that is opened once.
#ifndef DSV32_LIB_BASE_FILE_H_
#define DSV32_LIB_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dsv32/error.h"
#include "dsv32/types.h"

namespace dsv32 {

// What an errno of a file is here, and the system's words for it.
ErrorCode code_of(int error);
std::string system_reason(int error);

// An open folder. Files are opened relative to it, so that swapping the folder for another one
// meanwhile changes nothing.
class Folder {
 public:
  explicit Folder(const std::filesystem::path& path);  // throws not_found, io
  const std::filesystem::path& path() const { return path_; }
  bool has(const std::string& name) const;
  std::vector<std::string> names() const;  // of its entries, sorted
  int descriptor() const { return *descriptor_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const int> descriptor_;
};

// What tells one state of a file from another.
struct FileStamp {
  std::uint64_t device = 0, inode = 0;
  std::uint64_t size = 0;
  std::int64_t seconds = 0, nanoseconds = 0;  // of its last change

  bool is_same_file(const FileStamp& other) const {
    return device == other.device && inode == other.inode;
  }
  bool operator==(const FileStamp&) const = default;
};

// One regular file. Mapped: all its bytes are there, and who writes into the file writes into them.
// Read: memory of its size, filled by read_until(), and nobody else's.
// Throws not_found, io (anything but a regular file, too), out_of_memory.
class File {
 public:
  // Where the file system maps no files, it is read, whatever `access` says.
  File(const Folder& folder, const std::string& name, FileAccess access);
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }
  bool is_mapped() const { return mapped_; }
  int map_error() const { return map_error_; }  // why it is not, if that was asked for; else 0

  // Fills the first `count` bytes, at most all; of a mapped file they are there already.
  void read_until(std::size_t count);
  std::size_t unread() const { return bytes_.size() - read_; }

  // A hint: reads will be small and far apart, so reading ahead is waste; or no longer.
  void hint_scattered(bool scattered) const noexcept;

  // Whether somebody has written into the mapped file since it was opened, as far as its size and
  // time say. Another file of its name is no matter.
  bool was_written(const Folder& folder) const noexcept;

 private:
  std::filesystem::path path_;
  std::string name_;
  std::shared_ptr<const std::byte> data_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<const int> descriptor_;  // until all is read
  std::size_t read_ = 0;
  FileStamp stamp_;
  bool mapped_ = false;
  int map_error_ = 0;
};

// A small file as text; over `max_bytes`: limit. Throws bad_format for what wrong_file() knows.
std::string read_text(const Folder& folder, const std::string& name, std::size_t max_bytes);

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FILE_H_
