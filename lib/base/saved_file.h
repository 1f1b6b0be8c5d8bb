// A file that appears whole or not at all, and its way back.
#ifndef DSV32_LIB_BASE_SAVED_FILE_H_
#define DSV32_LIB_BASE_SAVED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

namespace dsv32 {

// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// Writes PATH.saving (0600) beside PATH, and gives it that name when all is written and synced:
// after a crash there is the old file or the new one. A link named PATH stays a link: the file that
// it names is replaced. One writer at a time, over all processes: another one gets busy. What is
// there and is no regular file (a pipe, a terminal) is written to as it is.
// Everything throws io with the system's reason; without commit() nothing is left.
class SavedFile {
 public:
  explicit SavedFile(const std::filesystem::path& path);
  ~SavedFile();
  SavedFile(const SavedFile&) = delete;
  SavedFile& operator=(const SavedFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  bool is_stream() const { return saving_.empty(); }
  void begin();
  bool lock();  // whether the file that was opened is still the one of that name
  void write_back();
  [[noreturn]] void fail(const char* what, int error) const;

  std::filesystem::path path_, saving_;  // a stream has no saving_
  Descriptor file_;
  std::uint64_t written_ = 0, sent_ = 0;  // bytes; sent_: on their way to the disk
  bool owned_ = false;                    // saving_ is ours to remove
};

// Reads from the first byte to the last; a pipe, too. Throws not_found, io.
class FileReader {
 public:
  explicit FileReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::optional<std::uint64_t> size() const { return size_; }  // if the system knows it
  std::size_t read_some(std::span<std::byte> out);             // less only at the end

 private:
  std::filesystem::path path_;
  Descriptor file_;
  std::optional<std::uint64_t> size_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_SAVED_FILE_H_
