#include "lib/text/output_parser.h"

#include <algorithm>
#include <array>
#include <utility>

namespace dsv32 {
namespace {

bool is_blank(std::string_view text) { return text.find_first_not_of(kSpace) == text.npos; }

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
  finished_ = true;
  held_.finish();
  // To the reference the end token is a part of the text.
  if (options_.strict && reason == FinishReason::stop && state_ != State::after_end &&
      state_ != State::refused) {
    held_.feed(markers::kEos, TextKind::any);
  }
  last_ = true;
  run();
  switch (state_) {
    case State::reasoning:
      if (options_.strict) {
        malformed(Fault::thinking_format, 0);
      } else if (reason == FinishReason::stop) {
        repaired(Fault::think_not_closed);
      }
      break;
    case State::content:
      if (options_.strict) malformed(Fault::summary_format, 0);
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
      return text_step(true);
    case State::content:
      return text_step(false);
    case State::block:
      return block_step();
    case State::after_block:
      return after_block_step();
    case State::after_end:
      if (rest_size() > 0) malformed(Fault::text_after_end, rest_size());
      return false;
    case State::refused:
      if (rest_size() > 0) malformed_text(faults_.back(), rest(), offset());
      consume(rest_size());
      return false;
  }
  return false;
}

// Reasoning or content, up to the next marker.
bool OutputParser::text_step(bool reasoning) {
  auto openers = reasoning ? reasoning_openers() : content_openers();
  if (!options_.calls) openers = {};
  std::array<Marker, 16> markers{};
  std::size_t count = 0;
  for (const Marker& opener : openers) markers[count++] = opener;
  for (const Marker& marker :
       {Marker{markers::kEndThink, end_think}, Marker{markers::kThink, think},
        Marker{markers::kBos, bos}, Marker{markers::kEos, eos}, Marker{markers::kDsml, dsml}}) {
    if (marker.id == dsml && !options_.calls) continue;
    markers[count++] = marker;
  }
  const Match match = find(std::span(markers).first(count), true);
  take_text(match.begin, reasoning);
  if (match.size == 0) {
    if (last_) finish_text();
    return false;
  }
  if (match.id >= first_own) {
    if (reasoning && options_.strict) {
      malformed(Fault::thinking_format, 0);
      return true;
    }
    if (reasoning) repaired(Fault::think_not_closed);
    state_ = State::block;
    open_block(match);
    return true;
  }
  special(match, reasoning);
  return true;
}

// A special token in reasoning or content: where they end, or something to mend.
void OutputParser::special(const Match& match, bool reasoning) {
  if (match.id == (reasoning ? end_think : eos)) {
    state_ = reasoning ? State::content : State::after_end;
    return consume(match.size);
  }
  if (options_.strict) {
    special_seen_ = true;
    return take_text(match.size, reasoning);
  }
  if (match.id == dsml) {
    repaired(reasoning ? Fault::special_token_in_reasoning : Fault::special_token_in_content);
    return take_text(match.size, reasoning);
  }
  if (match.id == eos) {
    repaired(Fault::think_not_closed);
    state_ = State::after_end;
  } else if (match.id == think && reasoning && is_blank(message_.reasoning)) {
    repaired(Fault::think_opened_twice);
  } else {
    repaired(Fault::special_token_dropped);
  }
  consume(match.size);
}

// What was held back at the end of the output is text, unless it began markup.
void OutputParser::finish_text() {
  if (rest_size() == 0) return;
  const bool markup = rest().find(markers::kDsml) != std::string_view::npos;
  if (markup && !options_.strict) return malformed(Fault::incomplete, rest_size());
  take_text(rest_size(), state_ == State::reasoning);
}

bool OutputParser::after_block_step() {
  if (rest_size() == 0) return false;
  if (held_.begins_with({markers::kEos, eos})) {
    consume(markers::kEos.size());
    state_ = State::after_end;
    return true;
  }
  if (may_become(markers::kEos)) return false;
  if (options_.strict) {
    malformed(Fault::text_after_calls, rest_size());
    return true;
  }
  // A second block goes on where the first one ended; other text is not an answer.
  const auto openers = content_openers();
  std::array<Marker, 12> markers{};
  std::size_t count = 0;
  for (const Marker& opener : openers) markers[count++] = opener;
  markers[count++] = {markers::kEos, eos};
  const Match match = find(std::span(markers).first(count), !last_);
  const std::string_view text = peek_to(match);
  if (!text.empty()) {
    // Space or not, a run at a time: the outcome must not depend on what came together.
    const bool blank = kSpace.find(text[0]) != kSpace.npos;
    const std::size_t end = blank ? text.find_first_not_of(kSpace) : text.find_first_of(kSpace);
    const std::size_t size = std::min(text.size(), end);
    if (!blank) {
      malformed(Fault::text_after_calls, size);
    } else {
      if (!std::exchange(space_after_block_, true)) repaired(Fault::extra_whitespace);
      consume(size);
    }
    return true;
  }
  if (match.size == 0) return false;
  if (!std::exchange(space_after_block_, true)) repaired(Fault::extra_whitespace);
  state_ = State::block;
  open_block(match);
  return true;
}

void OutputParser::take_text(std::size_t size, bool reasoning) {
  if (size == 0) return;
  const std::string_view text = peek(size);
  (reasoning ? message_.reasoning : message_.content) += text;
  emit(reasoning ? Kind::reasoning : Kind::content, text);
  consume(size);
}

void OutputParser::emit(Kind kind, std::string_view text, Fault fault) {
  const bool is_text = kind == Kind::reasoning || kind == Kind::content || kind == Kind::malformed;
  events_.push_back({.kind = kind,
                     .fault = fault,
                     .byte_offset = offset(),
                     .byte_length = is_text ? text.size() : 0,
                     .text = std::string(text)});
}

void OutputParser::emit_call(Kind kind, std::string_view text, Fault fault) {
  emit(kind, text, fault);
  events_.back().call_index = next_call_ - 1;
}

void OutputParser::repaired(Fault fault) {
  note(fault);
  emit(Kind::repaired, {}, fault);
}

void OutputParser::malformed(Fault fault, std::size_t size) {
  if (faults_.empty() || faults_.back() != fault) note(fault);
  malformed_text(fault, peek(size), offset());
  consume(size);
  if (!options_.strict) return;
  if (call_open_) abort_call(fault);
  state_ = State::refused;
}

void OutputParser::malformed_text(Fault fault, std::string_view text, std::size_t offset) {
  emit(Kind::malformed, text, fault);
  events_.back().byte_offset = offset;
}

void OutputParser::note(Fault fault) { faults_.push_back(fault); }

std::string_view OutputParser::peek_to_limit() const {
  if (call_limit_ <= offset()) return {};
  std::size_t size = call_limit_ - offset();
  while (size > 0 && size < rest_size() && (rest()[size] & 0xC0) == 0x80) --size;
  return peek(size);
}

void OutputParser::begin_call(std::string name) {
  const bool known = options_.tool_names.empty() ||
                     std::ranges::find(options_.tool_names, name) != options_.tool_names.end();
  ++next_call_;
  call_open_ = true;
  if (!known) note(Fault::unknown_tool);
  emit_call(Kind::call_begin, name, known ? Fault::none : Fault::unknown_tool);
  call_ = {.name = std::move(name)};
}

void OutputParser::append_arguments(std::string_view json) {
  if (json.empty()) return;
  call_.arguments_json += json;
  emit_call(Kind::call_arguments, json);
}

void OutputParser::end_call() {
  emit_call(Kind::call_end, {});
  call_open_ = false;
  message_.tool_calls.push_back(std::exchange(call_, {}));
}

void OutputParser::abort_call(Fault fault) {
  if (faults_.empty() || faults_.back() != fault) note(fault);
  emit_call(Kind::call_abort, {}, fault);
  call_open_ = false;
  call_ = {};
}

}  // namespace dsv32
