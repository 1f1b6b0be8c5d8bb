// A file's bytes: mapped, or read into memory. And a folder that is opened once.
#ifndef DSV32_LIB_BASE_FILE_H_
#define DSV32_LIB_BASE_FILE_H_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dsv32/types.h"

namespace dsv32 {

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

// The bytes of one regular file, unchanged for as long as this lives (with mmap: as long as nobody
// cuts it). Throws not_found, io (anything but a regular file, too), out_of_memory.
class File {
 public:
  File(const Folder& folder, const std::string& name, FileAccess access);
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }
  // A hint: reads will be small and far apart, so reading ahead is waste; or no longer.
  void hint_scattered(bool scattered) const noexcept;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const std::byte> data_;
  std::span<const std::byte> bytes_;
};

// A small file as text; over `max_bytes`: limit. Throws bad_format for what wrong_file() knows.
std::string read_text(const Folder& folder, const std::string& name, std::size_t max_bytes);

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FILE_H_
