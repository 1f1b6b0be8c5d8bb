// What every reading of a model's output owes, and how two readings compare.
#ifndef DSV32_TESTS_SUPPORT_PARSE_EVENTS_H_
#define DSV32_TESTS_SUPPORT_PARSE_EVENTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/tool_call_parser.h"

namespace dsv32::test {

// What both formats take for markers, as a model's tokens have them.
inline const std::array<std::string, 10> kMarkers{"<think>",
                                                  "</think>",
                                                  "<｜begin▁of▁sentence｜>",
                                                  "<｜end▁of▁sentence｜>",
                                                  "｜DSML｜",
                                                  "<｜tool▁calls▁begin｜>",
                                                  "<｜tool▁calls▁end｜>",
                                                  "<｜tool▁call▁begin｜>",
                                                  "<｜tool▁call▁end｜>",
                                                  "<｜tool▁sep｜>"};

inline bool is_text(ParseEvent::Kind kind) {
  using Kind = ParseEvent::Kind;
  return kind == Kind::reasoning || kind == Kind::content || kind == Kind::malformed;
}

// Neighbours of one kind as one: the events of any split become those of any other.
inline std::vector<ParseEvent> joined(const std::vector<ParseEvent>& events) {
  std::vector<ParseEvent> out;
  for (const ParseEvent& event : events) {
    const bool streams = is_text(event.kind) || event.kind == ParseEvent::Kind::call_arguments;
    if (streams && !out.empty() && out.back().kind == event.kind &&
        out.back().fault == event.fault && out.back().call_index == event.call_index) {
      out.back().text += event.text;
      out.back().byte_length += event.byte_length;
    } else {
      out.push_back(event);
    }
  }
  return out;
}

inline bool same_events(const std::vector<ParseEvent>& x, const std::vector<ParseEvent>& y) {
  return std::ranges::equal(joined(x), joined(y), [](const ParseEvent& a, const ParseEvent& b) {
    return a.kind == b.kind && a.fault == b.fault && a.call_index == b.call_index &&
           a.byte_offset == b.byte_offset && a.byte_length == b.byte_length && a.text == b.text;
  });
}

// "" or what is wrong: the ranges of a finished output's events tile it, texts are their ranges,
// and what is no text did its work. `output` is what was fed, with its ill-formed parts replaced.
inline std::string range_fault(const std::vector<ParseEvent>& events, std::string_view output,
                               bool strict) {
  using Kind = ParseEvent::Kind;
  const bool has_call = std::ranges::count(events, Kind::call_end, &ParseEvent::kind) > 0;
  std::size_t end = 0;
  for (const ParseEvent& event : events) {
    if (event.byte_offset != end) return "a range does not begin where the last one ended";
    end += event.byte_length;
    if (end > output.size()) return "a range ends behind the output";
    const std::string_view range = output.substr(event.byte_offset, event.byte_length);
    const bool is_call = event.kind == Kind::call_begin || event.kind == Kind::call_arguments ||
                         event.kind == Kind::call_abort;
    if (is_text(event.kind) && event.text != range) return "a text is not its range";
    if (is_call && !range.empty()) return "a call that has not ended covers output";
    if (event.kind == Kind::call_end && range.empty()) return "a call without its markup";
    if (event.kind != Kind::markup) continue;
    if (range.empty() || !event.text.empty()) return "markup that is nothing";
    const bool token = range == "</think>" || range == "<｜end▁of▁sentence｜>";
    if (!token && !has_call && !strict) return "a block without a call is hidden";
  }
  return end == output.size() ? "" : "the output goes on behind the last range";
}

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_PARSE_EVENTS_H_
