// parse --mode chat|thinking [--format v32|v31] [--strict] [--finish stop|length] [--seed N]: model
// output on stdin, fed in random pieces; the message as JSON on stdout.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <set>

#include "lib/base/check.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/messages.h"

namespace dsv32::conformance {
namespace {

struct Options {
  std::string mode = "chat", format = "v32", finish = "auto";
  bool strict = false;
  std::uint64_t seed = 0;
};

void require(bool condition, const std::string& message) {
  if (!condition) throw UsageError(message);
}

std::uint64_t seed_of(const std::string& digits) {
  try {
    return parse_u64(digits, "--seed");
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

Options read_options(const Args& args) {
  Options options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--strict") {
      options.strict = true;
      continue;
    }
    require(i + 1 < args.size(), quote(args[i]) + " needs a value");
    const std::string& value = args[i + 1];
    if (args[i] == "--mode") {
      options.mode = value;
    } else if (args[i] == "--format") {
      options.format = value;
    } else if (args[i] == "--finish") {
      options.finish = value;
    } else if (args[i] == "--seed") {
      options.seed = seed_of(value);
    } else {
      require(false, "unknown option " + quote(args[i]));
    }
    ++i;
  }
  const auto one_of = [](const std::string& word, const std::vector<std::string>& words) {
    require(std::find(words.begin(), words.end(), word) != words.end(),
            formatted("{} is none of {}", quote(word), joined(words, ", ")));
  };
  one_of(options.mode, {"chat", "thinking"});
  one_of(options.format, {"v32", "v31"});
  one_of(options.finish, {"auto", "stop", "length"});
  return options;
}

void print(const Parsed& parsed, std::string_view finish_reason) {
  const Message& message = parsed.message;
  std::string calls;
  for (const ToolCall& call : message.tool_calls) {
    calls += formatted("{}{{\"name\": {}, \"arguments\": {}}}", calls.empty() ? "" : ", ",
                       python_json_string(call.name), python_json_string(call.arguments_json));
  }
  std::string faults;
  std::set<ParseEvent::Fault> seen;
  for (const ParseEvent::Fault fault : parsed.faults) {
    if (!seen.insert(fault).second) continue;
    faults += formatted("{}\"{}\"", faults.empty() ? "" : ", ", to_string(fault));
  }
  const std::string text = formatted(
      "{{\"role\": \"assistant\", \"content\": {}, \"reasoning_content\": {}, "
      "\"tool_calls\": [{}], \"faults\": [{}], \"finish_reason\": \"{}\"}}\n",
      python_json_string(message.content), python_json_string(message.reasoning), calls, faults,
      finish_reason);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace

int run_parse(const Args& args) {
  const Options options = read_options(args);
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const ToolCallParser parser(options.format == "v31" ? ChatFormat::v31 : ChatFormat::v32,
                              to_mode(options.mode) == ThinkingMode::thinking,
                              {.strict = options.strict});
  // The text says itself whether the model had finished, unless the caller knows better.
  const bool stopped = options.finish == "auto"
                           ? text.find("<｜end▁of▁sentence｜>") != std::string::npos
                           : options.finish == "stop";
  const FinishReason finish =
      stopped && options.finish != "auto" ? FinishReason::stop : FinishReason::length;
  Random random{options.seed};
  const Parsed parsed = parse(parser, text, random_cuts(text, random), finish);
  const bool calls = stopped && !parsed.message.tool_calls.empty();
  print(parsed, calls ? "tool_calls" : stopped ? "stop" : "length");
  DSV32_CHECK(parsed.broken.empty(), internal, "{}", parsed.broken);
  return options.strict && parsed.refused ? 1 : 0;
}

}  // namespace dsv32::conformance
