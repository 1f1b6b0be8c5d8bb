// V3.2's tool calls: a block of invokes with parameters in DSML markup. Strict is the grammar of
// encoding_dsv32.py; lenient is what models are known to write instead.
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "dsv32/error.h"

#include "lib/base/json.h"
#include "lib/text/output_parser.h"

namespace dsv32 {
namespace {

constexpr std::string_view kNamed = "name=\"";

std::string_view skip_space(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  return text.substr(begin == text.npos ? text.size() : begin);
}

bool is_json(std::string_view text) {
  try {
    scan_json(text, "value", [](const JsonEvent&) {});
    return true;
  } catch (const Error&) {
    return false;
  }
}

// NAME of ` name="NAME">` and a newline or two, as the reference's expression finds it.
std::optional<std::string_view> strict_name(std::string_view text) {
  text = skip_space(text);
  if (!text.starts_with(kNamed)) return {};
  text.remove_prefix(kNamed.size());
  for (const std::string_view end : {"\">\n\n", "\">\n"}) {
    if (text.ends_with(end)) return text.substr(0, text.size() - end.size());
  }
  return {};
}

// The same with any white space behind it, or (cut) anything.
std::optional<std::string_view> loose_name(std::string_view text, bool cut = false) {
  text = skip_space(text);
  if (!text.starts_with(kNamed)) return {};
  text.remove_prefix(kNamed.size());
  const std::size_t size = text.find('"');
  if (size == 0 || size == text.npos) return {};
  const std::string_view tail = skip_space(text.substr(size + 1));
  if (!tail.starts_with('>')) return {};
  if (!cut && !skip_space(tail.substr(1)).empty()) return {};
  return text.substr(0, size);
}

class DsmlParser final : public OutputParser {
 public:
  using OutputParser::OutputParser;
  DsmlParser(const DsmlParser&) = default;

  std::unique_ptr<OutputParser> clone() const override {
    return std::make_unique<DsmlParser>(*this);
  }
  bool in_tool_call() const override { return in_block() && where_ != Where::gap; }

 protected:
  std::span<const Marker> reasoning_openers() const override {
    return std::span(kOpeners).first(1);
  }
  std::span<const Marker> content_openers() const override {
    return options_.strict ? std::span(kOpeners).first(1) : std::span(kOpeners).subspan(1);
  }
  void open_block(const Match& opener) override;
  bool block_step() override;
  void finish_block() override;

 private:
  enum class Where : std::uint8_t {
    open_tail,       // behind the opener's word: `>`
    gap,             // between invokes
    head,            // behind `<｜DSML｜invoke`
    parameter,       // behind `<｜DSML｜parameter`
    value,           // behind its `>`
    parameter_tail,  // behind `</｜DSML｜parameter`
    invoke_tail,     // behind `</｜DSML｜invoke`
    skip,            // in a call that was refused
  };
  enum : std::uint8_t {
    block_word = first_own,
    block,
    bare_invoke,
    invoke,
    invoke_close,
    block_close,
    parameter,
    parameter_close,
    string_value,
    json_value,
    stray,
  };
  // First the reference's opener, which is a word; ours have the `>`, and not always two newlines.
  static constexpr std::array<Marker, 7> kOpeners{{{"\n\n<｜DSML｜function_calls", block_word},
                                                   {"\n\n<｜DSML｜function_calls>", block},
                                                   {"\n<｜DSML｜function_calls>", block},
                                                   {"<｜DSML｜function_calls>", block},
                                                   {"\n\n<｜DSML｜invoke name=", bare_invoke},
                                                   {"\n<｜DSML｜invoke name=", bare_invoke},
                                                   {"<｜DSML｜invoke name=", bare_invoke}}};
  // What may stand behind a head or a parameter; strict: the first two.
  static constexpr std::array<Marker, 4> kTags{{{"<｜DSML｜parameter", parameter},
                                                {"</｜DSML｜invoke", invoke_close},
                                                {"<｜DSML｜invoke", invoke},
                                                {"</｜DSML｜function_calls>", block_close}}};
  std::span<const Marker> tags() const {
    return std::span(kTags).first(options_.strict ? 2 : kTags.size());
  }

