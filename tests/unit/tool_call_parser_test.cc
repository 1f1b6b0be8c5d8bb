// The tool call parser: the attacks PA that the vectors do not hold.
#include "dsv32/tool_call_parser.h"

#include <limits>
#include <string>

#include "lib/base/json.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Parsed;
using Fault = ParseEvent::Fault;
using Kind = ParseEvent::Kind;

const std::string kOpen = "\n\n<｜DSML｜function_calls>\n", kClose = "</｜DSML｜function_calls>";
std::string parameter(const std::string& name, const std::string& value, bool string = true) {
  return "<｜DSML｜parameter name=\"" + name + "\" string=\"" + (string ? "true" : "false") +
         "\">" + value + "</｜DSML｜parameter>\n";
}
std::string invoke(const std::string& name, const std::string& body) {
  return "<｜DSML｜invoke name=\"" + name + "\">\n" + body + "</｜DSML｜invoke>\n";
}

// Whole, and byte by byte: the same.
Parsed parse(const std::string& text, FinishReason finish = FinishReason::stop,
             ToolCallParserOptions options = {}, ChatFormat format = ChatFormat::v32) {
  const ToolCallParser parser(format, false, options);
  Parsed whole = conformance::parse(parser, text, {}, finish);
  const Parsed bytes = conformance::parse(parser, text, conformance::every_byte(text), finish);
  CHECK(same(whole, bytes));
  CHECK(whole.broken.empty());
  return whole;
}

bool has(const Parsed& parsed, Fault fault) {
  return std::find(parsed.faults.begin(), parsed.faults.end(), fault) != parsed.faults.end();
}

TEST_CASE("PA-03 output that ends anywhere hands out whole calls only") {
  const std::string text = "x" + kOpen + invoke("f", parameter("a", "1")) +
                           invoke("g", parameter("b", "2", false)) + kClose;
  const std::string close = "</｜DSML｜invoke>";
  const std::size_t first = text.find(close) + close.size();
  const std::size_t second = text.rfind(close) + close.size();
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const Parsed got = parse(text.substr(0, size), FinishReason::length);
    CHECK(got.message.tool_calls.size() == (size < first ? 0 : size < second ? 1 : 2));
    CHECK(got.message.content.find("｜DSML｜") == std::string::npos);
    for (const ToolCall& call : got.message.tool_calls) {
      CHECK(parse_json(call.arguments_json, "arguments").is_object());
    }
  }
}

TEST_CASE("PA-04 a call beyond the cap is dropped, what follows is not") {
  const std::string text = kOpen + invoke("f", parameter("a", std::string(5000, 'x'))) +
                           invoke("g", parameter("b", "2")) + kClose;
  const Parsed got = parse(text, FinishReason::stop, {.max_call_bytes = 1000});
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].name == "g");
  CHECK(has(got, Fault::too_long));
  std::size_t pieces = 0;
  for (const ParseEvent& event : got.events) {
    if (event.kind == Kind::call_arguments && event.call_index == 0) pieces += event.text.size();
  }
  CHECK(pieces <= 1000);
}

TEST_CASE("caps at the ends of their types") {
  const std::string text = kOpen + invoke("f", parameter("a", "1")) + kClose;
  const ToolCallParserOptions open{.max_call_bytes = std::numeric_limits<std::size_t>::max()};
  CHECK(parse(text, FinishReason::stop, open).message.tool_calls.size() == 1);
  CHECK(parse(text, FinishReason::stop, {.max_calls = -1}).message.tool_calls.empty());
  CHECK(parse(text, FinishReason::stop, {.max_parameters = -1}).message.tool_calls.empty());
}

TEST_CASE("PA-05 tags in places where they do not belong") {
  // In a value they are text; a value is closed by its own tag only.
  Parsed got = parse(
      kOpen + invoke("f", parameter("a", "<｜DSML｜function_calls><｜DSML｜invoke>")) + kClose);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.faults.empty());
  // A call in a call: the outer one is refused, the inner one stands.
  got = parse(kOpen + "<｜DSML｜invoke name=\"f\">\n" + invoke("g", parameter("a", "1")) + kClose);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].name == "g");
  CHECK(has(got, Fault::call_format));
  // A parameter outside a call, text between calls, text and a second block behind the first.
  got = parse(kOpen + parameter("a", "1") + invoke("g", "") + "and\n" + invoke("h", "") + kClose);
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(has(got, Fault::call_format));
  got = parse(kOpen + invoke("f", "") + kClose + kOpen + invoke("g", "") + kClose + "Done.");
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(has(got, Fault::text_after_calls));
  CHECK(got.message.content == "Done.");
}

TEST_CASE("PA-06 a parameter that stands twice refuses its call") {
  const Parsed got = parse(kOpen + invoke("f", parameter("a", "1") + parameter("a", "2")) +
                           invoke("g", "") + kClose);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].name == "g");
  CHECK(has(got, Fault::duplicate_parameter));
}

TEST_CASE("PA-08 any text comes back out of the arguments") {
  const std::string odd = "\"\\\n\t\x01\x7f \xE2\x80\xA8 你好 🌤️ \xff \xC3 </x> ";
  const Parsed got = parse(kOpen + invoke("f", parameter("a", odd)) + kClose);
  REQUIRE(got.message.tool_calls.size() == 1);
  const Json value = parse_json(got.message.tool_calls[0].arguments_json, "arguments");
  CHECK(value.find("a")->text ==
        "\"\\\n\t\x01\x7f \xE2\x80\xA8 你好 🌤️ \xEF\xBF\xBD \xEF\xBF\xBD </x> ");
}

