#include "tests/conformance/messages.h"

#include <map>
#include <utility>

#include "lib/base/check.h"
#include "lib/text/utf8.h"
#include "tests/conformance/conformance.h"
#include "tests/support/parse_events.h"

namespace dsv32::conformance {
namespace {

bool is_null(const Json* value) { return value == nullptr || value->kind == Json::Kind::null; }

// Python's truth: empty lists and objects are false.
bool is_true(const Json* value) {
  if (is_null(value)) return false;
  return value->kind != Json::Kind::boolean
             ? !value->items.empty() || !value->members.empty() || !value->text.empty()
             : value->boolean;
}

std::string text_of(const Json* value, std::string_view what) {
  if (is_null(value)) return {};
  DSV32_CHECK(value->is_string(), unsupported, "{} is no text", what);
  return value->text;
}

Role role_of(const Json& json) {
  static const std::map<std::string, Role, std::less<>> roles = {{"system", Role::system},
                                                                 {"developer", Role::developer},
                                                                 {"user", Role::user},
                                                                 {"assistant", Role::assistant},
                                                                 {"tool", Role::tool}};
  const std::string name = text_of(json.find("role"), "role");
  const auto role = roles.find(name);
  DSV32_CHECK(role != roles.end(), invalid_argument, "unknown role {}", quote(name));
  return role->second;
}

ToolCall call_of(const Json& json) {
  const Json* inner = json.find("function");
  const Json& function = inner == nullptr ? json : *inner;
  const Json& arguments = member(function, "arguments");
  DSV32_CHECK(arguments.is_string(), invalid_argument, "arguments are not a string");
  return {.name = member(function, "name").text, .arguments_json = arguments.text};
}

// The events, put together as an application would.
Message assemble(const std::vector<ParseEvent>& events, std::string& broken) {
  using Kind = ParseEvent::Kind;
  Message message{.role = Role::assistant};
  std::map<int, ToolCall> open;
  for (const ParseEvent& event : events) {
    switch (event.kind) {
      case Kind::reasoning:
        message.reasoning += event.text;
        break;
      case Kind::content:
        message.content += event.text;
        break;
      case Kind::call_begin:
        if (!open.emplace(event.call_index, ToolCall{.name = event.text}).second) {
          broken = "a call index was used twice";
        }
        break;
      case Kind::call_arguments:
        open[event.call_index].arguments_json += event.text;
        break;
      case Kind::call_end:
        message.tool_calls.push_back(open[event.call_index]);
        break;
      case Kind::call_abort:
      case Kind::repaired:
      case Kind::malformed:
      case Kind::markup:
        break;
    }
  }
  return message;
}

bool same_message(const Message& x, const Message& y) {
  if (x.content != y.content || x.reasoning != y.reasoning) return false;
  if (x.tool_calls.size() != y.tool_calls.size()) return false;
  for (std::size_t i = 0; i < x.tool_calls.size(); ++i) {
    if (x.tool_calls[i].name != y.tool_calls[i].name) return false;
    if (x.tool_calls[i].arguments_json != y.tool_calls[i].arguments_json) return false;
  }
  return true;
}

}  // namespace

Message to_message(const Json& json) {
  DSV32_CHECK(json.is_object(), bad_format, "a message is no object");
  Message message{.role = role_of(json),
                  .content = text_of(json.find("content"), "content"),
                  .reasoning = text_of(json.find("reasoning_content"), "reasoning_content")};
  if (const Json* calls = json.find("tool_calls"); is_true(calls)) {
    for (const Json& call : calls->items) message.tool_calls.push_back(call_of(call));
  }
  if (const Json* tools = json.find("tools"); is_true(tools)) {
    for (const Json& tool : tools->items) message.tools_json.push_back(python_json(tool));
  }
  if (const Json* format = json.find("response_format"); is_true(format)) {
    message.response_format_json = python_json(*format);
  }
  return message;
}

std::vector<Message> to_messages(const Json& list) {
  std::vector<Message> messages;
  for (const Json& item : list.items) messages.push_back(to_message(item));
  return messages;
}

ThinkingMode to_mode(std::string_view word) {
  DSV32_CHECK(word == "chat" || word == "thinking", invalid_argument, "thinking mode {}",
              quote(word));
  return word == "chat" ? ThinkingMode::chat : ThinkingMode::thinking;
}

std::uint64_t Random::next() {
  std::uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Parsed parse(ToolCallParser parser, std::string_view text, const std::vector<std::size_t>& cuts,
             FinishReason finish) {
  Parsed out;
  const auto take = [&](std::vector<ParseEvent> events) {
    for (ParseEvent& event : events) {
      if (event.text.find("\xEF\xBF\xBD") != std::string::npos &&
          text.find("\xEF\xBF\xBD") == std::string_view::npos &&
          valid_utf8(std::string(text)) == text) {
        out.broken = "a character was torn";
      }
      out.refused = out.refused || event.kind == ParseEvent::Kind::malformed;
      out.events.push_back(std::move(event));
    }
  };
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    take(parser.feed(text.substr(begin, cut - begin)));
    begin = cut;
  }
  take(parser.feed(text.substr(begin)));
  take(parser.finish(finish));
  out.message = parser.message();
  out.faults.assign(parser.faults().begin(), parser.faults().end());
  if (!same_message(out.message, assemble(out.events, out.broken))) {
    out.broken = "events and message differ";
  }
  if (out.broken.empty()) {
    out.broken = test::range_fault(out.events, valid_utf8(std::string(text)), true);
  }
  return out;
}

std::vector<std::size_t> every_byte(std::string_view text) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 1; i < text.size(); ++i) cuts.push_back(i);
  return cuts;
}

std::vector<std::size_t> random_cuts(std::string_view text, Random& random) {
  std::vector<std::size_t> cuts;
  const std::size_t longest = 1 + random.below(64);
  for (std::size_t at = 1 + random.below(longest); at < text.size();
       at += 1 + random.below(longest)) {
    cuts.push_back(at);
  }
  return cuts;
}

bool same(const Parsed& x, const Parsed& y) {
  return same_message(x.message, y.message) && x.faults == y.faults && x.refused == y.refused &&
         x.broken == y.broken && test::same_events(x.events, y.events);
}

std::string compare_text(std::string_view what, std::string_view got, std::string_view want) {
  if (got == want) return {};
  std::size_t at = 0;
  while (at < got.size() && at < want.size() && got[at] == want[at]) ++at;
  return formatted("{} differs at byte {}: {}, not {}", what, at, quote(got.substr(at, 40)),
                   quote(want.substr(at, 40)));
}

std::string compare_calls(const std::vector<ToolCall>& got, const Json& want) {
  if (got.size() != want.items.size()) {
    return formatted("{} calls, not {}", got.size(), want.items.size());
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Json* inner = want.items[i].find("function");
    const Json& function = inner == nullptr ? want.items[i] : *inner;
    if (std::string text = compare_text("name", got[i].name, member(function, "name").text);
        !text.empty()) {
      return text;
    }
    if (std::string text =
            compare_text("arguments", got[i].arguments_json, member(function, "arguments").text);
        !text.empty()) {
      return text;
    }
  }
  return {};
}

}  // namespace dsv32::conformance
