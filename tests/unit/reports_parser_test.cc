// What models write around and in place of tool calls: no call that is none, and no word lost.
#include <string>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"
#include "lib/text/utf8.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Parsed;
using namespace std::string_literals;
using Fault = ParseEvent::Fault;
using Faults = std::vector<Fault>;
using Kind = ParseEvent::Kind;

const std::string kOpen = "\n\n<｜DSML｜function_calls>\n", kClose = "</｜DSML｜function_calls>";
const std::string kEos = "<｜end▁of▁sentence｜>";

std::string parameter(const std::string& value, bool string = true) {
  return "<｜DSML｜parameter name=\"a\" string=\""s + (string ? "true" : "false") + "\">" + value +
         "</｜DSML｜parameter>\n";
}
std::string invoke(const std::string& name, const std::string& body = parameter("1")) {
  return "<｜DSML｜invoke name=\"" + name + "\">\n" + body + "</｜DSML｜invoke>\n";
}

// Whole and byte by byte: the same, and all of it there.
Parsed read(const std::string& text, ToolCallParserOptions options = {},
            FinishReason finish = FinishReason::stop, ChatFormat format = ChatFormat::v32) {
  const ToolCallParser parser(format, false, std::move(options));
  Parsed whole = conformance::parse(parser, text, {}, finish);
  CHECK(same(whole, conformance::parse(parser, text, conformance::every_byte(text), finish)));
  CHECK(whole.broken == "");
  return whole;
}

std::string malformed_text(const Parsed& parsed) {
  std::string out;
  for (const ParseEvent& event : parsed.events) {
    if (event.kind == Kind::malformed) out += event.text;
  }
  return out;
}

void check_text(const Parsed& got, const std::string& text) {
  CHECK(got.message.tool_calls.empty());
  CHECK(got.message.content == text);
  CHECK(got.faults == Faults{Fault::special_token_in_content});
}

TEST_CASE("reports_T1 prose that mentions a call is text") {
  const std::string prose =
      "In this dialect a call starts with `<｜DSML｜invoke name=\"tool\">` and its arguments "
      "follow. "
      "Nothing else is needed; ask me if you want an example.";
  for (const FinishReason finish : {FinishReason::stop, FinishReason::length}) {
    check_text(read(prose, {}, finish), prose);
    check_text(read(prose, {.tool_names = {"tool"}}, finish), prose);
  }
  // It is known for text where it is, not at the end of the output.
  ToolCallParser parser(ChatFormat::v32, false);
  parser.feed(prose);
  CHECK(parser.message().content == prose);
  // A call without its block, cut anywhere, is text.
  const std::string whole = "So:\n\n" + invoke("f");
  for (std::size_t size = whole.find("name="); size < whole.size() - 2; ++size) {
    if (whole.substr(0, size).ends_with("<｜DSML｜")) continue;  // a block may have followed
    const Parsed got = read(whole.substr(0, size), {}, FinishReason::length);
    CHECK(got.message.tool_calls.empty());
    CHECK(got.message.content == valid_utf8(whole.substr(0, size)));
  }
}

TEST_CASE("reports_T1 prose that mentions a block is text") {
  for (const std::string& prose : {
           "A block opens with `<｜DSML｜function_calls>` and its calls follow."s,
           "\n\n<｜DSML｜function_calls> opens it."s,
           "<｜DSML｜function_calls><b>"s,
           "It is <｜DSML｜function_calls>  <｜DS"s,
       }) {
    INFO(prose);
    check_text(read(prose + kEos), prose);
  }
  const std::string reasoning = "It is\n\n<｜DSML｜function_calls>.";
  ToolCallParser parser(ChatFormat::v32, true);
  parser.feed(reasoning + "</think>Yes.");
  parser.finish(FinishReason::stop);
  CHECK(parser.message().reasoning == reasoning);
  CHECK(parser.message().content == "Yes.");
}

