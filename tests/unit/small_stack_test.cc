// Input does not set the depth of any recursion: the worst of it on threads with small stacks.
#include "tests/support/small_stack.h"

#include <string>

#include "dsv32/chat_template.h"
#include "dsv32/config.h"
#include "dsv32/tokenizer.h"
#include "dsv32/tool_call_parser.h"

#include "lib/weights/safetensors.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

std::string bomb(const std::string& open) {
  std::string text;
  for (int i = 0; i < 400000; ++i) text += open;
  return text;
}

template <class Call>
bool is_refused(Call&& call) {
  try {
    call();
  } catch (const Error&) {
    return true;
  }
  return false;
}

TEST_CASE("ST-16 CH-09 nesting bombs on a stack of 128 KiB") {
  bool refused = true;
  on_stack(128, [&] {
    for (const char* open : {"[", "{\"k\":"}) {
      const std::string text = "{\"__metadata__\":" + bomb(open);
      std::string file(8, '\0');
      for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(text.size() >> (8 * i));
      file += text;
      refused &= is_refused([&] { parse_safetensors(std::as_bytes(std::span(file)), "file"); });
      refused &= is_refused([&] { ModelConfig::from_json("{\"a\":" + bomb(open)); });
      const Message system{.role = Role::system, .tools_json = {"{\"a\":" + bomb(open)}};
      refused &=
          is_refused([&] { ChatTemplate().render(std::span(&system, 1), ThinkingMode::chat); });
    }
    ToolCallParser parser(ChatFormat::v32, false);
    parser.feed(
        "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
        "<｜DSML｜parameter name=\"a\" string=\"false\">" +
        bomb("[") + "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>");
    parser.finish(FinishReason::stop);
    refused &= !parser.faults().empty();
  });
  CHECK(refused);
}

TEST_CASE("TK-08 a megabyte of one kind on a stack of 64 KiB") {
  const Tokenizer tokenizer =
      Tokenizer::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json");
  bool same = true;
  on_stack(64, [&] {
    for (const char* unit : {"a", "^", " ", "\n", "你", "\u0301", "7", "aB"}) {
      std::string text;
      while (text.size() < (1 << 20)) text += unit;
      same &= tokenizer.decode(tokenizer.encode(text)) == text;
    }
  });
  CHECK(same);
}

}  // namespace
}  // namespace dsv32::test
