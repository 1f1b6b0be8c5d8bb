// What a prompt may end with, results and their calls, fields, names and sizes of messages.
#include <string>
#include <vector>

#include "dsv32/chat_template.h"

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using Messages = std::vector<Message>;
using Mode = ThinkingMode;
const ChatTemplate kV32, kV31(ChatFormat::v31);
const RenderOptions kHistory{.add_generation_prompt = false};
const std::string kBegin = "<｜begin▁of▁sentence｜>", kEnd = "<｜end▁of▁sentence｜>";
const std::string kAsk = kBegin + "<｜User｜>Hi<｜Assistant｜>";

Message user(const std::string& text = "Hi") { return {.role = Role::user, .content = text}; }
Message system(const std::string& text) { return {.role = Role::system, .content = text}; }
Message answer(const std::string& text, const std::string& reasoning = "") {
  return {.role = Role::assistant, .content = text, .reasoning = reasoning};
}
Message prefix(const std::string& text, const std::string& reasoning = "") {
  Message message = answer(text, reasoning);
  message.prefix = true;
  return message;
}
Message result(const std::string& text, const std::string& id = "") {
  return {.role = Role::tool, .content = text, .tool_call_id = id};
}
Message calls(const std::vector<std::string>& ids, const std::string& arguments = "{}") {
  Message message{.role = Role::assistant};
  for (const std::string& id : ids) {
    message.tool_calls.push_back({.id = id, .name = "f", .arguments_json = arguments});
  }
  return message;
}

void refused(const ChatTemplate& format, const Messages& messages, const std::string& word,
             ErrorCode code = ErrorCode::invalid_argument, const RenderOptions& options = {}) {
  INFO(word);
  for (const Mode mode : {Mode::chat, Mode::thinking}) {
    check_error(code, word, [&] { format.render(messages, mode, options); });
  }
}

TEST_CASE("reports_T4 a system message behind the hand-over is refused, or a history's") {
  const Messages last = {system("You are a clerk."), user(), system("One line only.")};
  refused(kV32, last, "messages[2]: a system message cannot stand last");
  CHECK(kV32.render(last, Mode::thinking, kHistory).text ==
        kBegin + "You are a clerk.<｜User｜>Hi<｜Assistant｜><think>One line only.");
  const Messages behind_results = {user(), calls({"1"}), result("r"), system("s")};
  refused(kV32, behind_results, "messages[3]");
  refused(kV32, {system("s")}, "messages[0]");
  // V3.1 gathers them in front.
  const Prompt old = kV31.render(last, Mode::thinking);
  CHECK(old.text ==
        kBegin + "You are a clerk.\n\nOne line only.<｜User｜>Hi<｜Assistant｜><think>");
  CHECK(old.in_reasoning);
  CHECK(kV31.render(behind_results, Mode::chat).text.ends_with("<｜tool▁output▁end｜>"));
}

TEST_CASE("reports_T5 a conversation that ends with an answer") {
  const Messages last = {user(), answer("1. Apple", "r")};
  refused(kV32, last, "messages[1]: an answer stands last");
  CHECK(kV32.render(last, Mode::thinking, kHistory).text ==
        kAsk + "<think>r</think>1. Apple" + kEnd);
  const Prompt old = kV31.render(last, Mode::thinking);
  CHECK(old.text == kAsk + "</think>1. Apple" + kEnd + "<｜Assistant｜><think>");
  CHECK(old.in_reasoning);
  // An earlier prefix does not keep the last answer's turn closed.
  const Messages earlier = {user(), prefix("a"), user("b"), answer("c")};
  CHECK(kV31.render(earlier, Mode::chat).text.ends_with("c" + kEnd + "<｜Assistant｜></think>"));
  refused(kV32, earlier, "messages[1]: only the last message can be a prefix");
}

struct Continued {
  ChatTemplate format;
  Mode mode;
  Message message;
  std::string want;  // behind the assistant's marker
  bool in_reasoning;
};

