// What both formats' parsers share: the held-back text, reasoning, content, and what comes after.
#ifndef DSV32_LIB_TEXT_OUTPUT_PARSER_H_
#define DSV32_LIB_TEXT_OUTPUT_PARSER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/text/held_text.h"

namespace dsv32 {

inline constexpr std::string_view kSpace = " \t\r\n\v\f";

// The parser waits at a place in the text. step() consumes what is decided there, and nothing that
// more text could change: that makes the result independent of the split.
class OutputParser {
 public:
  using Events = std::vector<ParseEvent>;
  using Fault = ParseEvent::Fault;
  using Kind = ParseEvent::Kind;

  OutputParser(bool in_reasoning, ToolCallParserOptions options);
  virtual ~OutputParser() = default;
  virtual std::unique_ptr<OutputParser> clone() const = 0;
  virtual bool in_tool_call() const = 0;

  Events feed(std::string_view text, TextKind kind);
  Events finish(FinishReason reason);
  const Message& message() const { return message_; }
  std::span<const Fault> faults() const { return faults_; }

 protected:
  OutputParser(const OutputParser&) = default;
  OutputParser& operator=(const OutputParser&) = delete;

  // What a marker in the text means; the derived parsers' own come after `first_own`.
  enum : std::uint8_t { end_of_text, end_think, think, bos, eos, dsml, first_own };
  using Match = HeldText::Match;

  // The derived parser's part. open_block consumes the opener; block_step says if it got on.
  virtual std::span<const Marker> reasoning_openers() const = 0;
  virtual std::span<const Marker> content_openers() const = 0;
  virtual void open_block(const Match& opener) = 0;
  virtual bool block_step() = 0;
  virtual void finish_block() = 0;  // the text ends inside

  Match find(std::span<const Marker> markers, bool hold) { return held_.find(markers, hold); }
  bool starts_with(std::string_view text) const { return rest().starts_with(text); }
  // The rest is a beginning of `text` that could go on.
  bool may_become(std::string_view text) const { return !last_ && text.starts_with(rest()); }
  std::string_view rest() const { return held_.rest(); }
  std::string_view peek(std::size_t size) const { return rest().substr(0, size); }
  std::string_view peek_to(const Match& match) const { return peek(match.begin); }
  std::size_t rest_size() const { return held_.size(); }
  std::size_t offset() const { return held_.offset(); }
  void consume(std::size_t size) {
    held_.consume(size);
    held_.release();
  }
  bool in_block() const { return state_ == State::block; }
  void leave_block() { state_ = State::after_block; }
  void end() { state_ = State::after_end; }

  void emit(Kind kind, std::string_view text, Fault fault = Fault::none);
  void emit_call(Kind kind, std::string_view text, Fault fault = Fault::none);
  void repaired(Fault fault);
  // Output that fits no rule: `size` bytes of the rest are consumed. Strict: so is all that
  // follows.
  void malformed(Fault fault, std::size_t size);
  void malformed_text(Fault fault, std::string_view text, std::size_t offset);

  void begin_call(std::string name);
  void append_arguments(std::string_view json);
  void end_call();
  void abort_call(Fault fault);
  bool call_is_open() const { return call_open_; }
  // A call's size counts from its mark to what is decided, not to what has arrived.
  void mark_call_begin() {
    const std::size_t room = std::numeric_limits<std::size_t>::max() - offset();
    call_limit_ = offset() + std::min(options_.max_call_bytes, room);
  }
  bool is_too_long(const Match& match) const { return offset() + match.begin > call_limit_; }
  std::string_view peek_to_limit() const;  // whole characters
  bool has_all_calls() const { return next_call_ >= options_.max_calls; }

  const ToolCallParserOptions options_;
  bool last_ = false;  // no more text will come

 private:
  enum class State : std::uint8_t { reasoning, content, block, after_block, after_end, refused };

  void run();
  bool step();
  bool text_step(bool reasoning);
  bool after_block_step();
  void special(const Match& match, bool reasoning);
  void take_text(std::size_t size, bool reasoning);
  void finish_text();
  void note(Fault fault);

  State state_;
  HeldText held_{};
  bool finished_ = false;
  bool special_seen_ = false;  // strict: refused at the end, as the reference does
  bool space_after_block_ = false;
  bool call_open_ = false;
  int next_call_ = 0;
  std::size_t call_limit_ = 0;
  ToolCall call_{};
  Message message_{.role = Role::assistant};
  std::vector<Fault> faults_{};
  Events events_{};
};

std::unique_ptr<OutputParser> make_dsml_parser(bool in_reasoning, ToolCallParserOptions options);
std::unique_ptr<OutputParser> make_v31_parser(bool in_reasoning, ToolCallParserOptions options);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_OUTPUT_PARSER_H_
