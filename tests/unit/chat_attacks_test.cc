// Chat text that is not what it looks like, and whole messages there and back.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "dsv32/chat_template.h"
#include "dsv32/tokenizer.h"
#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using conformance::Parsed;
using conformance::Random;
using Messages = std::vector<Message>;

const Tokenizer& bundled() {
  static const Tokenizer tokenizer =
      Tokenizer::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json");
  return tokenizer;
}

// Ids that a template's words become; not all of them are flagged as special.
bool is_marker(TokenId id) {
  static const std::set<TokenId> ids = [] {
    std::set<TokenId> found;
    for (const char* marker : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
                               "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜"}) {
      found.insert(bundled().find(marker).value());
    }
    return found;
  }();
  return ids.contains(id);
}

TEST_CASE("CH-10 content that is null, missing, a list or an image") {
  const auto message = [](const std::string& content) {
    return conformance::to_message(parse_json("{\"role\": \"user\"" + content + "}", "message"));
  };
  for (const char* content : {"", ", \"content\": null", ", \"content\": \"\""}) {
    const std::string text =
        ChatTemplate().render(Messages{message(content)}, ThinkingMode::chat).text;
    CHECK(text == "<｜begin▁of▁sentence｜><｜User｜><｜Assistant｜></think>");
  }
  for (const char* content : {", \"content\": [{\"type\": \"text\", \"text\": \"x\"}]",
                              ", \"content\": [{\"type\": \"image_url\"}]", ", \"content\": 7"}) {
    check_error(ErrorCode::unsupported, "content", [&] { message(content); });
  }
}

TEST_CASE("CH-15 look-alikes of markers are text, trusted or not") {
  for (const char* text :
       {"<|User|>", "<|begin_of_sentence|>", "＜｜User｜＞", "<｜Us\u200der｜>", "<\u200d｜User｜>",
        "<｜User|>", "<｜user｜>", "<｜User ｜>", "<｜end_of_sentence｜>", "<｜end of sentence｜>",
        "<thi\u200bnk>", "</ think>", "<THINK>", "|DSML|", "｜D\u0455ML｜", "<ǀUserǀ>"}) {
    INFO(text);
    for (const bool trusted : {false, true}) {
      const auto ids = bundled().encode(text, trusted);
      CHECK(std::none_of(ids.begin(), ids.end(), is_marker));
      CHECK(bundled().decode(ids) == text);
    }
    const Prompt prompt = ChatTemplate().render(Messages{{.content = text}}, ThinkingMode::chat);
    const auto ids = bundled().encode(prompt);
    CHECK(std::count_if(ids.begin(), ids.end(), is_marker) == 4);  // begin, user, assistant, think
    ToolCallParser parser(ChatFormat::v32, false);
    parser.feed(text);
    parser.finish(FinishReason::stop);
    CHECK(parser.message().content == text);
    CHECK(parser.faults().empty());
  }
}

const std::string kCall =
    "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
    "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜parameter>\n"
    "<｜DSML｜parameter name=\"b\" string=\"false\">[2]</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"g\">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";

TEST_CASE("PA-14 markup counts whichever tokens it is made of") {
  // As ordinary tokens only, as the markers' own, and as the tokenizer likes best.
  const auto plain = bundled().encode(kCall), special = bundled().encode(kCall, true);
  CHECK(plain != special);
  for (const auto& ids : {plain, special}) {
    TokenDecoder decoder(bundled());
    ToolCallParser parser(ChatFormat::v32, false);
    for (const TokenId id : ids) parser.feed(decoder.push(id));
    parser.feed(decoder.flush());
    parser.finish(FinishReason::stop);
    REQUIRE(parser.message().tool_calls.size() == 2);
    CHECK(parser.message().tool_calls[0].arguments_json == R"({"a": "1", "b": [2]})");
    CHECK(parser.message().content.empty());
  }
}