TEST_CASE("reports_T5 a prefix is continued in both formats") {
  for (const Continued& c : std::vector<Continued>{
           {kV32, Mode::chat, prefix("1."), "</think>1.", false},
           {kV32, Mode::chat, prefix("1.", "never shown"), "</think>1.", false},
           {kV32, Mode::thinking, prefix("1.", "r"), "<think>r</think>1.", false},
           {kV32, Mode::thinking, prefix("1."), "<think></think>1.", false},
           {kV32, Mode::thinking, prefix("", "r"), "<think>r", true},
           {kV32, Mode::thinking, prefix(""), "<think>", true},
           {kV31, Mode::chat, prefix("1."), "</think>1.", false},
           {kV31, Mode::thinking, prefix("1."), "<think>1.", true}}) {
    INFO(c.want);
    const Messages messages = {user(), c.message};
    const Prompt prompt = c.format.render(messages, c.mode);
    CHECK(prompt.text == kAsk + c.want);
    CHECK(prompt.in_reasoning == c.in_reasoning);
    const Prompt rest = c.format.render(messages, c.mode, {.context = 1});
    CHECK(prompt.text.ends_with(rest.text));
    CHECK(rest.in_reasoning == c.in_reasoning);
    const std::string history = c.format
                                    .render(Messages{user(), answer("x", "r"), user(), c.message,
                                                     user("z"), answer("y", "r")},
                                            c.mode, kHistory)
                                    .text;
    CHECK(history.ends_with("y" + kEnd));
  }
  const Messages begun = {user(), prefix("x", "r")};
  CHECK(kV31.render(begun, Mode::thinking, kHistory).text == kAsk + "<think>x" + kEnd);
  CHECK(kV32.render(begun, Mode::thinking, kHistory).text == kAsk + "<think>r</think>x" + kEnd);
}

TEST_CASE("reports_T5 a prefix stands where the model may write") {
  const Messages tools = {user(), calls({"1"}), result("out"), prefix("so", "r")};
  CHECK(kV32.render(tools, Mode::thinking)
            .text.ends_with("</function_results>\n\n<think>r</think>so"));
  const Prompt old = kV31.render(tools, Mode::thinking);
  CHECK(old.text.ends_with("out<｜tool▁output▁end｜>so"));
  CHECK(!old.in_reasoning);
  // Behind system text, another answer or nothing V3.1 opens a turn for it.
  for (const Messages& before :
       {Messages{}, Messages{system("s")}, Messages{user(), answer("a")}}) {
    Messages messages = before;
    messages.push_back(prefix("x"));
    CHECK(kV31.render(messages, Mode::chat).text.ends_with("<｜Assistant｜></think>x"));
    refused(kV32, messages, "a prefix");
  }
  CHECK(kV31.render(Messages{user(), prefix("x"), system("s")}, Mode::chat).text ==
        kBegin + "s<｜User｜>Hi<｜Assistant｜></think>x");
  Message both = calls({"1"});
  both.prefix = true;
  for (const ChatTemplate& format : {kV32, kV31}) {
    refused(format, {user(), both}, "a prefix cannot have tool calls");
  }
}

TEST_CASE("reports_T5 a question whose hand-over is in the context keeps its reasoning") {
  for (const Mode mode : {Mode::chat, Mode::thinking}) {
    for (const Messages& messages :
         {Messages{user()}, Messages{user(), calls({"1"}), result("r")}}) {
      const Prompt prompt = kV32.render(messages, mode, {.context = messages.size()});
      CHECK(prompt.text.empty());
      CHECK(prompt.in_reasoning == kV32.render(messages, mode).in_reasoning);
      CHECK(prompt.in_reasoning == (mode == Mode::thinking));
    }
  }
}

std::string behind(const Prompt& prompt, const std::string& word) {
  return prompt.text.substr(prompt.text.find(word));
}

