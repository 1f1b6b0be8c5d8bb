#include "lib/text/output_parser.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace dsv32 {
namespace {

// White space between and behind calls is held until it shows what it is; more than this is text.
constexpr std::size_t kMaxGap = 4096;

bool is_blank(std::string_view text) { return text.find_first_not_of(kSpace) == text.npos; }
bool is_text(ParseEvent::Kind kind) {
  using Kind = ParseEvent::Kind;
  return kind == Kind::reasoning || kind == Kind::content || kind == Kind::malformed;
}

}  // namespace

OutputParser::OutputParser(bool in_reasoning, ToolCallParserOptions options)
    : options_(std::move(options)), state_(in_reasoning ? State::reasoning : State::content) {}

OutputParser::Events OutputParser::feed(std::string_view text, TextKind kind) {
  if (finished_) return {};
  held_.feed(text, kind);
  run();
  return std::exchange(events_, {});
}

OutputParser::Events OutputParser::finish(FinishReason reason) {
  if (finished_) return {};
  finished_ = last_ = true;
  stopped_ = reason == FinishReason::stop;
  held_.finish();
  for (run(); trial_.on; run()) fail_trial();
  switch (state_) {
    case State::reasoning:
      if (options_.strict) {
        malformed(Fault::thinking_format, 0);
      } else if (stopped_) {
        repaired(Fault::think_not_closed);
      }
      break;
    case State::content:
      // To the reference the end token is a part of the text.
      if (options_.strict && !stopped_) malformed(Fault::summary_format, 0);
      break;
    case State::block:
      finish_block();
      break;
    case State::after_block:
    case State::after_end:
    case State::refused:
      break;
  }
  if (special_seen_ && faults_.empty()) malformed(Fault::special_token, 0);
  return std::exchange(events_, {});
}

void OutputParser::run() {
  while (step()) {
  }
  held_.compact();
}

bool OutputParser::step() {
  switch (state_) {
    case State::reasoning:
    case State::content:
      return text_step();
    case State::block:
      return block_step();
    case State::after_block:
      return after_block_step();
    case State::after_end:
      if (rest_size() > 0) malformed(Fault::text_after_end, rest_size());
      return false;
    case State::refused:
      consume(rest_size());
      cover(Kind::malformed, refused_);
      return false;
  }
  return false;
}

// The next marker in reasoning or content, and what it is if it is the derived parser's.
OutputParser::Match OutputParser::find_in_text(Opening& what) {
  const bool reasoning = state_ == State::reasoning;
  static constexpr std::array<Marker, 5> kTokens{{{markers::kEndThink, end_think},
                                                  {markers::kThink, think},
                                                  {markers::kBos, bos},
                                                  {markers::kEos, eos},
                                                  {markers::kDsml, dsml}}};
  std::array<Marker, kMaxOpeners + kTokens.size()> markers;
  std::size_t count =
      options_.calls ? openers(reasoning, std::span(markers).first<kMaxOpeners>()) : 0;
  for (const Marker& token : kTokens) {
    if (token.id != dsml || options_.calls) markers[count++] = token;
  }
  Match match = find(std::span(markers).first(count), !last_);
  what = match.id >= first_own ? opening(match) : Opening::none;
  if (match.id >= first_own && what == Opening::none) {  // its token is, no more
    const std::size_t size = markers::kDsml.size();
    match = {match.begin + match.size - size, size, dsml};
  }
  return match;
}

// Reasoning or content, up to the next marker.
bool OutputParser::text_step() {
  const bool reasoning = state_ == State::reasoning;
  Opening what = Opening::none;
  Match match = find_in_text(what);
  if (in_gap_ && is_blank_to(match)) {
    if (gap_holds(match, what)) return false;
  } else if (in_gap_) {
    in_gap_ = false;
    malformed(Fault::text_after_calls, 0);
  }
  if (!in_gap_) {
    take_text(match.begin, reasoning);
    match.begin = 0;
  }
  switch (what) {
    case Opening::undecided:
      return false;
    case Opening::cut:
      malformed(Fault::incomplete, rest_size());
      return false;
    case Opening::block:
    case Opening::trial:
      open(match, what);
      return true;
    case Opening::close:
      consume(match.begin + match.size);
      cover_markup();
      recovered_ = false;
      begin_gap();
      return true;
    case Opening::none:
      break;
  }
  if (match.size == 0) return false;
  drop_gap(match.begin);
  match.begin = 0;
  return special(match, reasoning);
}

