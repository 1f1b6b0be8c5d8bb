// Lines from a terminal, with editing where libedit is there, or from a file or pipe.
#ifndef EXAMPLES_CLI_LINE_READER_H_
#define EXAMPLES_CLI_LINE_READER_H_

#include <memory>
#include <string>

#include "cli/interrupt.h"

namespace cli {

class LineReader {
 public:
  enum class Result { line, end, interrupted };

  // Reads `fd`, which stays open. `prompt`: a person types; show "> " on stdout, edit the line.
  LineReader(int fd, bool prompt, Interrupt& interrupt);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // A line without its end. One that ends in a backslash goes on with the next.
  Result read(std::string& line);

 private:
  class Editor;
  Result read_one(std::string& line, bool continued);
  Result read_plain(std::string& line);

  int fd_;
  bool prompt_;
  bool end_ = false;
  std::string buffer_;
  Interrupt& interrupt_;
  std::unique_ptr<Editor> editor_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_LINE_READER_H_