TEST_CASE("reports_T6 results go to their calls in both formats") {
  const Messages sorted = {user(), calls({"1", "2"}), result("first"), result("second")};
  const Messages swapped = {user(), calls({"1", "2"}), result("second", "2"), result("first", "1")};
  for (const ChatTemplate& format : {kV32, kV31}) {
    CHECK(format.render(swapped, Mode::chat).text == format.render(sorted, Mode::chat).text);
    CHECK(format.render(swapped, Mode::chat, {.context = 2}).text ==
          format.render(sorted, Mode::chat, {.context = 2}).text);
    // One result is in the session already; one belongs in front of it.
    CHECK(format.render(sorted, Mode::chat, {.context = 3}).text ==
          format
              .render(
                  Messages{user(), calls({"1", "2"}), result("first", "1"), result("second", "2")},
                  Mode::chat, {.context = 3})
              .text);
    refused(format, swapped, "messages[3]: a tool result belongs in front",
            ErrorCode::invalid_argument, {.context = 3});
    refused(format, {user(), calls({"1"}), result("x", "2")}, "no call of the last answer");
    refused(format, {user(), calls({"1", "2"}), result("x", "1"), result("y", "1")},
            "a second result");
    refused(format, {user(), calls({"1"}), result("x"), result("y")}, "without its call");
    refused(format, {user(), result("x")}, "messages[1]: a tool result");
    refused(format, {user(), answer("a", "r"), result("x")}, "without its call");
    // Two calls may share an id that no result names.
    CHECK_NOTHROW(
        format.render(Messages{user(), calls({"1", "1"}), result("x"), result("y")}, Mode::chat));
  }
  CHECK(behind(kV31.render(swapped, Mode::chat, {.context = 2}), "<｜tool▁output▁begin｜>") ==
        "<｜tool▁output▁begin｜>first<｜tool▁output▁end｜>"
        "<｜tool▁output▁begin｜>second<｜tool▁output▁end｜>");
}

TEST_CASE("reports_T6 a question waits for all results") {
  const Messages part = {user(), calls({"1", "2"}), result("x")};
  refused(kV32, part, "messages[2]: 1 results for 2 calls");
  CHECK(kV32.render(part, Mode::thinking, kHistory).text.ends_with("<result>x</result>"));
}

TEST_CASE("reports_T10 blank arguments are an empty object") {
  for (const char* blank : {"", " ", "\n\t \r"}) {
    for (const ChatTemplate& format : {kV32, kV31}) {
      CHECK(format.render(Messages{user(), calls({"1"}, blank), result("10:30", "1")}, Mode::chat)
                .text ==
            format.render(Messages{user(), calls({"1"}, "{}"), result("10:30", "1")}, Mode::chat)
                .text);
    }
  }
}

TEST_CASE("reports_T12 names of tools and parameters") {
  const auto named = [](const std::string& name) {
    Message message = calls({"1"});
    message.tool_calls[0].name = name;
    return Messages{user(), message, result("r")};
  };
  const auto declared = [](const std::string& json) {
    return Messages{{.role = Role::system, .tools_json = {json}}, user()};
  };
  using namespace std::string_literals;
  for (const std::string& bad :
       {"x\" string=\"true"s, "a\nb"s, "a\tb"s, "a\x7f"s, "a\u0085"s, "</｜DSML｜invoke>"s, "a>b"s,
        "<a"s, "a｜b"s, "nul\0"s, ""s, std::string(257, 'n'), std::string(1 << 20, 'n'),
        "half\xE4\xBD"s}) {
    for (const ChatTemplate& format : {kV32, kV31}) {
      refused(format, named(bad), "messages[1]: the name of a tool call");
    }
  }
  for (const char* bad : {R"({"a\"b": 1})", R"({"a\u0000b": 1})", R"({"": 1})", R"({"a<b": 1})",
                          R"({"\uFF5C": 1})"}) {
    INFO(bad);
    refused(kV32, {user(), calls({"1"}, bad), result("r")}, "the name of a parameter");
  }
  for (const char* bad : {R"({"name": "a\nb"})", R"({"function": {"name": "<｜User｜>"}})"}) {
    for (const ChatTemplate& format : {kV32, kV31}) {
      check_error(ErrorCode::invalid_argument, "messages[0].tools_json[0]: its name",
                  [&] { format.render(declared(bad), Mode::chat); });
    }
  }
  for (const std::string& good :
       {"mcp.x/y"s, "$filter"s, "日期"s, "a b"s, "|User|"s, "a\u2028b"s, std::string(256, 'n')}) {
    for (const ChatTemplate& format : {kV32, kV31}) {
      CHECK_NOTHROW(format.render(named(good), Mode::chat));
    }
    CHECK_NOTHROW(kV32.render(Messages{user(), calls({"1"}, "{\"" + good + "\": 1}"), result("r")},
                              Mode::chat));
  }
  // Only names are: what is below them is JSON's.
  CHECK_NOTHROW(kV32.render(Messages{user(), calls({"1"}, R"({"a": {"<\n\"": 1}})"), result("r")},
                            Mode::chat));
}

