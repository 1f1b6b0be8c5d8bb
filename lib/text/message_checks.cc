#include "lib/text/message_checks.h"

#include <algorithm>
#include <string>

#include "lib/base/check.h"
#include "lib/base/check_enum.h"
#include "lib/text/utf8.h"

namespace dsv32 {
namespace {

// Fields that the message's role does not have would be left out without a word.
void check_fields(const Message& m, std::size_t i) {
  const bool declares = m.role == Role::system || m.role == Role::developer;
  const bool answers = m.role == Role::assistant;
  const auto belongs = [&](bool empty, bool has_it, std::string_view field, std::string_view to) {
    DSV32_CHECK(empty || has_it, invalid_argument, "messages[{}]: {} belongs to {}", i, field, to);
  };
  constexpr std::string_view kDeclares = "a system or developer message";
  constexpr std::string_view kAnswers = "an assistant message";
  belongs(m.tools_json.empty(), declares, "tools_json", kDeclares);
  belongs(m.response_format_json.empty(), declares, "response_format_json", kDeclares);
  belongs(m.reasoning.empty(), answers, "reasoning", kAnswers);
  belongs(m.tool_calls.empty(), answers, "tool_calls", kAnswers);
  belongs(!m.prefix, answers, "prefix", kAnswers);
  belongs(m.tool_call_id.empty(), m.role == Role::tool, "tool_call_id", "a tool message");
}

void check_sizes(const Message& m, std::size_t i) {
  const auto at_most = [&](std::size_t size, std::size_t most, std::string_view what) {
    DSV32_CHECK(size <= most, limit, "messages[{}]: {} {}, at most {}", i, size, what, most);
  };
  at_most(m.tools_json.size(), kMaxTools, "tools");
  for (const std::string& tool : m.tools_json)
    at_most(tool.size(), kMaxToolBytes, "bytes of a tool");
  at_most(m.response_format_json.size(), kMaxToolBytes, "bytes of response_format_json");
  at_most(m.tool_calls.size(), kMaxCalls, "tool calls");
  for (const ToolCall& call : m.tool_calls) {
    at_most(call.arguments_json.size(), kMaxArgumentBytes, "bytes of a call's arguments");
  }
}

void tell(const LogSink& log, const std::string& message) {
  if (!log) return;
  try {
    log(LogLevel::warning, message);
  } catch (...) {  // NOLINT(bugprone-empty-catch): a log changes nothing
  }
}

bool fits_name(const Utf8Char& c) {
  const bool control = c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0);
  return c.state == Utf8Char::State::valid && !control && c.code != '"' && c.code != '<' &&
         c.code != '>' && c.code != 0xFF5C;
}

std::vector<std::size_t> in_call_order(std::span<const Message> messages, std::size_t begin,
                                       std::size_t end, const std::vector<ToolCall>& calls) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<std::size_t> by_call(calls.size(), kNone);
  for (std::size_t i = begin; i < end; ++i) {
    const std::string& id = messages[i].tool_call_id;
    if (id.empty()) continue;
    const auto call = std::ranges::find(calls, id, &ToolCall::id);
    DSV32_CHECK(call != calls.end(), invalid_argument,
                "messages[{}]: no call of the last answer has the id {}", i, quote(id));
    std::size_t& slot = by_call[static_cast<std::size_t>(call - calls.begin())];
    DSV32_CHECK(slot == kNone, invalid_argument, "messages[{}]: a second result for call {}", i,
                quote(id));
    slot = i;
  }
  auto free = by_call.begin();
  for (std::size_t i = begin; i < end; ++i) {
    if (!messages[i].tool_call_id.empty()) continue;
    free = std::find(free, by_call.end(), kNone);
    *free = i;
  }
  std::erase(by_call, kNone);
  return by_call;
}

}  // namespace

void check_messages(std::span<const Message> messages) {
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& m = messages[i];
    check_enum(formatted("messages[{}].role", i), m.role, Role::tool);
    check_fields(m, i);
    check_sizes(m, i);
    for (const ToolCall& call : m.tool_calls) {
      check_name(call.name, formatted("messages[{}]: the name of a tool call", i));
    }
  }
}

void check_name(std::string_view name, std::string_view what) {
  DSV32_CHECK(!name.empty() && name.size() <= kMaxNameBytes, invalid_argument,
              "{} has {} bytes, not 1 to {}: {}", what, name.size(), kMaxNameBytes, quote(name));
  for (std::string_view rest = name; !rest.empty();) {
    const Utf8Char c = next_utf8(rest);
    DSV32_CHECK(fits_name(c), invalid_argument,
                "{} may be any UTF-8 but control characters, quotation marks, '<', '>' and U+FF5C, "
                "not {}",
                what, quote(name));
    rest.remove_prefix(c.size);
  }
}

Json declared_function(std::span<const Message> messages, std::size_t i, std::size_t k) {
  const std::string what = formatted("messages[{}].tools_json[{}]", i, k);
  const Json tool = parse_json(messages[i].tools_json[k], what);
  DSV32_CHECK(tool.is_object(), bad_format, "{}: not an object", what);
  const Json* inner = tool.find("function");
  const Json& function = inner == nullptr ? tool : *inner;
  const Json* name = function.find("name");
  if (name != nullptr && name->is_string()) check_name(name->text, what + ": its name");
  return function;
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

Json arguments_of(std::span<const Message> messages, std::size_t i, std::size_t k,
                  const LogSink& log) {
  const std::string what = formatted("messages[{}].tool_calls[{}].arguments_json", i, k);
  std::string text = messages[i].tool_calls[k].arguments_json;
  if (is_blank(text)) text = "{}";
  const std::size_t replaced = replace_lone_surrogates(text);
  Json arguments = parse_json(text, what);
  DSV32_CHECK(arguments.is_object(), bad_format, "{}: not an object", what);
  DSV32_CHECK(arguments.members.size() <= kMaxParameters, limit, "{}: {} parameters, at most {}",
              what, arguments.members.size(), kMaxParameters);
  for (const JsonMember& member : arguments.members) {
    check_name(member.key, what + ": the name of a parameter");
  }
  if (replaced > 0) {
    tell(log, formatted("{}: {} lone surrogates are rendered as U+FFFD", what, replaced));
  }
  return arguments;
}

ResultRun result_run(std::span<const Message> messages, std::size_t i, std::size_t context) {
  ResultRun run{.begin = i, .end = i};
  while (run.begin > 0 && messages[run.begin - 1].role == Role::tool) --run.begin;
  while (run.end < messages.size() && messages[run.end].role == Role::tool) ++run.end;
  DSV32_CHECK(run.begin > 0 && messages[run.begin - 1].role == Role::assistant, invalid_argument,
              "messages[{}]: a tool result must follow an assistant message", i);
  const std::vector<ToolCall>& calls = messages[run.begin - 1].tool_calls;
  run.calls = calls.size();
  DSV32_CHECK(run.end - run.begin <= run.calls, invalid_argument,
              "messages[{}]: a tool result without its call", run.begin + run.calls);
  run.order = in_call_order(messages, run.begin, run.end, calls);
  const auto is_sent = [&](std::size_t k) { return k < context; };
  const auto first_new = std::ranges::find_if_not(run.order, is_sent);
  DSV32_CHECK(std::none_of(first_new, run.order.end(), is_sent), invalid_argument,
              "messages[{}]: a tool result belongs in front of one that is in the context",
              *first_new);
  return run;
}

}  // namespace dsv32
