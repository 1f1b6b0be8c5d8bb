// From generated text to a message and its events. Knows no session, so that whoever generates can
// drive it.
#ifndef DSV32_LIB_ENGINE_TURN_READER_H_
#define DSV32_LIB_ENGINE_TURN_READER_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "dsv32/chat.h"

namespace dsv32 {

class TurnReader {
 public:
  TurnReader(ChatFormat format, bool in_reasoning, const ToolCallParserOptions& options)
      : parser_(format, in_reasoning, options) {}

  std::vector<ParseEvent> feed(std::string_view text) {
    read_ += text.size();
    return parser_.feed(text);
  }
  // What the last tokens' texts had not, and what the parser held back.
  std::vector<ParseEvent> finish(const Generation& generation);
  // When it has finished.
  ChatTurn turn(const Generation& generation) const;

 private:
  ToolCallParser parser_;
  std::size_t read_ = 0;  // bytes of the generated text
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_TURN_READER_H_
