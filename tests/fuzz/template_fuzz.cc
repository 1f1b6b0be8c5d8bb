// Conversations made of bytes: roles, fields and texts. Untrusted ranges are what they should be.
#include <string>
#include <vector>

#include "dsv32/chat_template.h"

#include "tests/fuzz/fuzz.h"

namespace {

using namespace dsv32;

// Fields are what lies between zero bytes.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> fields(1);
  for (const char c : text) {
    if (c == '\0') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const auto format = static_cast<ChatFormat>(data[0] % 3);
  const auto mode = static_cast<ThinkingMode>(data[0] / 3 % 2);
  const std::vector<std::string> fields = split(fuzz::text_of(data + 2, size - 2));
  std::vector<Message> messages;
  for (const std::string& field : fields) {
    if (field.size() < 2) continue;
    const std::string text = field.substr(2);
    Message message{.role = static_cast<Role>(static_cast<unsigned char>(field[0]) % 5)};
    const unsigned kind = static_cast<unsigned char>(field[1]) % 8;
    message.content = kind == 1 ? "" : text;
    if (kind == 2) message.reasoning = text;
    if (kind == 3) message.tool_calls = {{.id = "1", .name = text, .arguments_json = text}};
    if (kind == 4) message.tool_calls = {{.id = "1", .name = "f", .arguments_json = "{\"a\": 1}"}};
    if (kind == 5) message.tools_json = {text};
    if (kind == 6) message.response_format_json = text;
    if (kind == 7) message.tool_call_id = text;
    message.prefix = static_cast<unsigned char>(field[1]) / 8 % 4 == 1;
    messages.push_back(std::move(message));
  }
  return fuzz::run([&] {
    const RenderOptions options{.add_bos = data[1] % 2 == 0,
                                .add_generation_prompt = data[1] / 64u % 2 == 0,
                                .context = data[1] / 2u % 4};
    const Prompt prompt = ChatTemplate(format).render(messages, mode, options);
    fuzz::require(!prompt.in_reasoning || mode == ThinkingMode::thinking);
    if (options.add_generation_prompt && format != ChatFormat::v31 && !messages.empty()) {
      const Role last = messages.back().role;
      fuzz::require(last != Role::system && (last != Role::assistant || messages.back().prefix));
    }
    std::size_t end = 0;
    for (const ByteRange& range : prompt.untrusted) {
      fuzz::require(range.begin >= end && range.begin < range.end);
      end = range.end;
    }
    fuzz::require(end <= prompt.text.size());
  });
}
