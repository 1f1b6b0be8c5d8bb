// Model output in any pieces: the same message as in one, and arguments that are JSON.
#include <string>

#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace dsv32;

bool same(const Message& x, const Message& y) {
  if (x.content != y.content || x.reasoning != y.reasoning) return false;
  if (x.tool_calls.size() != y.tool_calls.size()) return false;
  for (std::size_t i = 0; i < x.tool_calls.size(); ++i) {
    if (x.tool_calls[i].name != y.tool_calls[i].name) return false;
    if (x.tool_calls[i].arguments_json != y.tool_calls[i].arguments_json) return false;
  }
  return true;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const bool strict = (data[0] & 4) != 0;
  const ToolCallParser parser((data[0] & 1) != 0 ? ChatFormat::v31 : ChatFormat::v32,
                              (data[0] & 2) != 0,
                              {.strict = strict, .max_call_bytes = 200, .max_calls = 3});
  const FinishReason finish = (data[0] & 8) != 0 ? FinishReason::stop : FinishReason::length;
  const std::size_t piece = 1 + data[1] % 16;
  const std::string_view text = fuzz::text_of(data + 2, size - 2);
  return fuzz::run([&] {
    ToolCallParser whole = parser, pieces = parser;
    whole.feed(text);
    whole.finish(finish);
    for (std::size_t at = 0; at < text.size(); at += piece) pieces.feed(text.substr(at, piece));
    pieces.finish(finish);
    fuzz::require(same(whole.message(), pieces.message()));
    fuzz::require(whole.faults().size() == pieces.faults().size());
    for (std::size_t i = 0; i < whole.faults().size(); ++i) {
      fuzz::require(whole.faults()[i] == pieces.faults()[i]);
    }
    for (const ToolCall& call : whole.message().tool_calls) {
      if (!strict) fuzz::require(parse_json(call.arguments_json, "arguments").is_object());
    }
  });
}
