// The handle around the format's parser.
#include "dsv32/tool_call_parser.h"

#include <utility>

#include "lib/base/check_enum.h"
#include "lib/base/held.h"
#include "lib/text/output_parser.h"

namespace dsv32 {

class ToolCallParser::Impl {
 public:
  static constexpr std::string_view kOwner = "ToolCallParser";

  Impl(ChatFormat format, bool in_reasoning, ToolCallParserOptions options)
      : parser_(make_parser(format, in_reasoning, std::move(options))) {}
  Impl(const Impl& other) : parser_(other.parser_->clone()) {}
  Impl& operator=(const Impl&) = delete;
  ~Impl() = default;

  OutputParser& parser() { return *parser_; }

 private:
  static std::unique_ptr<OutputParser> make_parser(ChatFormat format, bool in_reasoning,
                                                   ToolCallParserOptions options) {
    if (format == ChatFormat::v31) return make_v31_parser(in_reasoning, std::move(options));
    // Speciale has no tools, and no way to render a call.
    if (format == ChatFormat::v32_speciale) options.calls = false;
    return make_dsml_parser(in_reasoning, std::move(options));
  }

  std::unique_ptr<OutputParser> parser_;
};

ToolCallParser::ToolCallParser(ChatFormat format, bool in_reasoning, ToolCallParserOptions options)
    : impl_((check_enum("chat format", format, ChatFormat::v31),
             std::make_unique<Impl>(format, in_reasoning, std::move(options)))) {}
ToolCallParser::ToolCallParser(const ToolCallParser& other) : impl_(copy_held(other.impl_)) {}
ToolCallParser::ToolCallParser(ToolCallParser&&) noexcept = default;
ToolCallParser& ToolCallParser::operator=(ToolCallParser other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
ToolCallParser::~ToolCallParser() = default;

std::vector<ParseEvent> ToolCallParser::feed(std::string_view text) {
  return held(impl_).parser().feed(text, TextKind::any);
}
std::vector<ParseEvent> ToolCallParser::feed(std::string_view text, bool marker) {
  return held(impl_).parser().feed(text, marker ? TextKind::marker : TextKind::plain);
}
std::vector<ParseEvent> ToolCallParser::finish(FinishReason reason) {
  check_enum("finish reason", reason, FinishReason::error);
  return held(impl_).parser().finish(reason);
}
const Message& ToolCallParser::message() const& { return held(impl_).parser().message(); }
std::span<const ParseEvent::Fault> ToolCallParser::faults() const& noexcept {
  if (impl_ == nullptr) return {};
  return impl_->parser().faults();
}
bool ToolCallParser::in_tool_call() const noexcept {
  return impl_ != nullptr && impl_->parser().in_tool_call();
}

}  // namespace dsv32
