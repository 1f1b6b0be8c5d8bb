// chat FILE...: encode and parse vectors (jsonl), and request files X_input*.json with the prompt
// in X_output*.txt beside them.
#include <algorithm>
#include <map>

#include "lib/base/check.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/messages.h"

namespace dsv32::conformance {
namespace {

using Fault = ParseEvent::Fault;

bool flag(const Json& args, std::string_view key, bool otherwise) {
  const Json* value = args.find(key);
  return value == nullptr ? otherwise : value->boolean;
}

std::string encode_v32(const Json& row) {
  const Json& args = member(row, "args");
  std::vector<Message> messages;
  if (const Json* context = args.find("context")) messages = to_messages(*context);
  const std::size_t sent = messages.size();
  for (const Json& item : member(row, "input").items) messages.push_back(to_message(item));
  const RenderOptions options{.drop_thinking = flag(args, "drop_thinking", true),
                              .add_bos = flag(args, "add_default_bos_token", true),
                              .add_generation_prompt = false,  // the reference asks nothing
                              .context = sent};
  const ThinkingMode mode = to_mode(member(args, "thinking_mode").text);
  return ChatTemplate(ChatFormat::v32).render(messages, mode, options).text;
}

std::string encode_v31(const Json& row) {
  const Json& args = member(row, "args");
  const ThinkingMode mode =
      flag(args, "thinking", false) ? ThinkingMode::thinking : ThinkingMode::chat;
  const RenderOptions options{.add_generation_prompt = flag(args, "add_generation_prompt", false)};
  const Json& input = member(row, "input");
  std::vector<Message> messages = to_messages(input);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    messages[i].prefix = flag(input.items[i], "prefix", false);
  }
  return ChatTemplate(ChatFormat::v31).render(messages, mode, options).text;
}

// A prompt, or the reason why there is none; against what the vector says.
std::string check_encode(const Json& row, std::string (*encode)(const Json&)) {
  const Json* want = row.find("expected");
  try {
    const std::string got = encode(row);
    if (want == nullptr) return "rendered, but the reference fails";
    return compare_text("prompt", got, want->text);
  } catch (const Error& error) {
    return want == nullptr ? std::string() : formatted("refused: {}", error.what());
  }
}

// The reference's message to our fault.
Fault fault_of(const std::string& message) {
  static const std::map<std::string, Fault> faults = {
      {"Invalid thinking format", Fault::thinking_format},
      {"Invalid summary format", Fault::summary_format},
      {"Tool call format error", Fault::call_format},
      {"Missing special token", Fault::missing_token},
      {"Tool name format error", Fault::name_format},
      {"Parameter format error", Fault::parameter_format},
      {"Duplicate parameter name", Fault::duplicate_parameter},
      {"Unexpected content after tool calls", Fault::text_after_calls},
      {"Unexpected content at end", Fault::text_after_end},
      {"Unexpected special token in content", Fault::special_token}};
  const auto found = faults.find(message);
  return found == faults.end() ? Fault::none : found->second;
}

std::string check_parse(const Json& row) {
  const std::string& text = member(row, "input").text;
  const std::string& mode = member(member(row, "args"), "thinking_mode").text;
  const ToolCallParser parser(ChatFormat::v32, to_mode(mode) == ThinkingMode::thinking,
                              {.strict = true});
  // The vectors hold their end token, where there is one.
  const Parsed got = parse(parser, text, {}, FinishReason::length);
  Random random{text.size()};
  for (int i = 0; i < 8; ++i) {
    const auto cuts = i == 0 ? every_byte(text) : random_cuts(text, random);
    if (!same(got, parse(parser, text, cuts, FinishReason::length))) return "depends on the split";
  }
  if (!got.broken.empty()) return got.broken;
  if (const Json* error = row.find("error")) {
    if (!got.refused) return "accepted, but the reference refuses";
    const Fault want = fault_of(member(*error, "message").text);
    if (got.faults.front() == want) return {};
    return formatted("refused for {}, not {}", to_string(got.faults.front()), to_string(want));
  }
  if (got.refused) return formatted("refused for {}", to_string(got.faults.front()));
  const Json& want = member(row, "expected");
  std::string fault = compare_text("content", got.message.content, member(want, "content").text);
  if (fault.empty()) {
    fault =
        compare_text("reasoning", got.message.reasoning, member(want, "reasoning_content").text);
  }
  return fault.empty() ? compare_calls(got.message.tool_calls, member(want, "tool_calls")) : fault;
}

void check_row(const Json& row, Report& report) {
  const std::string& kind = member(row, "kind").text;
  std::string fault = formatted("unknown kind {}", quote(kind));
  try {
    if (kind == "encode") fault = check_encode(row, encode_v32);
    if (kind == "encode_v31") fault = check_encode(row, encode_v31);
    if (kind == "parse") fault = check_parse(row);
  } catch (const Error& error) {
    fault = error.what();
  }
  // What the reference does by accident of Python is not ours to copy.
  const Json* tag = row.find("tag");
  if (!fault.empty() && tag != nullptr && tag->text == "quirk") {
    return report.skip(member(row, "name").text, "quirk: " + fault);
  }
  report.result(member(row, "name").text, fault.empty(), fault);
}

// The prompt of a whole request, and its answers: each encoded alone, parsed, and compared.
void check_request(const std::filesystem::path& path, Report& report) {
  const std::string name = path.filename().string();
  const Json request = parse_json(read_file(path), name);
  std::vector<Message> messages = to_messages(member(request, "messages"));
  DSV32_CHECK(!messages.empty(), bad_format, "{} holds no message", quote(name));
  if (const Json* tools = request.find("tools")) {
    for (const Json& tool : tools->items) messages[0].tools_json.push_back(python_json(tool));
  }
  std::string want_name = name;
  want_name.replace(want_name.rfind("_input"), 6, "_output");
  const auto want_path = path.parent_path() / want_name;
  std::string want = read_file(std::filesystem::path(want_path).replace_extension(".txt"));
  const ChatTemplate format(ChatFormat::v32);
  std::string got =
      format.render(messages, ThinkingMode::thinking, {.add_generation_prompt = false}).text;
  for (std::string* text : {&got, &want}) text->erase(text->find_last_not_of('\n') + 1);
  const std::string fault = compare_text("prompt", got, want);
  report.result(name, fault.empty(), fault);

  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role != Role::assistant || message.reasoning.empty()) continue;
    const auto sent = std::span(messages).first(i + 1);
    const RenderOptions alone{.add_generation_prompt = false, .context = i};
    const std::string text = format.render(sent, ThinkingMode::thinking, alone).text;
    const Parsed back = parse(ToolCallParser(ChatFormat::v32, true, {.strict = true}), text,
                              every_byte(text), FinishReason::length);
    std::string difference = back.refused ? "refused" : back.broken;
    if (difference.empty()) {
      difference = compare_text("content", back.message.content, message.content);
    }
    if (difference.empty()) {
      difference = compare_text("reasoning", back.message.reasoning, message.reasoning);
    }
    const auto again =
        std::vector<Message>{messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i)};
    if (difference.empty()) {
      std::vector<Message> replaced = again;
      replaced.push_back(back.message);
      const std::string text_again = format.render(replaced, ThinkingMode::thinking, alone).text;
      difference = compare_text("rendered again", text_again, text);
    }
    report.result(formatted("{} message {}", name, i), difference.empty(), difference);
  }
}

}  // namespace

int run_chat(const Args& args) {
  if (args.empty()) throw UsageError("usage: chat FILE...");
  Report report;
  for (const std::string& arg : args) {
    const std::filesystem::path path(arg);
    const std::string name = path.filename().string();
    try {
      if (path.extension() == ".json") {
        DSV32_CHECK(name.find("_input") != name.npos, bad_format, "is of an unknown kind");
        check_request(path, report);
      } else if (path.extension() == ".txt" && name.find("_output") != name.npos) {
        read_file(path);  // belongs to its input
      } else {
        for_each_row(path, report, [&](const Json& row) { check_row(row, report); });
      }
    } catch (const Error& error) {
      report.result(name, false, error.what());
    }
  }
  return report.finish();
}

}  // namespace dsv32::conformance
