// Lines typed in earlier runs.
#ifndef EXAMPLES_CLI_LINE_HISTORY_H_
#define EXAMPLES_CLI_LINE_HISTORY_H_

#include <string>
#include <vector>

namespace cli {

// A file of lines below XDG_STATE_HOME (else ~/.local/state), mode 0600, appended to as lines are
// typed, so that programs which run beside each other lose none. Without such a place, or where it
// cannot be written, nothing is remembered.
class LineHistory {
 public:
  static constexpr std::size_t kLines = 1000;

  LineHistory();
  ~LineHistory();
  LineHistory(const LineHistory&) = delete;
  LineHistory& operator=(const LineHistory&) = delete;

  const std::vector<std::string>& lines() const noexcept { return lines_; }  // the oldest first
  void add(const std::string& line);

 private:
  int fd_ = -1;
  std::vector<std::string> lines_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_LINE_HISTORY_H_
