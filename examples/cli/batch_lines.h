// Lines of a file that may be large: one at a time, none kept that is longer than it should be.
#ifndef EXAMPLES_CLI_BATCH_LINES_H_
#define EXAMPLES_CLI_BATCH_LINES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cli {

class BatchLines {
 public:
  // Reads `fd`, which stays open, from its beginning to `end` or to its own end. `name` is for
  // messages.
  BatchLines(int fd, std::string name, std::size_t longest,
             std::size_t end = static_cast<std::size_t>(-1));

  // The next line, without its end (CR LF, too); of one that is too long, nothing. False: no more.
  // Throws std::runtime_error for what cannot be read, and for UTF-16.
  bool read(std::string& line);

  // Of the line that was read last.
  std::size_t number() const noexcept { return number_; }  // 1, 2, ..
  bool too_long() const noexcept { return too_long_; }
  bool whole() const noexcept { return whole_; }           // a newline ends it
  std::size_t begin() const noexcept { return begin_; }    // where in the file
  std::uint64_t hash() const noexcept { return hash_; }    // of all bytes up to its end
  std::size_t position() const noexcept { return read_; }  // behind it

 private:
  bool fill();

  int fd_;
  std::string name_;
  std::size_t longest_, end_;
  std::vector<char> buffer_;
  std::size_t at_ = 0, size_ = 0;      // in the buffer
  std::size_t offset_ = 0, read_ = 0;  // in the file: behind the buffer, behind the line
  std::size_t number_ = 0, begin_ = 0;
  std::uint64_t hash_ = 0xCBF29CE484222325U;
  bool too_long_ = false, whole_ = false;
};

// The requests of `dsv32 batch`: read once to know how many they are and which file this is, then
// one by one.
class BatchInput {
 public:
  // Throws std::runtime_error for what cannot be read, or not twice.
  explicit BatchInput(const std::string& path);
  ~BatchInput();
  BatchInput(const BatchInput&) = delete;
  BatchInput& operator=(const BatchInput&) = delete;

  static constexpr std::size_t kLongest = 16U << 20;

  std::size_t requests() const noexcept { return requests_; }  // lines that are not blank
  std::size_t lines() const noexcept { return lines_; }
  std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  // The next line that is not blank. False: no more. Throws std::runtime_error if the file is no
  // longer what it was.
  bool next(std::string& line);
  std::size_t number() const noexcept { return reader_.number(); }
  bool too_long() const noexcept { return reader_.too_long(); }

 private:
  std::string name_;
  int fd_;
  std::size_t requests_ = 0, lines_ = 0, bytes_ = 0;
  std::uint64_t fingerprint_ = 0;
  BatchLines reader_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_LINES_H_
