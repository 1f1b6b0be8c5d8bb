// Lines from a terminal, with editing where libedit is there, or from a file or pipe.
#ifndef EXAMPLES_CLI_LINE_READER_H_
#define EXAMPLES_CLI_LINE_READER_H_

#include <memory>
#include <string>

#include "cli/interrupt.h"

namespace cli {

class LineEditor;

class LineReader {
 public:
  // Interrupted, dropped: Ctrl-C on an empty line, on one that is then gone. Cut: more was typed
  // than a terminal hands out of a line.
  enum class Result { line, end, interrupted, dropped, cut };

  // Reads `fd`, which stays open. `prompt`: a person types; show "> " on stdout, edit the line.
  LineReader(int fd, std::string name, bool prompt, Interrupt& interrupt);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // A line without its end. One that ends in a backslash goes on with the next. Throws
  // std::runtime_error for what cannot be read, and for UTF-16.
  Result read(std::string& line);

 private:
  Result read_one(std::string& line, bool continued);
  bool take_line(std::string& line);
  Result read_plain(std::string& line);

  int fd_;
  std::string name_;
  bool prompt_;
  bool tty_;
  bool at_start_ = true;
  bool end_ = false;
  std::string buffer_;
  Interrupt& interrupt_;
  std::unique_ptr<LineEditor> editor_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_LINE_READER_H_
