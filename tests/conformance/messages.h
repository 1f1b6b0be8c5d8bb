// Between the vectors' JSON and the library's types.
#ifndef DSV32_TESTS_CONFORMANCE_MESSAGES_H_
#define DSV32_TESTS_CONFORMANCE_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"

namespace dsv32::conformance {

// A request's message, in OpenAI's form. Throws for what no Message can hold.
Message to_message(const Json& json);
std::vector<Message> to_messages(const Json& list);
ThinkingMode to_mode(std::string_view word);

// What a parser made of a text.
struct Parsed {
  Message message{};
  std::vector<ParseEvent::Fault> faults{};
  std::vector<ParseEvent> events{};
  bool refused = false;  // some output fits no rule
  std::string broken{};  // what the events and the message disagree on; empty: nothing
};

// Deterministic pseudo-random numbers (SplitMix64).
struct Random {
  std::uint64_t state = 0;
  std::uint64_t next();
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }
};

// Feeds `text` in pieces that end at `cuts` (ascending).
Parsed parse(ToolCallParser parser, std::string_view text, const std::vector<std::size_t>& cuts,
             FinishReason finish);
std::vector<std::size_t> every_byte(std::string_view text);
std::vector<std::size_t> random_cuts(std::string_view text, Random& random);
bool same(const Parsed& x, const Parsed& y);

// "" or the first difference.
std::string compare_calls(const std::vector<ToolCall>& got, const Json& want);
std::string compare_text(std::string_view what, std::string_view got, std::string_view want);

}  // namespace dsv32::conformance

#endif  // DSV32_TESTS_CONFORMANCE_MESSAGES_H_
