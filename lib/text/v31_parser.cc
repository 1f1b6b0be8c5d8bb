// The tool calls of V3.1 and V3.2-Exp: a token before each part, arguments as raw JSON.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "dsv32/error.h"

#include "lib/base/json.h"
#include "lib/text/output_parser.h"

namespace dsv32 {
namespace {

bool is_json_object(std::string_view text) {
  try {
    bool first = true, object = false;
    scan_json(text, "arguments", [&](const JsonEvent& event) {
      if (std::exchange(first, false)) object = event.kind == JsonEvent::Kind::begin_object;
    });
    return object;
  } catch (const Error&) {
    return false;
  }
}

class V31Parser final : public OutputParser {
 public:
  using OutputParser::OutputParser;
  V31Parser(const V31Parser&) = default;

  std::unique_ptr<OutputParser> clone() const override {
    return std::make_unique<V31Parser>(*this);
  }
  bool in_tool_call() const override { return in_block() && where_ != Where::gap; }

 protected:
  std::span<const Marker> reasoning_openers() const override { return kOpeners; }
  std::span<const Marker> content_openers() const override { return kOpeners; }
  void open_block(const Match& opener) override {
    consume(opener.size);
    where_ = Where::gap;
  }
  bool block_step() override;
  void finish_block() override;

 private:
  enum class Where : std::uint8_t { gap, name, arguments, skip };
  enum : std::uint8_t { calls_begin = first_own, calls_end, call_begin, call_end, separator };
  static constexpr std::array<Marker, 1> kOpeners{{{markers::kCallsBegin, calls_begin}}};
  static constexpr std::array<Marker, 5> kMarkers{{{markers::kCallBegin, call_begin},
                                                   {markers::kCallEnd, call_end},
                                                   {markers::kSeparator, separator},
                                                   {markers::kCallsEnd, calls_end},
                                                   {markers::kEos, eos}}};

  bool gap_step();
  bool name_step();
  bool arguments_step();
  bool skip_step();
  bool refuse(Fault fault);

  Where where_ = Where::gap;
  bool in_space_ = false;  // of which the first part was reported
  std::string arguments_{};
  Fault skip_fault_ = Fault::none;
};

bool V31Parser::block_step() {
  switch (where_) {
    case Where::gap:
      return gap_step();
    case Where::name:
      return name_step();
    case Where::arguments:
      return arguments_step();
    case Where::skip:
      return skip_step();
  }
  return false;
}

bool V31Parser::gap_step() {
  const Match match = find(kMarkers, !last_);
  const std::string_view text = peek_to(match);
  if (!text.empty()) {
    if (options_.strict) return refuse(Fault::call_format);
    const bool blank = kSpace.find(text[0]) != kSpace.npos;
    const std::size_t size =
        std::min(text.size(), blank ? text.find_first_not_of(kSpace) : text.find_first_of(kSpace));
    if (blank) {
      if (!in_space_) repaired(Fault::extra_whitespace);
      consume(size);
    } else {
      malformed(Fault::call_format, size);
    }
    in_space_ = blank;
    return true;
  }
  if (match.size > 0) in_space_ = false;
  switch (match.id) {
    case end_of_text:
      return false;
    case call_begin:
      mark_call_begin();
      consume(match.size);
      where_ = Where::name;
      return true;
    case calls_end:
      consume(match.size);
      leave_block();
      return true;
    case eos:
      malformed(Fault::missing_token, 0);
      consume(options_.strict ? 0 : match.size);
      if (!options_.strict) end();
      return true;
    default:
      malformed(Fault::call_format, match.size);
      return true;
  }
}

bool V31Parser::name_step() {
  const Match match = find(kMarkers, !last_);
  if (is_too_long(match)) return refuse(Fault::too_long);
  if (match.size == 0) return false;
  const std::string_view name = peek_to(match);
  if (match.id != separator || name.empty()) return refuse(Fault::name_format);
  if (has_all_calls()) return refuse(Fault::too_long);
  begin_call(std::string(name));
  consume(name.size() + match.size);
  arguments_.clear();
  where_ = Where::arguments;
  return true;
}

// The JSON streams as it comes; if it turns out to be none, call_abort takes it back.
bool V31Parser::arguments_step() {
  const Match match = find(kMarkers, true);
  const bool too_long = is_too_long(match);
  const std::string_view text = too_long ? peek_to_limit() : peek_to(match);
  arguments_ += text;
  append_arguments(text);
  consume(text.size());
  if (too_long) return refuse(Fault::too_long);
  if (match.size == 0) return false;
  if (match.id != call_end) return refuse(Fault::call_format);
  if (!options_.strict && !is_json_object(arguments_)) return refuse(Fault::parameter_format);
  consume(match.size);
  end_call();
  where_ = Where::gap;
  return true;
}

bool V31Parser::skip_step() {
  const Match match = find(kMarkers, !last_);
  const std::size_t raw = peek_to(match).size();
  if (raw > 0) malformed(skip_fault_, raw);
  if (match.size == 0) return false;
  if (match.id == separator) {
    malformed(skip_fault_, match.size);
    return true;
  }
  if (match.id == call_end) malformed(skip_fault_, match.size);
  where_ = Where::gap;  // which knows the other markers
  return true;
}

bool V31Parser::refuse(Fault fault) {
  malformed(fault, 0);
  if (options_.strict) return true;
  if (call_is_open()) abort_call(fault);
  skip_fault_ = fault;
  where_ = Where::skip;
  return true;
}

void V31Parser::finish_block() {
  if (options_.strict) {
    return malformed(where_ == Where::gap ? Fault::missing_token : Fault::incomplete, rest_size());
  }
  if (call_is_open()) {
    abort_call(Fault::incomplete);
    consume(rest_size());
  } else {
    malformed(where_ == Where::skip ? skip_fault_ : Fault::incomplete, rest_size());
  }
}

}  // namespace

std::unique_ptr<OutputParser> make_v31_parser(bool in_reasoning, ToolCallParserOptions options) {
  return std::make_unique<V31Parser>(in_reasoning, std::move(options));
}

}  // namespace dsv32
