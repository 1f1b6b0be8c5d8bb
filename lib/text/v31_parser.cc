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

 protected:
  std::size_t openers(bool /*reasoning*/, std::span<Marker> out) const override {
    static constexpr Marker kOpener(markers::kCallsBegin, calls_begin);
    out[0] = kOpener;
    return 1;
  }
  Opening opening(const Match& /*opener*/) const override { return Opening::block; }
  void open_block(const Match& opener) override {
    consume(opener.size);
    skip_fault_ = Fault::none;
    enter_gap();
  }
  bool block_step() override;
  void finish_block() override;
  bool in_block_gap() const override { return where_ == Where::gap; }

 private:
  enum class Where : std::uint8_t { gap, name, arguments, skip };
  enum : std::uint8_t { calls_begin = first_own, calls_end, call_begin, call_end, separator };
  static constexpr std::array<Marker, 5> kMarkers{{{markers::kCallBegin, call_begin},
                                                   {markers::kCallEnd, call_end},
                                                   {markers::kSeparator, separator},
                                                   {markers::kCallsEnd, calls_end},
                                                   {markers::kEos, eos}}};

  bool gap_step();
  bool leave_gap(const Match& match);
  bool name_step();
  bool arguments_step();
  bool skip_step();
  bool refuse(Fault fault);
  bool enter_gap() {
    gap_blank_ = true;
    begin_gap();
    where_ = Where::gap;
    return true;
  }

  Where where_ = Where::gap;
  bool gap_blank_ = true;        // so far
  bool arguments_blank_ = true;  // so far, and not handed out
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

// White space, which goes with the next marker; or text, which is content where a call has ended.
bool V31Parser::gap_step() {
  Match match = find(kMarkers, !options_.strict || !last_);
  if (options_.strict && match.begin > 0) return refuse(Fault::call_format);
  if (gap_blank_ && is_blank_to(match)) {
    if (match.size == 0) return false;
    if (match.begin > 0) repaired(Fault::extra_whitespace);
    return leave_gap(match);
  }
  if (gap_blank_ && block_has_calls()) malformed(Fault::call_format, 0);
  gap_blank_ = false;
  if (block_has_calls()) {
    take_text(match.begin, false);
  } else if (match.begin > 0) {
    malformed(Fault::call_format, match.begin);
  }
  match.begin = 0;
  return match.size > 0 && leave_gap(match);
}

bool V31Parser::leave_gap(const Match& match) {
  const std::size_t size = match.begin + match.size;
  switch (match.id) {
    case call_begin:
      consume(match.begin);
      mark_call_begin();
      consume(match.size);
      where_ = Where::name;
      return true;
    case calls_end:
      if (block_has_calls() || options_.strict) {  // a block without calls is one to the reference
        consume(size);
        cover_markup();
      } else {
        malformed(skip_fault_ == Fault::none ? Fault::call_format : skip_fault_, size);
      }
      leave_block();
      return true;
    case eos:
      malformed(Fault::missing_token, match.begin);
      if (options_.strict) return true;
      consume(match.size);
      cover_markup();
      end();
      return true;
    default:
      malformed(Fault::call_format, size);
      return options_.strict || enter_gap();
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
  arguments_blank_ = !options_.strict;
  where_ = Where::arguments;
  return true;
}

// The JSON streams as it comes; if it turns out to be none, call_abort takes it back. White space
// alone is a call without arguments.
bool V31Parser::arguments_step() {
  const Match match = find(kMarkers, true);
  const bool too_long = is_too_long(match);
  const std::string_view text = too_long ? peek_to_limit() : peek_to(match);
  arguments_ += text;
  if (!arguments_blank_) {
    append_arguments(text);
  } else if (text.find_first_not_of(kSpace) != text.npos) {
    arguments_blank_ = false;
    append_arguments(arguments_);
  }
  consume(text.size());
  if (too_long) return refuse(Fault::too_long);
  if (match.size == 0) return false;
  if (match.id != call_end) return refuse(Fault::call_format);
  if (arguments_blank_) {
    append_arguments("{}");
  } else if (!options_.strict && !is_json_object(arguments_)) {
    return refuse(Fault::parameter_format);
  }
  consume(match.size);
  end_call();
  return enter_gap();
}

bool V31Parser::skip_step() {
  const Match match = find(kMarkers, !last_);
  const bool own = match.id == separator || match.id == call_end;
  const std::size_t raw = match.begin + (own ? match.size : 0);
  if (raw > 0) malformed(skip_fault_, raw);
  if (match.size == 0) return false;
  return match.id == separator || enter_gap();  // which knows the other markers
}

bool V31Parser::refuse(Fault fault) {
  malformed(fault, 0);
  consume(0);  // the next markers are others
  skip_fault_ = fault;
  where_ = Where::skip;
  return true;
}

void V31Parser::finish_block() {
  Fault fault = Fault::incomplete;
  if (options_.strict) {
    const bool cut = !stopped();
    if (where_ == Where::gap) fault = Fault::missing_token;
    if (where_ == Where::name && !cut) fault = Fault::name_format;
    if (where_ == Where::arguments && !cut) fault = Fault::call_format;
  } else if (where_ == Where::skip) {
    fault = skip_fault_;
  }
  malformed(fault, rest_size());
}

}  // namespace

std::unique_ptr<OutputParser> make_v31_parser(bool in_reasoning, ToolCallParserOptions options) {
  return std::make_unique<V31Parser>(in_reasoning, std::move(options));
}

}  // namespace dsv32
