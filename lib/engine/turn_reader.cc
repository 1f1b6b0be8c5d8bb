#include "lib/engine/turn_reader.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace dsv32 {

TurnReader::TurnReader(ToolCallParser parser, const std::vector<std::string>& stop_strings,
                       bool stops_in_reasoning)
    : parser_(std::move(parser)),
      stops_(stop_strings),
      any_stops_(!stop_strings.empty()),
      stops_in_reasoning_(stops_in_reasoning) {}

TurnReader::Events TurnReader::feed(std::string_view text, PieceKind kind) {
  if (stopped() || text.empty()) return {};
  size_ += text.size();
  return screen(kind == PieceKind::by_text ? parser_.feed(text)
                                           : parser_.feed(text, kind == PieceKind::marker));
}

TurnReader::Events TurnReader::finish(FinishReason reason) {
  if (stopped()) return {};
  Events out = screen(parser_.finish(reason));
  if (!stopped()) emit_text(stops_.flush(), out);
  return out;
}

TurnReader::Events TurnReader::screen(Events events) {
  using Kind = ParseEvent::Kind;
  Events out;
  for (ParseEvent& event : events) {
    if (stopped()) break;
    const bool searched = any_stops_ && (event.kind == Kind::content ||
                                         (event.kind == Kind::reasoning && stops_in_reasoning_));
    if (!searched || event.kind != held_kind_) emit_text(stops_.flush(), out);
    if (searched) {
      screen_text(event, out);
    } else {
      emit(std::move(event), out);
    }
  }
  return out;
}

// The ranges of content and reasoning are their texts, so a part of one has a part of the range.
void TurnReader::screen_text(const ParseEvent& event, Events& out) {
  held_kind_ = event.kind;
  held_offset_ = event.byte_offset - stops_.held();
  emit_text(stops_.push(event.text), out);
  if (stopped()) stop_offset_ = held_offset_;
}

void TurnReader::emit_text(std::string text, Events& out) {
  if (text.empty()) return;
  const std::size_t size = text.size();
  const std::size_t begin = std::exchange(held_offset_, held_offset_ + size);
  emit({.kind = held_kind_, .byte_offset = begin, .byte_length = size, .text = std::move(text)},
       out);
}

void TurnReader::emit(ParseEvent event, Events& out) {
  using Kind = ParseEvent::Kind;
  const std::size_t end = event.byte_offset + event.byte_length;
  const auto behind = std::lower_bound(begins_.begin(), begins_.end(), end);
  event.tokens_end = static_cast<std::size_t>(behind - begins_.begin());
  if (event.kind == Kind::reasoning) shown_.reasoning += event.text;
  if (event.kind == Kind::content) shown_.content += event.text;
  if (event.kind == Kind::call_end) ++calls_shown_;
  if (event.fault != ParseEvent::Fault::none) faults_shown_.push_back(event.fault);
  out.push_back(std::move(event));
}

Message TurnReader::message() const {
  Message message = parser_.message();
  if (!stopped()) return message;
  message.reasoning = shown_.reasoning;
  message.content = shown_.content;
  message.tool_calls.resize(std::min(calls_shown_, message.tool_calls.size()));
  return message;
}

// Of those that the parser noted, in its order.
std::vector<ParseEvent::Fault> TurnReader::faults() const {
  const auto noted = parser_.faults();
  std::vector<ParseEvent::Fault> faults;
  std::copy_if(noted.begin(), noted.end(), std::back_inserter(faults), [&](auto fault) {
    return !stopped() ||
           std::find(faults_shown_.begin(), faults_shown_.end(), fault) != faults_shown_.end();
  });
  return faults;
}

}  // namespace dsv32
