// Random conversations in both formats: what is asked is the history and a hand-over, and no
// prompt ends where an answer would be read for what it is not.
#include <algorithm>
#include <string>
#include <vector>

#include "dsv32/chat_template.h"

#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Random;
using Messages = std::vector<Message>;

// Any roles in any order; calls mostly with their results.
Messages random_messages(Random& random) {
  Messages messages;
  for (std::size_t n = 1 + random.below(8); n > 0; --n) {
    const std::string text = random.below(6) == 0 ? "" : "t" + std::to_string(random.below(90));
    switch (random.below(8)) {
      case 0:
        messages.push_back({.role = Role::system, .content = text});
        break;
      case 1:
      case 2:
      case 3:
        messages.push_back({.content = text});
        break;
      case 4:
      case 5: {
        Message answer{.role = Role::assistant, .content = text};
        if (random.below(4) > 0) answer.reasoning = "r" + text;
        answer.prefix = random.below(4) == 0;
        messages.push_back(answer);
        break;
      }
      default: {
        Message call{.role = Role::assistant, .content = text};
        const std::size_t count = 1 + random.below(3);
        for (std::size_t k = 0; k < count; ++k) {
          call.tool_calls.push_back({.id = std::to_string(k),
                                     .name = "f",
                                     .arguments_json = random.below(2) ? "" : "{}"});
        }
        messages.push_back(call);
        const std::size_t results = random.below(8) == 0 ? random.below(count) : count;
        const std::size_t turned = random.below(count);  // ids in an order of their own
        for (std::size_t k = 0; k < results; ++k) {
          messages.push_back({.role = Role::tool,
                              .content = "o" + std::to_string((k + turned) % count),
                              .tool_call_id = std::to_string((k + turned) % count)});
        }
      }
    }
  }
  return messages;
}

// Where the last <think> stands open, the model writes reasoning.
bool thinks(const std::string& text) {
  const std::size_t open = text.rfind("<think>");
  return open != text.npos && text.find("</think>", open) == text.npos &&
         text.find("<｜end▁of▁sentence｜>", open) == text.npos;
}

struct Counts {
  std::size_t asked = 0, refused = 0, continued = 0, histories = 0;
};

void check(const Messages& messages, const ChatTemplate& format, ThinkingMode mode,
           Counts& counts) {
  const bool v31 = format.format() == ChatFormat::v31;
  std::string history;
  bool has_history = true;
  try {
    history = format.render(messages, mode, {.add_generation_prompt = false}).text;
    ++counts.histories;
  } catch (const Error&) {
    has_history = false;
  }
  Prompt prompt;
  try {
    prompt = format.render(messages, mode);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    ++counts.refused;
    return;
  }
  ++counts.asked;
  const auto is_system = [](const Message& m) { return m.role == Role::system; };
  const auto last =
      v31 ? std::find_if_not(messages.rbegin(), messages.rend(), is_system) : messages.rbegin();
  const bool ends = last != messages.rend();
  const bool continued = ends && last->role == Role::assistant;
  CHECK(prompt.in_reasoning == thinks(prompt.text));
  CHECK(!prompt.text.ends_with("<｜end▁of▁sentence｜>"));
  if (continued && last->prefix) {
    ++counts.continued;
    const std::string& end = last->content.empty() && mode == ThinkingMode::thinking && !v31
                                 ? last->reasoning
                                 : last->content;
    CHECK(prompt.text.ends_with(end));
  } else if (has_history) {
    CHECK(prompt.text.starts_with(history));
    if (!v31) {
      CHECK(prompt.text == history);
      CHECK(last->role != Role::system);
      CHECK(last->role != Role::assistant);
    }
  }
}

TEST_CASE("reports_T4 reports_T5 random conversations end where the model may write") {
  Random random{45};
  Counts counts;
  for (int i = 0; i < 20000; ++i) {
    const Messages messages = random_messages(random);
    for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
      for (const ThinkingMode mode : {ThinkingMode::chat, ThinkingMode::thinking}) {
        check(messages, ChatTemplate(format), mode, counts);
      }
    }
  }
  CHECK(counts.asked > 20000);
  CHECK(counts.refused > 5000);
  CHECK(counts.continued > 2000);
  CHECK(counts.histories > 20000);
}

TEST_CASE("reports_T6 random conversations: results by id, and every context") {
  Random random{46};
  std::size_t moved = 0, contexts = 0;
  for (int i = 0; i < 5000; ++i) {
    const Messages messages = random_messages(random);
    Messages sorted = messages;
    for (auto run = sorted.begin(); run != sorted.end();) {
      const auto end =
          std::find_if(run, sorted.end(), [](const Message& m) { return m.role != Role::tool; });
      std::stable_sort(run, end, [](const Message& a, const Message& b) {
        return a.tool_call_id < b.tool_call_id;
      });
      for (auto m = run; m != end; ++m) m->tool_call_id.clear();
      run = end == sorted.end() ? end : end + 1;
    }
    for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
      const ChatTemplate chat(format);
      const RenderOptions history{.add_generation_prompt = false};
      std::string whole;
      try {
        whole = chat.render(messages, ThinkingMode::chat, history).text;
      } catch (const Error&) {
        continue;
      }
      // Fewer results than calls fill the first calls' places once they have no ids.
      if (std::ranges::count(messages, Role::tool, &Message::role) > 0) {
        moved += chat.render(sorted, ThinkingMode::chat, history).text == whole ? 1 : 0;
      }
      for (std::size_t k = 0; k <= messages.size(); ++k) {
        try {
          const RenderOptions rest{.add_generation_prompt = false, .context = k};
          const std::string text = chat.render(messages, ThinkingMode::chat, rest).text;
          CHECK(whole.ends_with(text));
          ++contexts;
        } catch (const Error& error) {  // one that is sent belongs behind one that is not
          const bool inside = k > 0 && k < messages.size() && messages[k].role == Role::tool;
          const bool system = format == ChatFormat::v31;  // which stands at the start
          CHECK(error.code() == ErrorCode::invalid_argument);
          CHECK((inside || system));
        }
      }
    }
  }
  CHECK(moved > 1000);
  CHECK(contexts > 10000);
}

}  // namespace
}  // namespace dsv32::test
