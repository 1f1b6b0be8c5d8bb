// One DSML call: its head, its parameters, its end.
#include <utility>

#include "dsv32/error.h"

#include "lib/base/json.h"
#include "lib/text/dsml_parser.h"

namespace dsv32 {
namespace {

constexpr std::string_view kNamed = "name=\"";
// Of a call without its block: a name that nobody would declare is no reason to wait for its end.
constexpr std::size_t kMaxTrialHead = 512;

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

// A beginning of such a head: more text may complete it.
bool begins_loose_head(std::string_view text) {
  text = skip_space(text);
  if (!text.starts_with(kNamed)) return kNamed.starts_with(text);
  text.remove_prefix(kNamed.size());
  const std::size_t size = text.find('"');
  if (size == text.npos) return true;
  text = skip_space(text.substr(size + 1));
  return size > 0 && text.empty();
}

}  // namespace

std::optional<std::string_view> strict_dsml_name(std::string_view text) {
  text = skip_space(text);
  if (!text.starts_with(kNamed)) return {};
  text.remove_prefix(kNamed.size());
  for (const std::string_view end : {"\">\n\n", "\">\n"}) {
    if (text.ends_with(end)) return text.substr(0, text.size() - end.size());
  }
  return {};
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
  if (on_trial() && !trial_head_fits(match)) return refuse(Fault::name_format);
  if (match.size == 0) return false;
  const std::string_view text = peek_to(match);
  auto name = strict_dsml_name(text);
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

// Up to a tag, or to where one may begin. The first byte that cannot be of a head decides.
bool DsmlParser::trial_head_fits(const Match& match) const {
  const std::string_view text = peek_to(match);
  if (text.size() > kMaxTrialHead) return false;
  const auto name = loose_name(text);
  if (name) return is_declared(*name);
  return match.size == 0 && begins_loose_head(text);
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
    tail_begun_ = tail_exact_ = false;
    tail_size_ = 0;
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

// `>`, white space, a tag; exact is one newline. White space is consumed as it comes.
bool DsmlParser::parameter_tail_step() {
  if (rest_size() == 0) return false;
  if (!tail_begun_) {
    if (!starts_with(">")) return refuse(Fault::parameter_format);
    consume(1);
    tail_begun_ = true;
    return true;
  }
  const std::size_t space = rest_size() - skip_space(rest()).size();
  if (space > 0) {
    tail_exact_ = tail_size_ == 0 && space == 1 && starts_with("\n");
    tail_size_ += space;
    consume(space);
  }
  if (is_too_long({})) return refuse(Fault::too_long);
  if (rest_size() == 0) return false;
  const Match match = find(tags(), !last_);
  if (match.begin > 0) return refuse(Fault::parameter_format);
  if (match.size == 0) return false;
  if (!tail_exact_) repaired(Fault::extra_whitespace);
  return enter_tag(match.id);
}

// `>` and a newline. The first byte that decides, decides: not how much has arrived behind it.
bool DsmlParser::strict_tail_step() {
  const Match match = find(tags(), !last_);
  const std::string_view text = peek_to(match);
  const std::size_t fits = text.starts_with(">\n") ? 2 : text.starts_with('>') ? 1 : 0;
  if (is_too_long({.begin = fits})) return refuse(Fault::too_long);
  if (fits < text.size()) return refuse(Fault::parameter_format);
  if (match.size == 0) return false;
  if (text != ">\n") return refuse(Fault::parameter_format);
  consume(text.size());
  return enter_tag(match.id);
}

bool DsmlParser::invoke_tail_step() {
  if (rest_size() == 0) return false;
  if (!starts_with(">")) return refuse(Fault::call_format);
  append_arguments(keys_.empty() ? "{}" : "}");
  consume(1);
  end_call();
  if (!recovered()) return enter_gap();
  if (!wrapper_tag_.empty()) close_tag_ = wrapper_tag_;
  leave_block();
  return true;
}

// The output ends in the call.
void DsmlParser::finish_call() {
  if (where_ == Where::head && !has_all_calls()) {
    if (const auto name = loose_name(rest(), true)) begin_call(std::string(*name));
  }
  malformed(Fault::incomplete, rest_size());
}

}  // namespace dsv32