// Blank text up to the match, in a gap: whether it must wait, or ended with the output.
bool OutputParser::gap_holds(const Match& match, Opening what) {
  const bool open_end = match.size == 0 || what == Opening::undecided;
  if (open_end && !last_) return true;
  if (match.size == 0) {
    drop_gap(match.begin);
    return true;
  }
  if (match.id == dsml || what == Opening::cut) {
    in_gap_ = false;
    malformed(Fault::text_after_calls, 0);
  }
  return false;
}

// White space behind calls. Behind a call without its block it may be the tags' own.
void OutputParser::drop_gap(std::size_t size) {
  if (size == 0) return;
  consume(size);
  if (recovered_) return cover_markup();
  note(Fault::extra_whitespace);
  cover(Kind::repaired, Fault::extra_whitespace);
}

// A block, or what is tried as one. White space in front of it goes with it.
void OutputParser::open(Match match, Opening what) {
  const bool reasoning = state_ == State::reasoning;
  if (reasoning && options_.strict) return malformed(Fault::thinking_format, 0);
  if (what == Opening::trial) {
    trial_ = {.on = true, .in_gap = in_gap_, .next_call = next_call_, .events = {}};
  }
  if (reasoning) repaired(Fault::think_not_closed);
  if (in_gap_ && (what == Opening::block || match.begin > 0)) repaired(Fault::extra_whitespace);
  consume(match.begin);
  match.begin = 0;
  state_ = State::block;
  block_has_calls_ = false;
  in_gap_ = false;
  open_block(match);
}

// A special token in reasoning or content: where they end, or something to mend.
bool OutputParser::special(const Match& match, bool reasoning) {
  if (match.id == (reasoning ? end_think : eos)) {
    state_ = reasoning ? State::content : State::after_end;
    consume(match.size);
    cover_markup();
    return true;
  }
  if (options_.strict) {
    special_seen_ = true;
    take_text(match.size, reasoning);
    return true;
  }
  if (match.id == dsml) {
    repaired(reasoning ? Fault::special_token_in_reasoning : Fault::special_token_in_content);
    take_text(match.size, reasoning);
    return true;
  }
  if (match.id == eos) {
    repaired(Fault::think_not_closed);
    state_ = State::after_end;
    consume(match.size);
    cover_markup();
    return true;
  }
  const bool twice = match.id == think && reasoning && reasoning_blank_;
  const Fault fault = twice ? Fault::think_opened_twice : Fault::special_token_dropped;
  note(fault);
  consume(match.size);
  cover(Kind::repaired, fault);
  begin_gap();
  return true;
}

// Strict: the end token or the end.
bool OutputParser::after_block_step() {
  if (rest_size() == 0) return false;
  static constexpr Marker kEndToken(markers::kEos, eos);
  if (has_marker(kEndToken, 0)) {
    consume(markers::kEos.size());
    cover_markup();
    state_ = State::after_end;
    return true;
  }
  if (!last_ && markers::kEos.starts_with(rest())) return false;
  malformed(Fault::text_after_calls, rest_size());
  return true;
}

bool OutputParser::is_blank_to(const Match& match) {
  const std::string_view text = peek_to(match);
  while (gap_space_ < text.size() && gap_space_ <= kMaxGap &&
         kSpace.find(text[gap_space_]) != kSpace.npos) {
    ++gap_space_;
  }
  return gap_space_ >= text.size() && text.size() <= kMaxGap;
}

void OutputParser::leave_block() {
  state_ = options_.strict ? State::after_block : State::content;
  in_gap_ = !options_.strict;
  begin_gap();
}

