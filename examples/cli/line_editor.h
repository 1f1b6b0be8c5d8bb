// A typed line, edited with libedit. Compiled where that is there.
#ifndef EXAMPLES_CLI_LINE_EDITOR_H_
#define EXAMPLES_CLI_LINE_EDITOR_H_

#include <memory>
#include <string>

namespace cli {

// Emacs keys, or what ~/.editrc says. Lines typed are remembered in dsv32/history below
// XDG_STATE_HOME or ~/.local/state, for the user's eyes alone. One at a time.
class LineEditor {
 public:
  // Ctrl-C as a key: nothing was typed, or it went; woken: by `wake`.
  enum class Result { line, end, interrupted, dropped, woken };

  explicit LineEditor(int wake);  // a descriptor: reading ends when it is readable
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // `continued`: behind a line that goes on.
  Result read(std::string& line, bool continued);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_LINE_EDITOR_H_
