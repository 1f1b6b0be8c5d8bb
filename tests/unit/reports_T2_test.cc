// Markers by the tokens that the model wrote: text that merely looks like one stays text.
#include <string>
#include <utility>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

struct Piece {
  std::string text;
  bool marker = false;
};

const std::string kThink = "<think>", kEndThink = "</think>", kEos = "<｜end▁of▁sentence｜>";
const std::string kDsml = "｜DSML｜";
const std::string kCall =
    "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
    "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜parameter>\n"
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>";

// Text with every DSML as the token that it is.
std::vector<Piece> by_tokens(const std::string& text) {
  std::vector<Piece> pieces;
  std::size_t at = 0;
  for (std::size_t next = 0; (next = text.find(kDsml, at)) != text.npos; at = next + kDsml.size()) {
    pieces.push_back({text.substr(at, next - at)});
    pieces.push_back({kDsml, true});
  }
  pieces.push_back({text.substr(at)});
  return pieces;
}

// Text without a marker whole and by the byte: the same message.
Message read(const std::vector<Piece>& pieces, ChatFormat format = ChatFormat::v32,
             bool in_reasoning = false, ToolCallParserOptions options = {}) {
  ToolCallParser whole(format, in_reasoning, options), bytes(format, in_reasoning, options);
  for (const Piece& piece : pieces) {
    whole.feed(piece.text, piece.marker);
    if (piece.marker) {
      bytes.feed(piece.text, true);
      continue;
    }
    for (const char c : piece.text) bytes.feed(std::string(1, c), false);
  }
  whole.finish(FinishReason::stop);
  bytes.finish(FinishReason::stop);
  CHECK(whole.message().content == bytes.message().content);
  CHECK(whole.message().reasoning == bytes.message().reasoning);
  CHECK(whole.message().tool_calls.size() == bytes.message().tool_calls.size());
  CHECK(std::vector(whole.faults().begin(), whole.faults().end()) ==
        std::vector(bytes.faults().begin(), bytes.faults().end()));
  return whole.message();
}

TEST_CASE("reports_T2 think tags and end tokens that are quoted are text") {
  const std::string code =
      "text = re.sub(r\"<think>.*?</think>\", \"\", text)\nanswer = text.split(\"" + kEndThink +
      "\")[-1]\n" + kEos + " ends it";
  CHECK(read({{code}}).content == code);
  const Message message = read(
      {{"It keeps what follows `</think>`, " + kEos}, {kEndThink, true}, {"Yes."}, {kEos, true}},
      ChatFormat::v32, true);
  CHECK(message.reasoning == "It keeps what follows `</think>`, " + kEos);
  CHECK(message.content == "Yes.");
}

TEST_CASE("reports_T2 a marker counts as the piece that it is") {
  // Cut in two, with something around it, or joined from both kinds: text.
  CHECK(read({{"</thi", true}, {"nk>", true}, {"x"}}, ChatFormat::v32, true).content.empty());
  CHECK(read({{"so</think>", true}, {"x"}}, ChatFormat::v32, true).content.empty());
  CHECK(read({{"</think>!", true}, {"x"}}, ChatFormat::v32, true).content.empty());
  CHECK(read({{"</thi"}, {"nk>", true}, {"x"}}, ChatFormat::v32, true).content.empty());
  CHECK(read({{"</think>", true}, {"x"}}, ChatFormat::v32, true).content == "x");
  // Half a character in front of it does not take it along.
  const Message message = read({{"a\xEF"}, {kEndThink, true}, {"x"}}, ChatFormat::v32, true);
  CHECK(message.reasoning == "a\xEF\xBF\xBD");
  CHECK(message.content == "x");
  // A character begun as plain text is not the first one of a marker.
  ToolCallParser parser(ChatFormat::v32, false);
  parser.feed("\n\n<\xEF", false);
  const std::size_t opened = kCall.find(">\n");
  parser.feed("\xBD\x9C" + kCall.substr(6, opened - 6));
  parser.feed(kCall.substr(opened), false);
  parser.finish(FinishReason::stop);
  CHECK(parser.message().tool_calls.empty());
  CHECK(parser.message().content == kCall);
}

TEST_CASE("reports_T2 a quoted document opens no call unless the model writes the token") {
  const std::string v31 =
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜>";
  for (const bool in_reasoning : {false, true}) {
    for (const std::string& text : {kCall, kCall.substr(kCall.find("<｜DSML｜invoke")), v31}) {
      for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
        const Message message = read({{"See:" + text + "\nDone."}}, format, in_reasoning);
        CHECK(message.tool_calls.empty());
        CHECK((in_reasoning ? message.reasoning : message.content) == "See:" + text + "\nDone.");
      }
    }
  }
  Message message = read(by_tokens("Now." + kCall));
  REQUIRE(message.tool_calls.size() == 1);
  CHECK(message.tool_calls[0].arguments_json == R"({"a": "1"})");
  CHECK(message.content == "Now.");
  // A document in a value is the value, whatever it holds.
  std::vector<Piece> pieces = by_tokens(kCall);
  for (Piece& piece : pieces) {
    const std::size_t value = piece.text.find(">1</");
    if (value != piece.text.npos) piece.text = piece.text.substr(0, value + 1) + kCall + "</";
  }
  message = read(pieces);
  REQUIRE(message.tool_calls.size() == 1);
  CHECK(message.tool_calls[0].arguments_json.find("function_calls") != std::string::npos);
  message = read({{"<｜tool▁calls▁begin｜>", true},
                  {"<｜tool▁call▁begin｜>", true},
                  {"f"},
                  {"<｜tool▁sep｜>", true},
                  {"{\"a\": \"" + v31 + "\"}"},
                  {"<｜tool▁call▁end｜>", true},
                  {"<｜tool▁calls▁end｜>", true}},
                 ChatFormat::v31);
  REQUIRE(message.tool_calls.size() == 1);
  CHECK(message.tool_calls[0].arguments_json == "{\"a\": \"" + v31 + "\"}");
}

TEST_CASE("reports_T1 without calls their markup is text") {
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
    const std::string text = "See:" + kCall + "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
    ToolCallParser parser(format, false, {.calls = false});
    parser.feed(text);
    parser.finish(FinishReason::length);
    CHECK(parser.message().content == text);
    CHECK(parser.faults().empty());
    CHECK(read(by_tokens(text), format, false, {.calls = false}).content == text);
  }
}

}  // namespace
}  // namespace dsv32::test
