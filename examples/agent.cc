// Thinking with tools: the model calls a function, the application runs it, the model goes on from
// the result.
#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/dsv32.h"

namespace {

constexpr const char* kWeatherTool = R"({"type": "function", "function": {
  "name": "get_weather", "description": "Get the weather of a city.",
  "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "description": "City name"}}, "required": ["city"]}}})";

constexpr int kMaxRounds = 4;  // answers to one question, calls included

struct Weather {
  std::string_view city;
  std::string_view report;
};

// The application's own function. Arguments come from a model: trust nothing in them. (A real
// application reads them with its JSON library; they are always one valid JSON object.)
std::string get_weather(const std::string& arguments_json) {
  constexpr std::array<Weather, 3> kReports = {{
      {"\"Reykjavik\"", R"({"temp": 7, "sky": "light rain"})"},
      {"\"Oslo\"", R"({"temp": -3, "sky": "snow"})"},
      {"\"Nairobi\"", R"({"temp": 24, "sky": "sunny"})"},
  }};
  for (const Weather& weather : kReports)
    if (arguments_json.find(weather.city) != std::string::npos) return std::string(weather.report);
  return R"({"error": "no report for that city"})";
}

std::string run_tool(const dsv32::ToolCall& call) {
  if (call.name == "get_weather") return get_weather(call.arguments_json);
  return R"({"error": "there is no such function"})";
}

// Prints thinking and answer as they come, each on lines of its own.
class Printer {
 public:
  using Kind = dsv32::ParseEvent::Kind;

  bool operator()(const dsv32::ParseEvent& event) {
    if (event.kind != Kind::reasoning && event.kind != Kind::content) return true;
    if (event.kind != last_) {
      end_line();
      if (event.kind == Kind::reasoning) std::fputs("(thinking) ", stdout);
    }
    last_ = event.kind;
    std::fputs(event.text.c_str(), stdout);
    std::fflush(stdout);
    return true;  // false would stop the answer
  }
  void end_line() {
    if (last_ != Kind::markup) std::fputs("\n", stdout);
    last_ = Kind::markup;  // nothing is open
  }

 private:
  Kind last_ = Kind::markup;
};

// Appends to `conversation` until the model answers without a call. False: it never did.
bool answer(dsv32::Session& session, std::vector<dsv32::Message>& conversation) {
  dsv32::ChatOptions options;
  for (int round = 0; round < kMaxRounds; ++round) {
    Printer printer;
    // The session keeps what it has read: only what is new in the conversation is computed.
    const dsv32::ChatTurn turn =
        dsv32::chat(session, conversation, dsv32::ThinkingMode::thinking, options,
                    [&](const dsv32::ParseEvent& event) { return printer(event); });
    printer.end_line();
    conversation.push_back(turn.message);
    if (turn.message.tool_calls.empty()) return turn.finish_reason == dsv32::FinishReason::stop;
    for (const dsv32::ToolCall& call : turn.message.tool_calls) {
      const std::string result = run_tool(call);
      std::printf("(call) %s(%s)\n(result) %s\n", call.name.c_str(), call.arguments_json.c_str(),
                  result.c_str());
      conversation.push_back({.role = dsv32::Role::tool, .content = result});
    }
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::fprintf(stderr, "usage: %s MODEL_DIR QUESTION\n", argv[0]), 2;
  const dsv32::Model model = dsv32::Model::load(argv[1]);
  dsv32::Session session(model);
  std::vector<dsv32::Message> conversation = {
      {.role = dsv32::Role::system,
       .content = "You are a helpful assistant.",
       .tools_json = {kWeatherTool}},
      {.role = dsv32::Role::user, .content = argv[2]},
  };
  return answer(session, conversation) ? 0 : 1;
} catch (const dsv32::Error& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