TEST_CASE("PA-09 attributes that are missing or spelled otherwise") {
  for (const char* head :
       {"<｜DSML｜parameter name=\"a\">", "<｜DSML｜parameter name=\"a\" string=\"True\">",
        "<｜DSML｜parameter name=\"a\" string=\"1\">", "<｜DSML｜parameter name='a' string='true'>",
        "<｜DSML｜parameter string=\"true\" name=\"a\">", "<｜DSML｜parameter>"}) {
    INFO(head);
    const Parsed got = parse(kOpen + invoke("f", std::string(head) + "1</｜DSML｜parameter>\n") +
                             invoke("g", "") + kClose);
    REQUIRE(got.message.tool_calls.size() == 1);
    CHECK(got.message.tool_calls[0].name == "g");
    CHECK(has(got, Fault::parameter_format));
  }
  const Parsed got =
      parse(kOpen +
            invoke("f", "<｜DSML｜parameter  name=\"a\" string=\"true\">1</｜DSML｜parameter>\n") +
            kClose);
  CHECK(got.message.tool_calls.size() == 1);
  CHECK(has(got, Fault::extra_whitespace));
}

TEST_CASE("PA-12 names") {
  CHECK(has(parse(kOpen + invoke("", "") + kClose), Fault::name_format));
  const ToolCallParserOptions known{.tool_names = {"f"}};
  const Parsed got =
      parse(kOpen + invoke("f", "") + invoke("rm", "") + kClose, FinishReason::stop, known);
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(has(got, Fault::unknown_tool));
  for (const ParseEvent& event : got.events) {
    if (event.kind == Kind::call_begin) {
      CHECK(event.fault == (event.text == "f" ? Fault::none : Fault::unknown_tool));
    }
  }
  const std::string longest(1 << 20, 'n');
  ToolCallParser parser(ChatFormat::v32, false);
  parser.feed(kOpen + invoke(longest, "") + kClose);
  CHECK(parser.message().tool_calls.at(0).name == longest);
}

TEST_CASE("PA-15 counts have caps") {
  std::string text = kOpen, parameters;
  for (int i = 0; i < 1100; ++i) text += invoke("f", "");
  const Parsed calls = conformance::parse(ToolCallParser(ChatFormat::v32, false), text + kClose, {},
                                          FinishReason::stop);
  CHECK(calls.message.tool_calls.size() == 1000);
  CHECK(has(calls, Fault::too_long));
  for (int i = 0; i < 10001; ++i) parameters += parameter(std::to_string(i), "1");
  const Parsed wide =
      conformance::parse(ToolCallParser(ChatFormat::v32, false),
                         kOpen + invoke("f", parameters) + kClose, {}, FinishReason::stop);
  CHECK(wide.message.tool_calls.empty());
  CHECK(has(wide, Fault::too_long));
}

TEST_CASE("PA-18 offsets say where in the output an event's text begins") {
  const std::string text = "Hi" + kOpen + invoke("f", parameter("a", "b")) + kClose + "tail";
  for (const ParseEvent& event : parse(text).events) {
    if (event.kind == Kind::content || event.kind == Kind::malformed) {
      CHECK(event.byte_length == event.text.size());
      CHECK(text.substr(event.byte_offset, event.byte_length) == event.text);
    }
  }
}

TEST_CASE("V3.1 calls: whole, cut, not JSON") {
  const std::string begin = "<｜tool▁calls▁begin｜>", end = "<｜tool▁calls▁end｜>";
  const auto call = [](const std::string& name, const std::string& arguments) {
    return "<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>" + arguments + "<｜tool▁call▁end｜>";
  };
  const auto run = [&](const std::string& text, FinishReason finish = FinishReason::stop) {
    return parse(text, finish, {}, ChatFormat::v31);
  };
  Parsed got = run("Hi" + begin + call("f", "{\"a\": 1}") + call("g", "{}") + end);
  CHECK(got.message.content == "Hi");
  REQUIRE(got.message.tool_calls.size() == 2);
  CHECK(got.message.tool_calls[0].arguments_json == "{\"a\": 1}");
  CHECK(got.faults.empty());
  got = run(begin + call("f", "[1]") + call("g", "{\"a\":") + call("h", "{}") + end);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].name == "h");
  got = run(begin + call("f", "{}") + "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"a",
            FinishReason::length);
  CHECK(got.message.tool_calls.size() == 1);
  CHECK(has(got, Fault::incomplete));
}

TEST_CASE("what is held back comes out at the end") {
  for (const char* text : {"2 <", "x\n\n", "a <｜", "</thi", "｜DS", "\n\n<"}) {
    for (const bool in_reasoning : {false, true}) {
      ToolCallParser parser(ChatFormat::v32, in_reasoning);
      parser.feed(text);
      parser.finish(FinishReason::length);
      CHECK((in_reasoning ? parser.message().reasoning : parser.message().content) == text);
    }
  }
}

TEST_CASE("a copy goes its own way") {
  ToolCallParser parser(ChatFormat::v32, true);
  parser.feed("so </thi");
  ToolCallParser other = parser;
  parser.feed("nk>yes");
  other.feed("s");
  parser.finish(FinishReason::stop);
  other.finish(FinishReason::stop);
  CHECK(parser.message().content == "yes");
  CHECK(other.message().reasoning == "so </this");
}

}  // namespace
}  // namespace dsv32::test
