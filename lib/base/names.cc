// Names of the public enumerations. Switches without a default: the compiler misses no enumerator.
#include <string_view>

#include "dsv32/chat_template.h"
#include "dsv32/checkpoint.h"
#include "dsv32/error.h"
#include "dsv32/tool_call_parser.h"
#include "dsv32/types.h"

namespace dsv32 {
namespace {

constexpr std::string_view kUnknown = "unknown";  // no enumerator at all

}  // namespace

std::string_view to_string(Device value) noexcept {
  switch (value) {
    case Device::cpu:
      return "cpu";
    case Device::cuda:
      return "cuda";
  }
  return kUnknown;
}

std::string_view to_string(FinishReason value) noexcept {
  switch (value) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::repetition:
      return "repetition";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return kUnknown;
}

std::string_view to_string(LogLevel value) noexcept {
  switch (value) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
  }
  return kUnknown;
}

std::string_view to_string(Numerics value) noexcept {
  switch (value) {
    case Numerics::native:
      return "native";
    case Numerics::exact:
      return "exact";
  }
  return kUnknown;
}

std::string_view to_string(KvFormat value) noexcept {
  switch (value) {
    case KvFormat::fp8:
      return "fp8";
    case KvFormat::bf16:
      return "bf16";
  }
  return kUnknown;
}

std::string_view to_string(IndexerKeys value) noexcept {
  switch (value) {
    case IndexerKeys::fp8:
      return "fp8";
    case IndexerKeys::int8:
      return "int8";
  }
  return kUnknown;
}

std::string_view to_string(FileAccess value) noexcept {
  switch (value) {
    case FileAccess::mmap:
      return "mmap";
    case FileAccess::read:
      return "read";
  }
  return kUnknown;
}

std::string_view to_string(ErrorCode value) noexcept {
  switch (value) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::io:
      return "io";
    case ErrorCode::bad_format:
      return "bad_format";
    case ErrorCode::limit:
      return "limit";
    case ErrorCode::mismatch:
      return "mismatch";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::out_of_memory:
      return "out_of_memory";
    case ErrorCode::capacity:
      return "capacity";
    case ErrorCode::context_length:
      return "context_length";
    case ErrorCode::state:
      return "state";
    case ErrorCode::busy:
      return "busy";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::numeric:
      return "numeric";
    case ErrorCode::device:
      return "device";
    case ErrorCode::communication:
      return "communication";
    case ErrorCode::internal:
      return "internal";
  }
  return kUnknown;
}

std::string_view to_string(Verify value) noexcept {
  switch (value) {
    case Verify::headers:
      return "headers";
    case Verify::scales:
      return "scales";
    case Verify::all:
      return "all";
  }
  return kUnknown;
}

std::string_view to_string(Role value) noexcept {
  switch (value) {
    case Role::system:
      return "system";
    case Role::developer:
      return "developer";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
    case Role::tool:
      return "tool";
  }
  return kUnknown;
}

std::string_view to_string(ChatFormat value) noexcept {
  switch (value) {
    case ChatFormat::v32:
      return "v32";
    case ChatFormat::v32_speciale:
      return "v32_speciale";
    case ChatFormat::v31:
      return "v31";
  }
  return kUnknown;
}

std::string_view to_string(ThinkingMode value) noexcept {
  switch (value) {
    case ThinkingMode::chat:
      return "chat";
    case ThinkingMode::thinking:
      return "thinking";
  }
  return kUnknown;
}

std::string_view to_string(ParseEvent::Kind value) noexcept {
  switch (value) {
    case ParseEvent::Kind::reasoning:
      return "reasoning";
    case ParseEvent::Kind::content:
      return "content";
    case ParseEvent::Kind::call_begin:
      return "call_begin";
    case ParseEvent::Kind::call_arguments:
      return "call_arguments";
    case ParseEvent::Kind::call_end:
      return "call_end";
    case ParseEvent::Kind::call_abort:
      return "call_abort";
    case ParseEvent::Kind::repaired:
      return "repaired";
    case ParseEvent::Kind::malformed:
      return "malformed";
    case ParseEvent::Kind::markup:
      return "markup";
  }
  return kUnknown;
}

std::string_view to_string(ParseEvent::Fault value) noexcept {
  switch (value) {
    case ParseEvent::Fault::none:
      return "none";
    case ParseEvent::Fault::think_not_closed:
      return "think_not_closed";
    case ParseEvent::Fault::think_opened_twice:
      return "think_opened_twice";
    case ParseEvent::Fault::block_not_opened:
      return "block_not_opened";
    case ParseEvent::Fault::parameter_not_closed:
      return "parameter_not_closed";
    case ParseEvent::Fault::extra_whitespace:
      return "extra_whitespace";
    case ParseEvent::Fault::invalid_json_value:
      return "invalid_json_value";
    case ParseEvent::Fault::special_token_dropped:
      return "special_token_dropped";
    case ParseEvent::Fault::special_token_in_content:
      return "special_token_in_content";
    case ParseEvent::Fault::special_token_in_reasoning:
      return "special_token_in_reasoning";
    case ParseEvent::Fault::thinking_format:
      return "thinking_format";
    case ParseEvent::Fault::summary_format:
      return "summary_format";
    case ParseEvent::Fault::call_format:
      return "call_format";
    case ParseEvent::Fault::missing_token:
      return "missing_token";
    case ParseEvent::Fault::name_format:
      return "name_format";
    case ParseEvent::Fault::parameter_format:
      return "parameter_format";
    case ParseEvent::Fault::duplicate_parameter:
      return "duplicate_parameter";
    case ParseEvent::Fault::text_after_calls:
      return "text_after_calls";
    case ParseEvent::Fault::text_after_end:
      return "text_after_end";
    case ParseEvent::Fault::special_token:
      return "special_token";
    case ParseEvent::Fault::unknown_tool:
      return "unknown_tool";
    case ParseEvent::Fault::too_long:
      return "too_long";
    case ParseEvent::Fault::incomplete:
      return "incomplete";
  }
  return kUnknown;
}

}  // namespace dsv32