void OutputParser::take_text(std::size_t size, bool reasoning) {
  if (size == 0) return;
  const std::string_view text = peek(size);
  (reasoning ? message_.reasoning : message_.content) += text;
  if (reasoning && reasoning_blank_) reasoning_blank_ = is_blank(text);
  consume(size);
  cover(reasoning ? Kind::reasoning : Kind::content, Fault::none);
}

// An event that covers nothing.
void OutputParser::emit(Kind kind, std::string_view text, Fault fault) {
  Events& events = trial_.on ? trial_.events : events_;
  events.push_back(
      {.kind = kind, .fault = fault, .byte_offset = held_.kept(), .text = std::string(text)});
}

void OutputParser::emit_call(Kind kind, std::string_view text, Fault fault) {
  emit(kind, text, fault);
  (trial_.on ? trial_.events : events_).back().call_index = next_call_ - 1;
}

// An event for all that is pending.
void OutputParser::cover(Kind kind, Fault fault) {
  const std::string_view text = held_.pending();
  if (text.empty()) return;
  emit(kind, is_text(kind) ? text : std::string_view{}, fault);
  events_.back().byte_length = text.size();
  held_.release();
}

void OutputParser::repaired(Fault fault) {
  if (!trial_.on) note(fault);
  emit(Kind::repaired, {}, fault);
}

void OutputParser::malformed(Fault fault, std::size_t size) {
  note(fault);
  if (call_open_) {
    emit_call(Kind::call_abort, {}, fault);
    call_open_ = false;
    call_ = {};
  }
  consume(size);
  if (held_.pending().empty()) emit(Kind::malformed, {}, fault);
  cover(Kind::malformed, fault);
  if (!options_.strict) return;
  refused_ = fault;
  state_ = State::refused;
}

void OutputParser::note(Fault fault) {
  if (std::ranges::find(faults_, fault) == faults_.end()) faults_.push_back(fault);
}

std::string_view OutputParser::peek_to_limit() const {
  if (call_limit_ <= offset()) return {};
  std::size_t size = call_limit_ - offset();
  while (size > 0 && size < rest_size() && (rest()[size] & 0xC0) == 0x80) --size;
  return peek(size);
}

bool OutputParser::is_declared(std::string_view name) const {
  return options_.tool_names.empty() ||
         std::ranges::find(options_.tool_names, name) != options_.tool_names.end();
}

void OutputParser::begin_call(std::string name) {
  const bool known = is_declared(name);
  ++next_call_;
  call_open_ = true;
  if (!known) note(Fault::unknown_tool);
  emit_call(Kind::call_begin, name, known ? Fault::none : Fault::unknown_tool);
  call_ = {.name = std::move(name)};
}

void OutputParser::append_arguments(std::string_view json) {
  if (json.empty()) return;
  call_.arguments_json += json;
  // On trial the pieces wait: as one, whatever their size.
  if (trial_.on && !trial_.events.empty() && trial_.events.back().kind == Kind::call_arguments) {
    trial_.events.back().text += json;
    return;
  }
  emit_call(Kind::call_arguments, json);
}

void OutputParser::end_call() {
  recovered_ = trial_.on;
  if (trial_.on) {
    for (const ParseEvent& event : trial_.events) {
      if (event.fault != Fault::none) note(event.fault);
    }
    std::ranges::move(trial_.events, std::back_inserter(events_));
    trial_ = {};
  }
  emit_call(Kind::call_end, {});
  events_.back().byte_length = held_.pending().size();
  held_.release();
  call_open_ = false;
  block_has_calls_ = true;
  message_.tool_calls.push_back(std::exchange(call_, {}));
}

// It was text: back to where it began. What it covered is not tried again.
void OutputParser::fail_trial() {
  tried_until_ = offset();
  call_open_ = false;
  call_ = {};
  next_call_ = trial_.next_call;
  in_gap_ = trial_.in_gap;
  begin_gap();
  trial_ = {};
  state_ = State::content;
  held_.rewind();
}

}  // namespace dsv32
