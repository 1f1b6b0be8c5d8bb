// A tokenizer.json's merges in both spellings; its added tokens: many, alike, and overlapping.
#include <chrono>
#include <string>
#include <vector>

#include "dsv32/tokenizer.h"

#include "lib/text/format_markers.h"
#include "lib/text/vocabulary.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

std::string small() {  // the tokenizer of the fuzz corpus
  return conformance::read_file(std::string(DSV32_SOURCE_DIR) +
                                "/tests/fuzz/corpus/tokenizer/small");
}

Tokenizer tokenizer_of(const std::string& json) {
  const TempFolder folder;
  write_text(folder.path() / "tokenizer.json", json);
  return Tokenizer::load(folder.path() / "tokenizer.json");
}

// With these added tokens instead of its own, ids from 300 on.
std::string with_added(const std::vector<std::string>& contents) {
  std::string text = small();
  std::string list;
  int id = 300;
  for (const std::string& content : contents) {
    list += (list.empty() ? "" : ", ");
    list += "{\"id\": " + std::to_string(id++) + ", \"content\": \"" + content +
            "\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
            "\"normalized\": false, \"special\": true}";
  }
  const std::string key = "\"added_tokens\": [";
  const std::size_t begin = text.find(key) + key.size();
  return text.replace(begin, text.find(']', begin) - begin, list);
}

Tokenizer tokenizer_with(const std::vector<std::string>& contents) {
  return tokenizer_of(with_added(contents));
}

std::vector<std::string> marked(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> out;
  for (const TokenId id : tokenizer.encode(text, true)) {
    if (id >= 300) out.emplace_back(tokenizer.bytes(id));
  }
  return out;
}

TEST_CASE("TK-04 both spellings of a merge give the same ids") {
  const std::string pair = "[\"a\", \"b\"]", text = small();
  const std::size_t at = text.find(pair);
  REQUIRE(at != std::string::npos);
  const auto spelled = [&](const std::string& merge) {
    return std::string(text).replace(at, pair.size(), merge);
  };
  const auto ids = tokenizer_of(text).encode("abab ba ab");
  CHECK(ids.size() == 7);
  CHECK(tokenizer_of(spelled("\"a b\"")).encode("abab ba ab") == ids);
  for (const char* merge : {"\"a b c\"", "\"ab\"", "\"a  b\"", "\" a b\"", "[\"a\"]", "[]",
                            "[\"a\", \"b\", \"a\"]", "[\"a\", \" \"]", "7", "null"}) {
    INFO(merge);
    CHECK_THROWS_AS(tokenizer_of(spelled(merge)), Error);
  }
}

TEST_CASE("TK-06 added tokens: the leftmost, then the longest, none empty, none twice") {
  using List = std::vector<std::string>;
  const Tokenizer tokenizer = tokenizer_with({"<a", "<a>", "<a>b", "b><", "><a"});
  CHECK(marked(tokenizer, "x<a>bx") == List{"<a>b"});
  CHECK(marked(tokenizer, "x<a>x<ax") == List{"<a>", "<a"});
  CHECK(marked(tokenizer, "<a>b><a>") == List{"<a>b", "><a"});
  CHECK(marked(tokenizer, "b><a>") == List{"b><"});
  CHECK(tokenizer.decode(tokenizer.encode("<a>b><a><a<<a", true)) == "<a>b><a><a<<a");
  check_error(ErrorCode::bad_format, "", [] { tokenizer_with({"<a>", ""}); });
  check_error(ErrorCode::bad_format, "", [] { tokenizer_with({"<a>", "<a>"}); });
}