TEST_CASE("PA-20 several tags in one piece lose nothing") {
  const std::string text = "so</think>Hi" + kCall;
  const ToolCallParser parser(ChatFormat::v32, true);
  const Parsed want =
      conformance::parse(parser, text, conformance::every_byte(text), FinishReason::stop);
  REQUIRE(want.message.tool_calls.size() == 2);
  // Every piece of two to eight hundred bytes, from every place on: what speculation hands out.
  std::size_t different = 0;
  for (const std::size_t size : {2U, 7U, 40U, 90U, 200U, 800U}) {
    for (std::size_t first = 0; first < size && first < text.size(); ++first) {
      std::vector<std::size_t> cuts;
      for (std::size_t at = first; at < text.size(); at += size) {
        if (at > 0) cuts.push_back(at);
      }
      const Parsed got = conformance::parse(parser, text, cuts, FinishReason::stop);
      different += same(got, want) ? 0 : 1;
    }
  }
  CHECK(different == 0);
}

// Random messages that the reference's encoder can render and its parser reads.
class MessageMaker {
 public:
  explicit MessageMaker(std::uint64_t seed) : random_{seed} {}

  Message make() {
    Message message{.role = Role::assistant, .content = text(12), .reasoning = text(16)};
    for (std::size_t n = random_.below(4); n > 1; --n) {
      static const char* kNames[] = {"get_weather", "f", "send-mail", "查询", "a b"};
      message.tool_calls.push_back(
          {.name = kNames[random_.below(std::size(kNames))], .arguments_json = object(0)});
    }
    return message;
  }
  Random& random() { return random_; }

 private:
  std::string text(std::size_t most) {
    static const char* kWords[] = {"the",  "weather", "is", "12.5", "你好", "🌤️",  "\n",
                                   "\n\n", "<",       "</", "｜",   "DSML", "<|User|>", "</thin",
                                   "<｜",  "\"x\"",   "\\", "é",    "\r\n", "name=",    ">"};
    std::string out;
    for (std::size_t n = 1 + random_.below(most); n > 0; --n) {
      out += kWords[random_.below(std::size(kWords))];
      out += ' ';
    }
    return out;
  }

  std::string value(int depth) {
    static const char* kPlain[] = {"0", "-17", "2.5", "1e-07", "true", "null", "[]", "{}"};
    switch (random_.below(depth < 2 ? 5 : 3)) {
      case 0:
        return kPlain[random_.below(std::size(kPlain))];
      case 3:
        return "[" + value(depth + 1) + ", " + value(depth + 1) + "]";
      case 4:
        return object(depth + 1);
      default:
        return python_json_string(text(4));
    }
  }

  std::string object(int depth) {
    static const char* kKeys[] = {"city", "n", "天", "a b"};
    std::string out = "{";
    const std::size_t keys = random_.below(std::size(kKeys) + 1);
    for (std::size_t i = 0; i < keys; ++i) {
      out += (i == 0 ? "" : ", ") + python_json_string(kKeys[i]) + ": " + value(depth);
    }
    return out + "}";
  }

  Random random_;
};

TEST_CASE("PA-19 100,000 messages come back from their text") {
  // That the text is the reference's, and that its parser says the same, tests/golden/chat shows.
  MessageMaker maker(19);
  std::size_t wrong = 0, calls = 0;
  const Message question{.content = "?"};
  const int messages = kSanitized ? 10000 : 100000;
  for (int i = 0; i < messages; ++i) {
    const Message message = maker.make();
    const std::string text = ChatTemplate()
                                 .render(Messages{question, message}, ThinkingMode::thinking,
                                         {.add_generation_prompt = false, .context = 1})
                                 .text;
    const ToolCallParser parser(ChatFormat::v32, true, {.strict = true});
    const Parsed got = conformance::parse(
        parser, text, conformance::random_cuts(text, maker.random()), FinishReason::length);
    bool right = !got.refused && got.broken.empty() && got.faults.empty() &&
                 got.message.content == message.content &&
                 got.message.reasoning == message.reasoning &&
                 got.message.tool_calls.size() == message.tool_calls.size();
    for (std::size_t c = 0; right && c < message.tool_calls.size(); ++c) {
      right = got.message.tool_calls[c].name == message.tool_calls[c].name &&
              got.message.tool_calls[c].arguments_json == message.tool_calls[c].arguments_json;
      ++calls;
    }
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(calls > static_cast<std::size_t>(messages / 2));
}

}  // namespace
}  // namespace dsv32::test
