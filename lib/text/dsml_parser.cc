// Where DSML's calls begin, what stands between them, and where they end.
#include "lib/text/dsml_parser.h"

#include <algorithm>

namespace dsv32 {
namespace {

constexpr std::string_view kBlockWord = "function_calls>", kInvokeWord = "invoke";
constexpr std::string_view kTagOpen = "<｜DSML｜", kTagClose = "</｜DSML｜";
constexpr std::size_t kMaxWrapper = 32;  // bytes of a misspelt opener's word

bool is_space(char c) { return kSpace.find(c) != kSpace.npos; }

}  // namespace

std::size_t DsmlParser::openers(bool reasoning, std::span<Marker> out) const {
  static constexpr Marker kStrict("\n\n<｜DSML｜function_calls", opener);
  static constexpr Marker kInReasoning("\n\n<｜DSML｜", reasoning_opener);
  static constexpr std::array<Marker, 4> kLenient{{{"\n\n<｜DSML｜", opener},
                                                   {"\n<｜DSML｜", opener},
                                                   {kTagOpen, opener},
                                                   {markers::kBlockClose, closer}}};
  if (options_.strict || reasoning) {
    out[0] = options_.strict ? kStrict : kInReasoning;
    return 1;
  }
  const std::size_t count = recovered() ? kLenient.size() : kLenient.size() - 1;
  std::copy_n(kLenient.begin(), count, out.begin());
  if (!recovered() || close_tag_.empty()) return count;
  out[count] = {close_tag_, closer};
  return count + 1;
}

// Lenient: the block's own word, or what may be recovered: an invoke, or a misspelt word with one
// behind it.
OutputParser::Opening DsmlParser::opening(const Match& match) const {
  if (options_.strict) return Opening::block;
  if (match.id == closer) return Opening::close;
  const std::string_view behind = rest().substr(match.begin + match.size);
  if (behind.starts_with(kBlockWord)) return block(match.begin + match.size + kBlockWord.size());
  if (kBlockWord.starts_with(behind)) return last_ ? Opening::cut : Opening::undecided;
  const std::size_t tag = offset() + match.begin + match.size - kTagOpen.size();
  if (match.id == reasoning_opener || tag < tried_until()) return Opening::none;
  if (behind.starts_with(kInvokeWord) && behind.size() > kInvokeWord.size() &&
      is_space(behind[kInvokeWord.size()])) {
    return Opening::trial;
  }
  const Opening found = wrapper(behind, match.begin + match.size);
  return found == Opening::undecided && last_ ? Opening::none : found;
}

// Behind the block's own word a line end or a tag makes it one; in a line of prose it is text.
OutputParser::Opening DsmlParser::block(std::size_t at) const {
  constexpr std::size_t kMaxBlanks = 64;
  const std::string_view behind = rest().substr(at);
  const std::size_t blanks = std::min(behind.find_first_not_of(" \t"), behind.size());
  const Opening cut = last_ ? Opening::block : Opening::undecided;
  if (blanks > kMaxBlanks) return Opening::block;
  if (blanks == behind.size()) return cut;
  if (is_space(behind[blanks])) return Opening::block;
  static constexpr std::array<Marker, 3> kEnds{
      {{kTagOpen, stray}, {kTagClose, stray}, {markers::kEos, eos}}};
  for (const Marker& tag : kEnds) {
    if (has_marker(tag, at + blanks)) return Opening::block;
    if (tag.text.size() > behind.size() - blanks && tag.text.starts_with(behind.substr(blanks))) {
      return cut;
    }
  }
  return Opening::none;
}

// A word of at most 32 bytes, a line end, an invoke. `at`: in the rest.
OutputParser::Opening DsmlParser::wrapper(std::string_view behind, std::size_t at) const {
  const std::string_view word =
      behind.substr(0, std::min(behind.find_first_of(kSpace), behind.size()));
  if (word.size() > kMaxWrapper) return Opening::none;
  if (word.size() == behind.size()) return Opening::undecided;
  std::string_view line = behind.substr(word.size());
  if (line.starts_with('\r')) line.remove_prefix(1);
  if (line.empty()) return Opening::undecided;
  if (word.empty() || line[0] != '\n') return Opening::none;
  line.remove_prefix(1);
  static constexpr Marker kTag(markers::kInvokeOpen, invoke);
  if (has_marker(kTag, at + (behind.size() - line.size()))) return Opening::trial;
  return kTag.text.size() > line.size() && kTag.text.starts_with(line) ? Opening::undecided
                                                                       : Opening::none;
}

void DsmlParser::open_block(const Match& match) {
  consume(match.size);
  if (!recovered()) close_tag_.clear();
  wrapper_tag_.clear();
  skip_fault_ = Fault::none;
  if (options_.strict) {
    where_ = Where::open_tail;
    return;
  }
  if (starts_with(kBlockWord)) {
    consume(kBlockWord.size());
    enter_gap();
    return;
  }
  repaired(Fault::block_not_opened);
  const std::string_view word = peek(rest().find_first_of(kSpace));
  if (word == kInvokeWord) return enter_invoke(word.size());
  const bool whole = word.ends_with('>');
  wrapper_tag_ = kTagClose;
  wrapper_tag_ += word.substr(0, word.size() - (whole ? 1 : 0));
  wrapper_tag_ += '>';
  consume(rest().find('\n') + 1);
  enter_invoke(markers::kInvokeOpen.size());
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
      return options_.strict ? strict_tail_step() : parameter_tail_step();
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
    return true;
  }
  consume(match.size);
  cover_markup();
  leave_block();
  return true;
}

