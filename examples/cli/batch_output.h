// What `dsv32 batch` writes: a line a result, so that a run that was stopped goes on where it was.
#ifndef EXAMPLES_CLI_BATCH_OUTPUT_H_
#define EXAMPLES_CLI_BATCH_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cli {

// Each result has the id "batch_req_FINGERPRINT_LINE": which input it is of, and which line.
class BatchOutput {
 public:
  // Opens or makes `file`, for this process alone. A last line that was not finished is dropped.
  // Throws std::runtime_error for a file that is in use, is no list of results, or holds those of
  // another input; it is then as before.
  BatchOutput(const std::filesystem::path& file, std::uint64_t fingerprint, std::size_t lines);
  ~BatchOutput();
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;

  std::string id(std::size_t line) const;
  bool has(std::size_t line) const { return line < done_.size() && done_[line]; }
  std::size_t results() const noexcept { return results_; }  // that it had, or was given

  // The file stays, though it may be empty. Otherwise one that was made and got no result goes
  // again.
  void keep() noexcept { made_ = false; }

  // A whole line, or nothing and std::runtime_error with the system's reason. `text` has no
  // newline.
  void write(std::size_t line, const std::string& text);

 private:
  void lock();
  void read_results();
  void take(const std::string& text, std::size_t number);

  std::filesystem::path file_;
  std::string prefix_;  // of an id
  int fd_ = -1;
  bool made_ = false;
  std::vector<bool> done_;  // by line
  std::size_t results_ = 0, end_ = 0;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_OUTPUT_H_
