// From generated text to a message and its events. Knows no session and no tokenizer, so that
// whoever generates can drive it.
#ifndef DSV32_LIB_ENGINE_TURN_READER_H_
#define DSV32_LIB_ENGINE_TURN_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/engine/stop_matcher.h"

namespace dsv32 {

// What the text of a piece of output can be.
enum class PieceKind : std::uint8_t { by_text, text, marker };

class TurnReader {
 public:
  using Events = std::vector<ParseEvent>;

  // Stop strings are looked for in content, and in reasoning if asked: each run of it by itself, so
  // that none reaches across a marker or a call.
  TurnReader(ToolCallParser parser, const std::vector<std::string>& stop_strings,
             bool stops_in_reasoning);

  // What follows is of the next token.
  void begin_token() { begins_.push_back(size_); }
  Events feed(std::string_view text, PieceKind kind);
  // No more will come. `stop`: the model wrote its end token.
  Events finish(FinishReason reason);

  bool stopped() const { return stops_.matched(); }  // by a stop string; nothing more is read
  const std::string& stop_string() const { return stops_.match(); }
  // Bytes of the output that count: all, or those in front of the stop string.
  std::size_t size() const { return stopped() ? stop_offset_ : size_; }

  // What there is so far, but for text that is held back.
  Message message() const;
  std::vector<ParseEvent::Fault> faults() const;

 private:
  Events screen(Events events);
  void screen_text(const ParseEvent& event, Events& out);
  void emit(ParseEvent event, Events& out);
  void emit_text(std::string text, Events& out);

  ToolCallParser parser_;
  StopMatcher stops_;
  bool any_stops_, stops_in_reasoning_;
  std::size_t size_ = 0;               // bytes of output
  std::vector<std::size_t> begins_{};  // of each token's text
  // What stops_ holds back: of which kind, and where it begins.
  ParseEvent::Kind held_kind_ = ParseEvent::Kind::content;
  std::size_t held_offset_ = 0;
  // What was shown: a stop string cuts the parser's message down to it.
  Message shown_{.role = Role::assistant};
  std::size_t calls_shown_ = 0, stop_offset_ = 0;
  std::vector<ParseEvent::Fault> faults_shown_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_TURN_READER_H_
