// Hostile outputs in the smallest pieces: time that grows with the output, memory that does not.
#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "tests/support/catch.h"
#include "tests/support/resident_bytes.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

const std::string kOpen = "\n\n<｜DSML｜function_calls>\n", kClose = "</｜DSML｜function_calls>";
const std::string kBare = "<｜DSML｜invoke", kHead = kBare + " name=\"f\">\n";
const std::string kKey = "<｜DSML｜parameter name=\"a\"";
const std::string kValue = kKey + " string=\"true\">", kJson = kKey + " string=\"false\">";
const std::string kCall = kHead + "</｜DSML｜invoke>";
const std::string kEos = "<｜end▁of▁sentence｜>";

// A beginning for every state that the parser can be in.
std::vector<std::string> states(ChatFormat format) {
  if (format == ChatFormat::v31) {
    const std::string begin = "<｜tool▁calls▁begin｜>", name = begin + "<｜tool▁call▁begin｜>f";
    const std::string arguments = name + "<｜tool▁sep｜>", call = arguments + "<｜tool▁call▁end｜>";
    return {"",
            begin,
            name,
            call,
            arguments,
            arguments + "{\"a\": \"",
            name + "<｜tool▁call▁end｜>",
            call + "<｜tool▁calls▁end｜>"};
  }
  std::vector<std::string> out{"",
                               "<｜DSML｜",
                               "<｜DSML｜calls",
                               "<｜DSML｜calls>\n",
                               kOpen + kCall + "x",
                               kOpen + kCall + kClose,
                               kOpen + kCall + kClose + "x",
                               kCall,
                               kCall + "x",
                               kOpen + "x",
                               kOpen + kBare + "x",
                               "x" + kEos,
                               kOpen + kClose};
  for (const std::string& block : {kOpen, std::string(), std::string("<｜DSML｜calls>\n")}) {
    for (const std::string& inside :
         {kBare, kBare + " name=\"", kBare + " name=\"f\"", kHead, kHead + "<｜DSML｜parameter",
          kHead + "<｜DSML｜parameter name=\"", kHead + kKey, kHead + kValue, kHead + kJson,
          kHead + kValue + "</｜DSML｜parameter", kHead + kValue + "</｜DSML｜parameter>",
          kHead + "</｜DSML｜invoke", kCall}) {
      out.push_back(block + inside);
    }
  }
  out.push_back(kOpen);
  return out;
}

std::string repeated(const std::string& unit, std::size_t size) {
  std::string out;
  while (out.size() < size) out += unit;
  return out;
}

enum class Feed { text, plain };

// Processor time of an output in pieces of a byte, its beginning apart.
double seconds(ChatFormat format, const ToolCallParserOptions& options, const std::string& begin,
               const std::string& flood, Feed feed = Feed::text) {
  ToolCallParser parser(format, false, options);
  parser.feed(begin);
  const std::clock_t start = std::clock();
  for (const char& c : flood) {
    if (feed == Feed::text) {
      parser.feed({&c, 1});
    } else {
      parser.feed({&c, 1}, false);
    }
  }
  parser.finish(FinishReason::length);
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// Four times the output in about four times the time: 16 is what reading it again would take.
bool is_linear(ChatFormat format, const ToolCallParserOptions& options, const std::string& begin,
               const std::string& unit, Feed feed = Feed::text) {
  constexpr std::size_t kSize = 12000;
  constexpr double kNoise = 0.005;
  const std::string once = repeated(unit, kSize), more = repeated(unit, 4 * kSize);
  for (int attempt = 0; attempt < 4; ++attempt) {
    const double few = seconds(format, options, begin, once, feed);
    if (seconds(format, options, begin, more, feed) < 8 * few + kNoise) return true;
  }
  return false;
}

TEST_CASE("reports_T14 white space in any state is read in linear time") {
  if (kSanitized) return;  // time is measured without
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
    for (const std::string& begin : states(format)) {
      for (const bool strict : {false, true}) {
        INFO((strict ? "strict: " : "lenient: ") << begin);
        REQUIRE(is_linear(format, {.strict = strict}, begin, "\n"));
        if (strict) continue;
        REQUIRE(is_linear(format, {}, begin, " "));
        REQUIRE(is_linear(format, {}, begin, "\n", Feed::plain));
      }
    }
  }
}

TEST_CASE("reports_T14 text and half markup in any state is read in linear time") {
  if (kSanitized) return;  // time is measured without
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
    for (const std::string& begin : states(format)) {
      for (const char* unit :
           {"n", "<", "\n\n<", "\"", "潮", " <think>", "<｜DSML｜", "\n\n<｜DSML｜invoke name=\"",
            "<｜DSML｜calls>\n", "</｜DSML｜invoke>", "<｜tool▁call▁begin｜>f<｜tool▁sep｜> "}) {
        INFO(begin << " and " << unit);
        REQUIRE(is_linear(format, {}, begin, unit));
      }
    }
  }
}

TEST_CASE("reports_T14 calls that fail late are not read again from each place in them") {
  // Each beginning could be a call as far as the end of the output, with the others as its values.
  std::string once, more;
  for (int i = 0; i < 4000; ++i) {
    const std::string unit =
        kHead + "<｜DSML｜parameter name=\"" + std::to_string(i) + "\" string=\"true\">v";
    if (i < 1000) once += unit;
    more += unit;
  }
  bool linear = false;
  for (int attempt = 0; attempt < 4 && !linear; ++attempt) {
    const double few = seconds(ChatFormat::v32, {}, "", once);
    linear = seconds(ChatFormat::v32, {}, "", more) < 8 * few;
  }
  CHECK(linear);
}

// Message holds content and reasoning; of everything else the parser keeps a call's size at most.
TEST_CASE("reports_T14 what is no answer takes no memory") {
  if (kSanitized) return;  // whose memory is not the parser's
  constexpr std::size_t kPiece = 1 << 16, kPieces = 128;
  const ToolCallParserOptions options{.max_call_bytes = 1u << 17};
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
    for (const std::string& begin : states(format)) {
      for (const char* unit : {"n", "\n"}) {
        INFO(begin << " and " << unit);
        ToolCallParser parser(format, false, options);
        const std::string piece = repeated(unit, kPiece);
        parser.feed(begin);
        const std::size_t before = resident_bytes();
        std::size_t events = 0;
        for (std::size_t i = 0; i < kPieces; ++i) {
          for (const ParseEvent& event : parser.feed(piece)) events += event.text.size();
        }
        const std::size_t shown = parser.message().content.size();
        const std::size_t after = resident_bytes();
        const std::size_t grown = after > before ? after - before : 0;
        CHECK(grown < 3 * shown + (4u << 20));
        CHECK(events > kPiece * (kPieces - 20));
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
