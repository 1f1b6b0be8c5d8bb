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
// more text could change: that makes the result independent of the split. What is consumed is
// pending until an event covers it; every byte is covered once, in order.
class OutputParser {
 public:
  using Events = std::vector<ParseEvent>;
  using Fault = ParseEvent::Fault;
  using Kind = ParseEvent::Kind;

  OutputParser(bool in_reasoning, ToolCallParserOptions options);
  virtual ~OutputParser() = default;
  virtual std::unique_ptr<OutputParser> clone() const = 0;

  Events feed(std::string_view text, TextKind kind);
  Events finish(FinishReason reason);
  const Message& message() const { return message_; }
  std::span<const Fault> faults() const { return faults_; }
  bool in_tool_call() const { return state_ == State::block && !trial_.on && !in_block_gap(); }

 protected:
  OutputParser(const OutputParser&) = default;
  OutputParser& operator=(const OutputParser&) = delete;

  using Match = HeldText::Match;
  // What a marker in the text means; the derived parsers' own come after `first_own`.
  enum : std::uint8_t { end_of_text, end_think, think, bos, eos, dsml, first_own };
  // What a derived parser's marker in text turns out to be.
  enum class Opening : std::uint8_t {
    undecided,
    none,   // text
    cut,    // the output ends in an opener
    block,  // calls follow
    trial,  // a call, if it ends and has a name that may be taken for one
    close,  // the end of what was recovered from trials
  };

  // The derived parser's part. openers() fills `out` and says how many. open_block consumes the
  // opener; block_step says if it got on.
  static constexpr std::size_t kMaxOpeners = 8;
  virtual std::size_t openers(bool reasoning, std::span<Marker> out) const = 0;
  virtual Opening opening(const Match& opener) const = 0;
  virtual void open_block(const Match& opener) = 0;
  virtual bool block_step() = 0;
  virtual void finish_block() = 0;  // the text ends inside
  virtual bool in_block_gap() const = 0;

  Match find(std::span<const Marker> markers, bool hold) { return held_.find(markers, hold); }
  bool starts_with(std::string_view text) const { return rest().starts_with(text); }
  bool has_marker(const Marker& marker, std::size_t at) const {
    return held_.begins_with(marker, at);
  }
  std::string_view rest() const { return held_.rest(); }
  std::string_view peek(std::size_t size) const { return rest().substr(0, size); }
  std::string_view peek_to(const Match& match) const { return peek(match.begin); }
  std::size_t rest_size() const { return held_.size(); }
  std::size_t offset() const { return held_.offset(); }
  std::size_t tried_until() const { return tried_until_; }
  void consume(std::size_t size) { held_.consume(size); }

  // The text up to the match, from which a gap between calls or behind them begins, is white space
  // only, and not too much to be held. Looks at no byte twice.
  bool is_blank_to(const Match& match);
  void begin_gap() { gap_space_ = 0; }
  void leave_block();
  void end() { state_ = State::after_end; }

  void repaired(Fault fault);
  // All that is pending is markup, or was dropped.
  void cover_markup() { cover(Kind::markup, Fault::none); }
  // Output that fits no rule: all that is pending, and `size` bytes of the rest. An open call is
  // aborted. Strict: so is all that follows.
  void malformed(Fault fault, std::size_t size);
  void take_text(std::size_t size, bool reasoning);

  void begin_call(std::string name);
  void append_arguments(std::string_view json);
  void end_call();
  bool call_is_open() const { return call_open_; }
  bool is_declared(std::string_view name) const;
  // Calls ended in this block.
  bool block_has_calls() const { return block_has_calls_; }
  bool on_trial() const { return trial_.on; }
  // The last call was tried, and ended: it had no block of its own.
  bool recovered() const { return recovered_; }
  void fail_trial();
  bool stopped() const { return stopped_; }
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
  // A call that may turn out to be text: then all is as it was before.
  struct Trial {
    bool on = false;
    bool in_gap = false;
    int next_call = 0;
    Events events{};
  };

  void run();
  bool step();
  bool text_step();
  Match find_in_text(Opening& what);
  bool gap_holds(const Match& match, Opening what);
  void open(Match match, Opening what);
  bool after_block_step();
  void drop_gap(std::size_t size);
  bool special(const Match& match, bool reasoning);
  void emit(Kind kind, std::string_view text, Fault fault);
  void emit_call(Kind kind, std::string_view text, Fault fault = Fault::none);
  void cover(Kind kind, Fault fault);
  void note(Fault fault);

  State state_;
  HeldText held_{};
  bool finished_ = false;
  bool stopped_ = false;
  bool special_seen_ = false;    // strict: refused at the end, as the reference does
  bool reasoning_blank_ = true;  // so far
  bool in_gap_ = false;          // behind calls, with nothing but white space
  std::size_t gap_space_ = 0;    // white space known to begin the gap
  bool recovered_ = false;
  bool call_open_ = false;
  bool block_has_calls_ = false;
  int next_call_ = 0;
  std::size_t call_limit_ = 0;
  std::size_t tried_until_ = 0;  // before here no call is looked for without its block
  Trial trial_{};
  ToolCall call_{};
  Message message_{.role = Role::assistant};
  std::vector<Fault> faults_{};
  Fault refused_ = Fault::none;
  Events events_{};
};

std::unique_ptr<OutputParser> make_dsml_parser(bool in_reasoning, ToolCallParserOptions options);
std::unique_ptr<OutputParser> make_v31_parser(bool in_reasoning, ToolCallParserOptions options);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_OUTPUT_PARSER_H_