// White space, which goes with the next tag; or text, which is content where a call has ended.
bool DsmlParser::gap_step() {
  static constexpr std::array<Marker, 7> kNext{{{"\n<｜DSML｜invoke", invoke_line},
                                                {markers::kInvokeOpen, invoke},
                                                {"\n</｜DSML｜function_calls>", block_close_line},
                                                {markers::kBlockClose, block_close},
                                                {kTagOpen, stray},
                                                {kTagClose, stray},
                                                {markers::kEos, eos}}};
  Match match = find(kNext, true);
  if (gap_ == Gap::blank && is_blank_to(match)) {
    if (match.size == 0) return false;
    if (match.id != stray) return leave_gap(match);
  }
  if (gap_ == Gap::blank) {
    gap_ = block_has_calls() ? Gap::text : Gap::raw;
    if (gap_ == Gap::text) malformed(Fault::call_format, 0);
  }
  if (gap_ == Gap::text) {
    take_text(match.begin, false);
  } else if (match.begin > 0) {
    malformed(Fault::call_format, match.begin);
  }
  match.begin = 0;
  if (match.size == 0) return false;
  if (match.id != stray) return leave_gap(match);
  gap_ = Gap::raw;
  malformed(Fault::call_format, match.size);
  return true;
}

bool DsmlParser::leave_gap(const Match& match) {
  const bool line = match.id == invoke_line || match.id == block_close_line;
  if (match.id == eos) {
    malformed(Fault::incomplete, match.begin);
    consume(match.size);
    cover_markup();
    end();
    return true;
  }
  if (gap_ == Gap::blank && (match.begin > 0 || !line)) repaired(Fault::extra_whitespace);
  if (match.id == invoke || match.id == invoke_line) {
    consume(match.begin + (line ? 1 : 0));
    enter_invoke(markers::kInvokeOpen.size());
    return true;
  }
  close_block(match.begin + match.size);
  return true;
}

// A block in which no call ended is no block.
void DsmlParser::close_block(std::size_t size) {
  if (block_has_calls()) {
    consume(size);
    cover_markup();
  } else {
    malformed(skip_fault_ == Fault::none ? Fault::call_format : skip_fault_, size);
  }
  leave_block();
}

bool DsmlParser::skip_step() {
  static constexpr std::array<Marker, 4> kEnds{{{markers::kInvokeClose, invoke_close},
                                                {markers::kInvokeOpen, invoke},
                                                {markers::kBlockClose, block_close},
                                                {markers::kEos, eos}}};
  const Match match = find(kEnds, !last_);
  const std::size_t raw = match.begin + (match.id == invoke_close ? match.size : 0);
  if (raw > 0) malformed(skip_fault_, raw);
  switch (match.id) {
    case invoke_close:
      return enter_gap();
    case invoke:
      enter_invoke(match.size);
      return true;
    case block_close:
      close_block(match.size);
      return true;
    case eos:
      consume(match.size);
      cover_markup();
      end();
      return true;
    default:
      return false;
  }
}

bool DsmlParser::refuse(Fault fault) {
  if (on_trial()) {
    fail_trial();
    return true;
  }
  malformed(fault, 0);
  consume(0);  // the next markers are others
  skip_fault_ = fault;
  return options_.strict || go(Where::skip);
}

void DsmlParser::finish_block() {
  if (options_.strict) return finish_strict();
  switch (where_) {
    case Where::gap:
      return malformed(Fault::incomplete, rest_size());
    case Where::skip:
      return malformed(skip_fault_, rest_size());
    default:
      return finish_call();
  }
}

// The reference's errors for a text that ends here, or in an end token. Some of these it accepts by
// accident; we do not.
void DsmlParser::finish_strict() {
  const bool cut = !stopped();
  Fault fault = Fault::call_format;
  switch (where_) {
    case Where::head:
      fault = cut && strict_dsml_name(rest()) ? Fault::incomplete : Fault::name_format;
      break;
    case Where::parameter:
    case Where::value:
      fault = Fault::parameter_format;
      break;
    case Where::parameter_tail:
      fault = cut && rest() == ">\n" ? Fault::incomplete : Fault::parameter_format;
      break;
    case Where::gap:
      fault = cut && rest() == "\n" ? Fault::missing_token : Fault::call_format;
      break;
    case Where::invoke_tail:
      fault = cut ? Fault::incomplete : Fault::call_format;
      break;
    case Where::open_tail:
    case Where::skip:
      break;
  }
  malformed(fault, rest_size());
}

std::unique_ptr<OutputParser> make_dsml_parser(bool in_reasoning, ToolCallParserOptions options) {
  return std::make_unique<DsmlParser>(in_reasoning, std::move(options));
}

}  // namespace dsv32