TEST_CASE("TK-06 100,000 added tokens are linear work") {
  const auto seconds = [](int count) {
    std::vector<std::string> contents;
    std::string text;
    for (int i = 0; i < count; ++i) {
      contents.push_back("<|token " + std::to_string(i) + "|>");
      text += contents.back() + " <|token ";
    }
    const auto start = std::chrono::steady_clock::now();
    const Tokenizer tokenizer = tokenizer_with(contents);
    CHECK(marked(tokenizer, text).size() == contents.size());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  CHECK(seconds(100000) < (kSanitized ? 200.0 : 20.0));  // quadratic work would take hours
}

// The file with the list behind `key` replaced.
std::string with_list(const std::string& key, const std::string& value) {
  std::string text = small();
  const std::size_t begin = text.find("\"" + key + "\": [");
  REQUIRE(begin != std::string::npos);
  std::size_t end = text.find('[', begin), depth = 0;
  do {
    depth += text[end] == '[' ? 1U : 0U;
    depth -= text[end] == ']' ? 1U : 0U;
    ++end;
  } while (depth > 0);
  return text.replace(begin, end - begin, value.empty() ? "\"x\": 0" : "\"" + key + "\": " + value);
}

TEST_CASE("reports_W5 merges that are no list are refused by name") {
  for (const char* merges : {"", "null", "7", "{}", "{\"a\": \"b\"}", "\"a b\"", "true", "false"}) {
    INFO(merges);
    check_error(ErrorCode::bad_format, "model.merges is missing or no list",
                [&] { tokenizer_of(with_list("merges", merges)); });
  }
  check_error(ErrorCode::bad_format, "model.merges is empty, but the token",
              [] { tokenizer_of(with_list("merges", "[]")); });
  for (const char* list : {"null", "7", "{}", "\"<a>\""}) {
    check_error(ErrorCode::bad_format, "added_tokens is no list",
                [&] { tokenizer_of(with_list("added_tokens", list)); });
  }
}

TEST_CASE("reports_W5 a vocabulary of bytes and added tokens needs no merge") {
  std::string text = with_list("merges", "[]");
  const std::size_t pair = text.find("\"ab\": ");
  REQUIRE(pair != std::string::npos);
  // The only token of two bytes goes.
  std::size_t begin = text.rfind(',', pair), end = text.find_first_of(",}", pair);
  if (text[end] == ',') begin = pair, ++end;
  const Tokenizer bytes = tokenizer_of(text.erase(begin, end - begin));
  CHECK(bytes.encode("abab").size() == 4);
  for (const char* vocab : {"null", "[]", "7"}) {
    const std::string key = "\"vocab\": ";
    std::string none = small();
    const std::size_t at = none.find(key) + key.size();
    none.replace(at, none.find(", \"merges\"", at) - at, vocab);
    check_error(ErrorCode::bad_format, "model.vocab is missing or no object",
                [&] { tokenizer_of(none); });
  }
}

TEST_CASE("reports_T11 bytes behind tokenizer.json's object are refused") {
  using namespace std::string_literals;
  for (const std::string& tail : {"\0"s, "\0garbage"s, " {}"s, "x"s}) {
    check_error(ErrorCode::bad_format, "tokenizer.json", [&] { tokenizer_of(small() + tail); });
  }
}

TEST_CASE("reports_W5 a flag of an added token is a bool") {
  std::string text = with_added({"<a>"});
  const std::string flag = "\"special\": true";
  text.replace(text.find(flag), flag.size(), "\"special\": \"true\"");
  check_error(ErrorCode::bad_format, "special", [&] { tokenizer_of(text); });
}

TEST_CASE("reports_W6 a tokenizer without a marker of the format is refused by the marker's name") {
  const std::vector<std::string> both = {"<｜begin▁of▁sentence｜>",
                                         "<｜end▁of▁sentence｜>",
                                         "<｜User｜>",
                                         "<｜Assistant｜>",
                                         "<think>",
                                         "</think>"};
  const std::vector<std::string> old = {"<｜tool▁calls▁begin｜>",  "<｜tool▁calls▁end｜>",
                                        "<｜tool▁call▁begin｜>",   "<｜tool▁call▁end｜>",
                                        "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
                                        "<｜tool▁sep｜>"};
  const auto check = [&](ChatFormat format, const std::vector<std::string>& tools) {
    std::vector<std::string> all = both;
    all.insert(all.end(), tools.begin(), tools.end());
    CHECK_NOTHROW(check_markers(tokenizer_with(all), format));
    for (std::size_t i = 0; i < all.size(); ++i) {
      std::vector<std::string> some = all;
      some.erase(some.begin() + static_cast<std::ptrdiff_t>(i));
      check_error(ErrorCode::mismatch, all[i],
                  [&] { check_markers(tokenizer_with(some), format); });
    }
  };
  check(ChatFormat::v32, {"｜DSML｜"});
  check(ChatFormat::v32_speciale, {});
  check(ChatFormat::v31, old);
}

}  // namespace
}  // namespace dsv32::test
