// stream FILE...: what models really write, fed at every byte and in random pieces, with repairs.
#include <algorithm>
#include <set>

#include "lib/base/check.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/messages.h"

namespace dsv32::conformance {
namespace {

using Kind = ParseEvent::Kind;
constexpr int kRandomSplits = 200;

std::string finish_reason(const Parsed& parsed, FinishReason finish) {
  if (finish == FinishReason::length) return "length";
  return parsed.message.tool_calls.empty() ? "stop" : "tool_calls";
}

std::set<std::string> warnings_of(const Parsed& parsed) {
  std::set<std::string> names;
  for (const ParseEvent& event : parsed.events) {
    if (event.kind == Kind::repaired) names.emplace(to_string(event.fault));
  }
  return names;
}

// The name of the call that was cut, or none.
std::string incomplete_call(const Parsed& parsed) {
  std::string name;
  for (const ParseEvent& event : parsed.events) {
    if (event.kind == Kind::call_begin) name = event.text;
    if (event.kind == Kind::call_abort && event.fault == ParseEvent::Fault::incomplete) return name;
  }
  return {};
}

bool has_error(const Parsed& parsed) {
  return std::ranges::any_of(parsed.events, [](const ParseEvent& event) {
    return event.kind == Kind::malformed && event.fault != ParseEvent::Fault::incomplete;
  });
}

std::string check_flags(const Parsed& got, const Json& want) {
  std::set<std::string> warnings;
  if (const Json* list = want.find("warnings")) {
    for (const Json& item : list->items) warnings.insert(item.text);
  }
  if (warnings_of(got) != warnings) {
    return formatted("warnings [{}]", joined(warnings_of(got), ", "));
  }
  if (has_error(got) != (want.find("error") != nullptr)) return "error flag differs";
  const Json* cut = want.find("incomplete_call");
  const std::string name = cut == nullptr ? "" : member(*cut, "name").text;
  if (incomplete_call(got) != name) return "incomplete call differs";
  return {};
}

std::string check_case(const Json& row) {
  const std::string& text = member(row, "text").text;
  const Json& want = member(row, "want");
  const bool cut = member(row, "finish").text == "length";
  const FinishReason finish = cut ? FinishReason::length : FinishReason::stop;
  const Json* format = row.find("format");
  const ToolCallParser parser(
      format != nullptr && format->text == "v31" ? ChatFormat::v31 : ChatFormat::v32,
      to_mode(member(row, "mode").text) == ThinkingMode::thinking);
  const Parsed got = parse(parser, text, {}, finish);
  const Parsed bytes = parse(parser, text, every_byte(text), finish);
  if (!same(got, bytes)) return "depends on the split";
  Random random{text.size()};
  for (int i = 0; i < kRandomSplits; ++i) {
    if (!same(got, parse(parser, text, random_cuts(text, random), finish))) {
      return "depends on the split";
    }
  }
  if (!got.broken.empty()) return got.broken;
  std::string fault = compare_text("content", got.message.content, member(want, "content").text);
  if (fault.empty()) {
    fault = compare_text("reasoning", got.message.reasoning, member(want, "reasoning").text);
  }
  if (fault.empty()) fault = compare_calls(got.message.tool_calls, member(want, "tool_calls"));
  if (fault.empty()) {
    fault = compare_text("finish_reason", finish_reason(got, finish),
                         member(want, "finish_reason").text);
  }
  if (fault.empty()) fault = check_flags(got, want);
  if (const Json* least = want.find("min_argument_deltas"); least != nullptr && fault.empty()) {
    const auto deltas = std::ranges::count(bytes.events, Kind::call_arguments, &ParseEvent::kind);
    if (deltas < parse_i64(least->text, "min_argument_deltas")) fault = "arguments do not stream";
  }
  return fault;
}

}  // namespace

int run_stream(const Args& args) {
  if (args.empty()) throw UsageError("usage: stream FILE...");
  Report report;
  for (const std::string& path : args) {
    for_each_row(path, report, [&](const Json& row) {
      const std::string& name = member(row, "name").text;
      const std::string fault = check_case(row);
      report.result(name, fault.empty(), fault);
    });
  }
  return report.finish();
}

}  // namespace dsv32::conformance
