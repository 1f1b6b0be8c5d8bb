// Enumerators of the public headers are checked where they come in: a program in another language
// may hand over any byte.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/chat_template.h"
#include "dsv32/tool_call_parser.h"

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

template <class Enum>
constexpr Enum kNine = static_cast<Enum>(9);

TEST_CASE("reports_W9 enumerators that are none are refused at the door of text") {
  const std::vector<Message> question = {{.role = Role::user, .content = "2+2?"}};
  std::vector<Message> stranger = question;
  stranger.push_back({.role = kNine<Role>, .content = "x"});
  const std::pair<std::string, std::function<void()>> doors[] = {
      {"chat format is 9", [] { ChatTemplate(kNine<ChatFormat>); }},
      {"chat format is 9", [] { ToolCallParser(kNine<ChatFormat>, false); }},
      {"finish reason is 9",
       [] { ToolCallParser(ChatFormat::v32, false).finish(kNine<FinishReason>); }},
      {"thinking mode is 9",
       [&] { ChatTemplate(ChatFormat::v32).render(question, kNine<ThinkingMode>); }},
      {"messages[1].role is 9",
       [&] { ChatTemplate(ChatFormat::v32).render(stranger, ThinkingMode::chat); }},
      {"messages[1].role is 9",
       [&] { ChatTemplate(ChatFormat::v31).render(stranger, ThinkingMode::chat); }},
      {"messages[1].role is 9",
       [&] { ChatTemplate(ChatFormat::v32_speciale).render(stranger, ThinkingMode::chat); }},
  };
  for (const auto& [message, call] : doors) check_error(ErrorCode::invalid_argument, message, call);
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v32_speciale, ChatFormat::v31})
    CHECK(ChatTemplate(format).format() == format);
}

}  // namespace
}  // namespace dsv32::test