TEST_CASE("reports_T1 a call without its block counts for declared names") {
  const std::string quoted =
      "It looks like this:\n```\n" + invoke("rm_tree") + "```\nNever run it.";
  const ToolCallParserOptions declared{.tool_names = {"f"}};
  check_text(read(quoted, declared), quoted);
  Parsed got = read("So.\n\n" + invoke("f"), declared);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].arguments_json == R"({"a": "1"})");
  CHECK(got.message.content == "So.");
  CHECK(got.faults == Faults{Fault::block_not_opened});
  CHECK(read(invoke("rm_tree")).message.tool_calls.size() == 1);  // none declared: any name
  // One that is text does not take the next one along.
  got = read(invoke("rm_tree") + "and\n" + invoke("f"), declared);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.content == invoke("rm_tree") + "and");
  got = read("`<｜DSML｜invoke name=\"f\">` is\n" + invoke("f"), declared);
  CHECK(got.message.tool_calls.size() == 1);
  // A block is a block.
  got = read(kOpen + invoke("rm_tree") + kClose, declared);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.faults == Faults{Fault::unknown_tool});
}

TEST_CASE("reports_T1 what may be text is not yet a call") {
  ToolCallParser parser(ChatFormat::v32, false);
  for (const char c : "So." + invoke("f").substr(0, 90)) {
    for (const ParseEvent& event : parser.feed(std::string(1, c))) {
      CHECK(event.kind == Kind::content);
    }
    CHECK(!parser.in_tool_call());
    CHECK(parser.faults().empty());
  }
  std::size_t begun = 0, ended = 0;
  for (const ParseEvent& event : parser.feed(invoke("f").substr(90))) {
    begun += event.kind == Kind::call_begin ? 1 : 0;
    ended += event.kind == Kind::call_end ? 1 : 0;
  }
  CHECK(begun == 1);
  CHECK(ended == 1);
}

TEST_CASE("reports_T1 speciale has no calls") {
  const std::string text = "See" + kOpen + invoke("f") + kClose;
  const Parsed got = read(text, {}, FinishReason::stop, ChatFormat::v32_speciale);
  CHECK(got.message.tool_calls.empty());
  CHECK(got.message.content == text);
  CHECK(got.faults.empty());
}

TEST_CASE("reports_T8 a wrapper with a complete call behind it is not shown") {
  const std::string call = invoke("ask", parameter("[{\"label\": \"red\"}]", false));
  for (const char* word : {"function_calls", "function_calls ", "tool_calls>", "calls",
                           "function_call>\r", "0123456789abcdef0123456789abcde>"}) {
    std::string opener = "<｜DSML｜"s + word + "\n";
    const Parsed got = read("Asking now.\n\n" + opener + call + kClose + kEos);
    INFO(word);
    if (opener.find(' ') != opener.npos) {  // white space: no wrapper
      REQUIRE(got.message.tool_calls.size() == 1);
      CHECK(got.message.content == "Asking now.\n\n" + opener.substr(0, opener.size() - 1));
      continue;
    }
    REQUIRE(got.message.tool_calls.size() == 1);
    CHECK(got.message.tool_calls[0].arguments_json == R"({"a": [{"label": "red"}]})");
    CHECK(got.message.content == "Asking now.");
    CHECK(got.faults == Faults{Fault::block_not_opened});
  }
  const Parsed got = read("<｜DSML｜tool_calls>\n" + call + call + "</｜DSML｜tool_calls>" + kEos);
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(got.message.content.empty());
}

TEST_CASE("reports_T8 what is no wrapper stays text, whole") {
  const std::string longest(32, 'w');
  for (const std::string& text : {
           "Use <｜DSML｜functionality here"s,
           "<｜DSML｜"s,
           "<｜DSML｜function_calls and more"s,
           "<｜DSML｜tool_calls>\nNothing"s,
           "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<broken>"s,
           "<｜DSML｜tool_calls>\n" + invoke("undeclared"),
       }) {
    INFO(text);
    check_text(read(text + kEos, {.tool_names = {"f"}}), text);
  }
  CHECK(read("<｜DSML｜" + longest + "\n" + invoke("f")).message.content.empty());
  const Parsed got = read("<｜DSML｜" + longest + "w\n" + invoke("f"));
  CHECK(got.message.tool_calls.size() == 1);
  CHECK(got.message.content == "<｜DSML｜" + longest + "w");
}

TEST_CASE("reports_T8 a block in which no call ended is text, whole and flagged") {
  const std::string quotes =
      "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=“get_pages”>\n"
      "<｜DSML｜parameter name=“pages” string=“true”>3-5</｜DSML｜parameter>\n"
      "</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  Parsed got = read("So." + quotes);
  CHECK(got.message.tool_calls.empty());
  CHECK(got.message.content == "So.");
  CHECK(malformed_text(got) == quotes);
  CHECK(got.faults == Faults{Fault::name_format});
  for (const std::string& inside : {""s, "{\"name\": \"f\"}\n"s, parameter("1"), "\n\n"s}) {
    got = read(kOpen + inside + kClose);
    CHECK(malformed_text(got) == kOpen + inside + kClose);
    CHECK(got.message.content.empty());
    CHECK(!got.faults.empty());
  }
}