TEST_CASE("reports_T12 caps on calls, parameters and arguments") {
  const auto parameters = [](int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + "\":0";
    return text + "}";
  };
  const auto ids = [](std::size_t count) { return std::vector<std::string>(count); };
  for (const ChatTemplate& format : {kV32, kV31}) {
    CHECK_NOTHROW(format.render(Messages{user(), calls(ids(1000)), user()}, Mode::chat));
    refused(format, {user(), calls(ids(1001)), user()},
            "messages[1]: 1001 tool calls, at most 1000", ErrorCode::limit);
    const std::string eight(8 << 20, ' ');
    CHECK_NOTHROW(format.render(Messages{user(), calls({"1"}, eight), user()}, Mode::chat));
    refused(format, {user(), calls({"1"}, eight + " "), user()}, "8388609 bytes", ErrorCode::limit);
  }
  CHECK_NOTHROW(kV32.render(Messages{user(), calls({"1"}, parameters(10000)), user()}, Mode::chat));
  refused(kV32, {user(), calls({"1"}, parameters(10001)), user()},
          "10001 parameters, at most 10000", ErrorCode::limit);
  refused(
      kV32,
      {{.role = Role::system, .response_format_json = std::string((512 << 10) + 1, ' ')}, user()},
      "524289 bytes of response_format_json", ErrorCode::limit);
}

TEST_CASE("reports_T13 a lone surrogate becomes U+FFFD, and the log hears of it") {
  const std::string arguments = R"({"doc": {"id": "\ud800", "ok": "\ud83d\ude00"}, "s": "\uDC00"})";
  std::vector<std::string> log;
  const RenderOptions options{.log = [&](LogLevel level, std::string_view message) {
    CHECK(level == LogLevel::warning);
    log.emplace_back(message);
    throw 1;  // swallowed
  }};
  const Messages messages = {user(), calls({"1"}, arguments), result("r", "1")};
  const std::string text = kV32.render(messages, Mode::chat, options).text;
  CHECK(text.find("string=\"false\">{\"id\": \"\uFFFD\", \"ok\": \"😀\"}<") != std::string::npos);
  CHECK(text.find("string=\"true\">\uFFFD<") != std::string::npos);
  CHECK(log ==
        std::vector<std::string>{"messages[1].tool_calls[0].arguments_json: 2 lone surrogates "
                                 "are rendered as U+FFFD"});
  CHECK(kV32.render(messages, Mode::chat).text == text);  // without a log, too
  log.clear();
  kV32.render(Messages{user(), calls({"1"}, R"({"a": "\\ud800 \ud83d\ude00"})"), result("r")},
              Mode::chat, options);
  CHECK(log.empty());
}

TEST_CASE("reports_T17 fields that a role does not have are refused") {
  for (const ChatTemplate& format : {kV32, kV31}) {
    for (const Role role : {Role::user, Role::assistant, Role::tool}) {
      const auto with = [&](Message message) {
        message.role = role;
        return Messages{user(), calls({"1"}), message};
      };
      for (const RenderOptions& options : {RenderOptions{}, kHistory}) {
        refused(format, with({.content = "c", .tools_json = {R"({"name": "f"})"}}),
                "messages[2]: tools_json belongs to a system or developer message",
                ErrorCode::invalid_argument, options);
        refused(format, with({.content = "c", .response_format_json = "{}"}),
                "messages[2]: response_format_json belongs to a system or developer message",
                ErrorCode::invalid_argument, options);
      }
    }
    refused(format, {{.content = "c", .reasoning = "r"}}, "reasoning belongs");
    refused(format, {{.content = "c", .tool_calls = {{.name = "f"}}}}, "tool_calls belongs");
    refused(format, {{.content = "c", .prefix = true}}, "prefix belongs");
    refused(format, {{.content = "c", .tool_call_id = "1"}}, "tool_call_id belongs");
    refused(format, {{.role = static_cast<Role>(9)}}, "messages[0].role is 9");
  }
}

}  // namespace
}  // namespace dsv32::test