  bool open_tail_step();
  bool gap_step();
  bool strict_gap_step();
  bool head_step();
  bool parameter_step();
  bool value_step();
  bool parameter_tail_step();
  bool invoke_tail_step();
  bool skip_step();
  void finish_strict();

  bool go(Where where) {
    where_ = where;
    return true;
  }
  bool enter_gap() {
    gap_size_ = 0;
    return go(Where::gap);
  }
  void enter_invoke(std::size_t tag_size);
  bool enter_tag(int id);  // behind a head or a parameter
  std::optional<std::string_view> parameter_key(std::string_view text) const;
  bool open_parameter(std::string_view key, bool is_string);
  void take_value(std::string_view text);
  std::size_t fitting_tail(std::string_view text) const;
  void close_parameter();
  bool refuse(Fault fault);  // this call; what is left of it is raw text

  Where where_ = Where::gap;
  bool implicit_ = false;     // an invoke without its block
  std::size_t gap_size_ = 0;  // white space since the last tag
  bool gap_exact_ = false;    // it is one newline
  bool is_string_ = false;
  std::string value_{};  // of a parameter that is no string
  std::set<std::string, std::less<>> keys_{};
  Fault skip_fault_ = Fault::none;
};

void DsmlParser::open_block(const Match& opener) {
  implicit_ = opener.id == bare_invoke;
  if (!implicit_) {
    consume(opener.size);
    gap_size_ = 0;
    where_ = opener.id == block ? Where::gap : Where::open_tail;
    return;
  }
  repaired(Fault::block_not_opened);
  enter_invoke(opener.size - std::string_view(" name=").size());
}

bool DsmlParser::block_step() {
  switch (where_) {
    case Where::open_tail:
      return open_tail_step();
    case Where::gap:
      return options_.strict ? strict_gap_step() : gap_step();
    case Where::head:
      return head_step();
    case Where::parameter:
      return parameter_step();
    case Where::value:
      return value_step();
    case Where::parameter_tail:
      return parameter_tail_step();
    case Where::invoke_tail:
      return invoke_tail_step();
    case Where::skip:
      return skip_step();
  }
  return false;
}

bool DsmlParser::open_tail_step() {
  if (rest_size() == 0) return false;
  if (!starts_with(">")) return refuse(Fault::call_format);
  consume(1);
  return enter_gap();
}

bool DsmlParser::strict_gap_step() {
  const Match match = find(std::span(kTags).subspan(2), !last_);
  const std::string_view text = peek_to(match);
  if (match.size == 0 && (text.empty() || text == "\n")) return false;
  if (match.size == 0 || text != "\n") return refuse(Fault::call_format);
  consume(1);
  if (match.id == invoke) {
    enter_invoke(match.size);
  } else {
    consume(match.size);
    leave_block();
  }
  return true;
}

bool DsmlParser::gap_step() {
  static constexpr std::array<Marker, 3> kNext{
      {{"<｜DSML｜invoke", invoke}, {markers::kBlockClose, block_close}, {markers::kEos, eos}}};
  const Match match = find(kNext, !last_);
  const std::string_view text = peek_to(match);
  const std::size_t space = text.size() - skip_space(text).size();
  if (space > 0) {
    gap_exact_ = gap_size_ == 0 && space == 1 && text[0] == '\n';
    gap_size_ += space;
    consume(space);
    return true;
  }
  if (!text.empty()) {
    // Up to white space only: whether that is reported must not depend on the split.
    malformed(Fault::call_format, std::min(text.size(), text.find_first_of(kSpace)));
    return true;
  }
  if (match.size == 0) return false;
  if (match.id == eos) {
    if (!implicit_) malformed(Fault::incomplete, 0);
    consume(match.size);
    end();
    return true;
  }
  if (gap_size_ != 1 || !gap_exact_) repaired(Fault::extra_whitespace);
  if (match.id == invoke) {
    enter_invoke(match.size);
  } else {
    consume(match.size);
    leave_block();
  }
  return true;
}

void DsmlParser::enter_invoke(std::size_t tag_size) {
  mark_call_begin();
  consume(tag_size);
  keys_.clear();
  go(Where::head);
}

bool DsmlParser::head_step() {
  const Match match = find(tags(), !last_);
  if (is_too_long(match)) return refuse(Fault::too_long);
  if (match.size == 0) return false;
  const std::string_view text = peek_to(match);
  auto name = strict_name(text);
  if (!options_.strict && (!name || name->empty())) {
    name = loose_name(text);
    if (name) repaired(Fault::extra_whitespace);
  }
  if (!name) return refuse(Fault::name_format);
  if (has_all_calls()) return refuse(Fault::too_long);
  begin_call(std::string(*name));
  consume(text.size());
  return enter_tag(match.id);
}

bool DsmlParser::enter_tag(int id) {
  if (id == parameter) {
    consume(markers::kParameterOpen.size());
    return go(Where::parameter);
  }
  if (id == invoke_close) {
    consume(markers::kInvokeClose.size() - 1);
    return go(Where::invoke_tail);
  }
  return refuse(Fault::call_format);  // the next call begins, or the block ends, in this one
}

bool DsmlParser::parameter_step() {
  static constexpr std::array<Marker, 5> kEnds{{{"\" string=\"true\">", string_value},
                                                {"\" string=\"false\">", json_value},
                                                {"/｜DSML｜parameter", stray},
                                                {"<｜DSML｜", stray},
                                                {"</｜DSML｜", stray}}};
  const Match match = find(std::span(kEnds).first(options_.strict ? 3 : kEnds.size()), !last_);
  if (is_too_long(match)) return refuse(Fault::too_long);
  if (match.size == 0) return false;
  const std::string_view text = peek_to(match);
  const auto key = parameter_key(text);
  if (match.id == stray || !key) return refuse(Fault::parameter_format);
  if (keys_.contains(*key)) return refuse(Fault::duplicate_parameter);
  if (static_cast<std::int64_t>(keys_.size()) >= options_.max_parameters) {
    return refuse(Fault::too_long);
  }
  if (text.size() != key->size() + kNamed.size() + 1) repaired(Fault::extra_whitespace);
  is_string_ = match.id == string_value;
  append_arguments((keys_.empty() ? "{" : ", ") + python_json_string(*key) +
                   (is_string_ ? ": \"" : ": "));
  keys_.emplace(*key);
  value_.clear();
  consume(text.size() + match.size);
  return go(Where::value);
}

// KEY of ` name="KEY`; lenient: with any white space before it.
std::optional<std::string_view> DsmlParser::parameter_key(std::string_view text) const {
  const std::string_view named = skip_space(text);
  if (!named.starts_with(kNamed)) return {};
  const std::size_t space = text.size() - named.size();
  if (space == 0 || (options_.strict && !text.starts_with(" name"))) return {};
  return named.substr(kNamed.size());
}

bool DsmlParser::value_step() {
  static constexpr std::array<Marker, 2> kStrict{
      {{"</｜DSML｜parameter", parameter_close}, {"/｜DSML｜parameter", stray}}};
  static constexpr std::array<Marker, 5> kLenient{{{"</｜DSML｜parameter", parameter_close},
                                                   {"\n<｜DSML｜parameter name=", parameter},
                                                   {"<｜DSML｜parameter name=", parameter},
                                                   {"\n</｜DSML｜invoke>", invoke_close},
                                                   {"</｜DSML｜invoke>", invoke_close}}};
  const Match match = options_.strict ? find(kStrict, true) : find(kLenient, true);
  if (is_too_long(match)) {
    take_value(peek_to_limit());
    return refuse(Fault::too_long);
  }
  take_value(peek_to(match));
  if (match.size == 0) return false;
  if (match.id == stray) return refuse(Fault::parameter_format);
  if (match.id == parameter_close) {
    close_parameter();
    consume(match.size);
    return go(Where::parameter_tail);
  }
  repaired(Fault::parameter_not_closed);
  close_parameter();
  if (starts_with("\n")) consume(1);
  return enter_tag(match.id);
}

void DsmlParser::take_value(std::string_view text) {
  if (is_string_) {
    append_arguments(json_escaped(text));
  } else {
    value_ += text;
  }
  consume(text.size());
}

void DsmlParser::close_parameter() {
  if (is_string_) return append_arguments("\"");
  if (options_.strict || is_json(value_)) return append_arguments(value_);
  repaired(Fault::invalid_json_value);
  append_arguments(python_json_string(value_));
}

bool DsmlParser::parameter_tail_step() {
  const Match match = find(tags(), !last_);
  const std::string_view text = peek_to(match);
  const std::size_t fits = fitting_tail(text);
  // The first byte that decides, decides: not how much has arrived behind it.
  if (is_too_long({.begin = fits})) return refuse(Fault::too_long);
  if (fits < text.size()) return refuse(Fault::parameter_format);
  if (match.size == 0) return false;
  const bool exact = text == ">\n";
  if (!exact && (options_.strict || text.empty())) return refuse(Fault::parameter_format);
  if (!exact) repaired(Fault::extra_whitespace);
  consume(text.size());
  return enter_tag(match.id);
}

// Bytes of `text` that may stand behind a parameter: `>` and a newline, or (lenient) any space.
std::size_t DsmlParser::fitting_tail(std::string_view text) const {
  if (!text.starts_with('>')) return 0;
  if (options_.strict) return text.starts_with(">\n") ? 2 : 1;
  return text.size() - skip_space(text.substr(1)).size();
}

bool DsmlParser::invoke_tail_step() {
  if (rest_size() == 0) return false;
  if (!starts_with(">")) return refuse(Fault::call_format);
  append_arguments(keys_.empty() ? "{}" : "}");
  consume(1);
  end_call();
  return enter_gap();
}

bool DsmlParser::skip_step() {
  static constexpr std::array<Marker, 4> kEnds{{{markers::kInvokeClose, invoke_close},
                                                {"<｜DSML｜invoke", invoke},
                                                {markers::kBlockClose, block_close},
                                                {markers::kEos, eos}}};
  const Match match = find(kEnds, !last_);
  const std::size_t raw = peek_to(match).size() + (match.id == invoke_close ? match.size : 0);
  if (raw > 0) malformed(skip_fault_, raw);
  switch (match.id) {
    case invoke_close:
      return enter_gap();
    case invoke:
      enter_invoke(match.size);
      return true;
    case block_close:
      consume(match.size);
      leave_block();
      return true;
    case eos:
      consume(match.size);
      end();
      return true;
    default:
      return false;
  }
}

bool DsmlParser::refuse(Fault fault) {
  malformed(fault, 0);
  if (options_.strict) return true;
  if (call_is_open()) abort_call(fault);
  skip_fault_ = fault;
  return go(Where::skip);
}

void DsmlParser::finish_block() {
  if (options_.strict) return finish_strict();
  if (where_ == Where::gap) {
    if (!implicit_ || rest_size() > 0) malformed(Fault::incomplete, rest_size());
    return;
  }
  if (where_ == Where::head) {
    if (const auto name = loose_name(rest(), true)) begin_call(std::string(*name));
  }
  if (call_is_open()) {
    abort_call(Fault::incomplete);
    consume(rest_size());
  } else {
    malformed(where_ == Where::skip ? skip_fault_ : Fault::incomplete, rest_size());
  }
}

// The reference's errors for a text that ends here. Some of these it accepts by accident; we do
// not.
void DsmlParser::finish_strict() {
  Fault fault = Fault::call_format;
  switch (where_) {
    case Where::head:
      fault = strict_name(rest()) ? Fault::incomplete : Fault::name_format;
      break;
    case Where::parameter:
    case Where::value:
      fault = Fault::parameter_format;
      break;
    case Where::parameter_tail:
      fault = rest() == ">\n" ? Fault::incomplete : Fault::parameter_format;
      break;
    case Where::gap:
      fault = rest() == "\n" ? Fault::missing_token : Fault::call_format;
      break;
    case Where::invoke_tail:
      fault = Fault::incomplete;
      break;
    case Where::open_tail:
    case Where::skip:
      break;
  }
  malformed(fault, rest_size());
}

}  // namespace

std::unique_ptr<OutputParser> make_dsml_parser(bool in_reasoning, ToolCallParserOptions options) {
  return std::make_unique<DsmlParser>(in_reasoning, std::move(options));
}

}  // namespace dsv32