TEST_CASE("reports_T9 words between and behind calls are content") {
  const std::string tide = invoke("tide"), wind = invoke("wind", parameter("12", false));
  const auto output = [&](const std::string& words) {
    return "First the tide." + kOpen + tide + "and then " + words + "\n" + wind + kClose +
           "\n\nI will report " + words;
  };
  const Parsed got = read(output("the wind"));
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(got.message.content == "First the tide.\nand then the wind\n\nI will report the wind");
  CHECK(malformed_text(got).empty());
  CHECK(got.faults == Faults{Fault::call_format, Fault::text_after_calls});
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "the wind ";
  const Parsed longer = read(output(many));
  CHECK(longer.faults == got.faults);
  CHECK(longer.events.size() == got.events.size());
  // However often it happens.
  std::string gaps = kOpen;
  for (int i = 0; i < 300; ++i) gaps += tide + "x " + invoke("") + "\n\n\n";
  CHECK(read(gaps).faults.size() < 6);
  // White space alone is none.
  CHECK(read(kOpen + tide + "\n \n" + wind + kClose + "\n\n").message.content.empty());
}

TEST_CASE("reports_T9 words between and behind calls of V3.1 are content") {
  const std::string call = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>";
  const std::string begin = "<｜tool▁calls▁begin｜>", end = "<｜tool▁calls▁end｜>";
  Parsed got = read("Hi" + begin + call + "and then\n" + call + end + " Done." + kEos, {},
                    FinishReason::stop, ChatFormat::v31);
  CHECK(got.message.tool_calls.size() == 2);
  CHECK(got.message.content == "Hiand then\n Done.");
  CHECK(got.faults == Faults{Fault::call_format, Fault::text_after_calls});
  got = read(begin + "no call" + end, {}, FinishReason::stop, ChatFormat::v31);
  CHECK(malformed_text(got) == begin + "no call" + end);
}

TEST_CASE("reports_T10 blank arguments of V3.1 are an empty object") {
  for (const char* blank : {"", " ", "\n\t "}) {
    const Parsed got = read("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>"s +
                                blank + "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                            {}, FinishReason::stop, ChatFormat::v31);
    REQUIRE(got.message.tool_calls.size() == 1);
    CHECK(got.message.tool_calls[0].arguments_json == "{}");
    CHECK(got.faults.empty());
  }
}

TEST_CASE("reports_T11 bytes behind a value make it no JSON") {
  for (const std::string& value :
       {"1\0}, \"admin\": true"s, "1\0"s, "\0"s, "{}\0"s, "1 2"s, "1}, \"admin\": true"s, ""s}) {
    Parsed got = read(kOpen + invoke("f", parameter(value, false)) + kClose);
    REQUIRE(got.message.tool_calls.size() == 1);
    CHECK(got.faults == Faults{Fault::invalid_json_value});
    CHECK(got.message.tool_calls[0].arguments_json == "{\"a\": " + python_json_string(value) + "}");
    if (value.empty()) continue;
    got = read("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": " + value +
                   "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
               {}, FinishReason::stop, ChatFormat::v31);
    CHECK(got.message.tool_calls.empty());
    CHECK(got.faults == Faults{Fault::parameter_format});
  }
  const Parsed got = read("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}\0"s +
                              "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                          {}, FinishReason::stop, ChatFormat::v31);
  CHECK(got.message.tool_calls.empty());
}

TEST_CASE("reports_T13 strict hands a lone surrogate out as the reference does") {
  const std::string value = "{\"id\": \"\\ud800\", \"ok\": \"\\ud83d\\ude00\"}";
  const std::string text = kOpen + invoke("save", parameter(value, false)) + kClose;
  Parsed got = read(text, {.strict = true});
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.message.tool_calls[0].arguments_json == "{\"a\": " + value + "}");
  CHECK(got.faults.empty());
  got = read(text);
  REQUIRE(got.message.tool_calls.size() == 1);
  CHECK(got.faults == Faults{Fault::invalid_json_value});
}

}  // namespace
}  // namespace dsv32::test
