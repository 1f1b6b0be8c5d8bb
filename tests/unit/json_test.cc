// base/json: what it accepts, what it refuses, how it prints.
#include "lib/base/json.h"

#include <string>

#include "tests/support/catch.h"

namespace dsv32 {
namespace {

using test::check_error;

std::string round_trip(std::string_view text) { return python_json(parse_json(text, "text")); }

TEST_CASE("JSON prints as Python does") {
  CHECK(round_trip(R"({"b":1,"a":[true,false,null],"c":{}})") ==
        R"({"b": 1, "a": [true, false, null], "c": {}})");
  CHECK(round_trip(R"("q\"\\\n\u0001\u007f é /")") == "\"q\\\"\\\\\\n\\u0001\x7f \xC3\xA9 /\"");
  CHECK(round_trip("123456789012345678901234567890") == "123456789012345678901234567890");
  CHECK(round_trip("-0") == "0");
}

TEST_CASE("JSON floats print as repr does") {
  CHECK(round_trip("[1.0, 1e5, 1e-4, 1e16, 1e-05, 1.5e300, -0.0, 0.1]") ==
        "[1.0, 100000.0, 0.0001, 1e+16, 1e-05, 1.5e+300, -0.0, 0.1]");
  CHECK(round_trip("123456789012345.678") == "123456789012345.67");
  CHECK(round_trip("9999999999999998.0") == "9999999999999998.0");
}

TEST_CASE("JSON that is refused") {
  for (const char* text :
       {"", " ", "{", "[1,]", "{}x", "{} {}", "[01]", "[+1]", "[NaN]", "[1 /**/]", "'a'",
        "\"\\ud800\"", "\"a\tb\"", "\"\xff\"", "\"\xc0\xaf\"", "1e999", "\xEF\xBB\xBF{}",
        R"({"a":1,"a":2})", R"({"x":{"b":1,"b":2}})"}) {
    INFO(text);
    check_error(ErrorCode::bad_format, "text", [&] { parse_json(text, "text"); });
  }
}

TEST_CASE("reports_T11 JSON ends where its value ends") {
  using namespace std::string_literals;
  for (const std::string& text :
       {"{}\0"s, "{}\0{}"s, "\0{}"s, "[1\0]"s, "1\0}, \"admin\": true"s, "{\"a\0b\": 1}"s,
        "{}\n\0"s, "\0"s, "{} 1"s, "{},"s, "{}\xEF\xBB\xBF"s, "{}\x01"s}) {
    INFO(python_json_string(text));
    int events = 0;
    check_error(ErrorCode::bad_format, "text",
                [&] { scan_json(text, "text", [&](const JsonEvent&) { ++events; }); });
    if (text.find('\0') != text.npos) CHECK(events == 0);
  }
  CHECK(round_trip(" \t\r\n{} \t\r\n") == "{}");
  CHECK(round_trip("\"\\u0000\"") == "\"\\u0000\"");  // an escape is a character, no end
}

TEST_CASE("reports_T11 JSON has one cap on its bytes") {
  std::string text(kMaxJsonBytes, ' ');
  text[0] = '7';
  CHECK(round_trip(text) == "7");
  check_error(ErrorCode::limit, "100000001 bytes", [&] { parse_json(text + ' ', "text"); });
}

TEST_CASE("reports_T13 escapes of lone surrogates, and of pairs") {
  const auto replaced = [](std::string text, std::size_t count) {
    CHECK(replace_lone_surrogates(text) == count);
    return text;
  };
  CHECK(replaced(R"("\ud800")", 1) == R"("\uFFFD")");
  CHECK(replaced(R"("\uDFFFx\ud83d\ude00")", 1) == R"("\uFFFDx\ud83d\ude00")");
  CHECK(replaced(R"("\ud83d\ud83d\ude00\ude00")", 2) == R"("\uFFFD\ud83d\ude00\uFFFD")");
  CHECK(replaced(R"("\\ud800 \\\ud800")", 1) == R"("\\ud800 \\\uFFFD")");
  for (const char* same : {R"("\ud7ff\ue000\u")", R"("\ud8)", R"("\ud8zz")", "\\", "", "\\u"}) {
    CHECK(replaced(same, 0) == same);
  }
}

TEST_CASE("JSON nesting is capped without recursion") {
  const std::string deep(1'000'000, '[');
  check_error(ErrorCode::limit, "64", [&] { parse_json(deep, "text"); });
  const std::string just(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']'));
  CHECK(round_trip(just) == just);
}

TEST_CASE("integers never pass through a double") {
  CHECK(parse_u64("18446744073709551615", "n") == 18446744073709551615ULL);
  check_error(ErrorCode::bad_format, "n", [] { parse_u64("18446744073709551616", "n"); });
  check_error(ErrorCode::bad_format, "n", [] { parse_u64("-1", "n"); });
  CHECK(parse_i64("-9223372036854775808", "n") == INT64_MIN);
}

}  // namespace
}  // namespace dsv32
