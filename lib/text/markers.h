// The special texts of the chat encodings. Bars are U+FF5C, word gaps are U+2581.
#ifndef DSV32_LIB_TEXT_MARKERS_H_
#define DSV32_LIB_TEXT_MARKERS_H_

#include <string_view>

namespace dsv32::markers {

inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kThink = "<think>";
inline constexpr std::string_view kEndThink = "</think>";

// V3.2: one token, and the tags around it that are several.
inline constexpr std::string_view kDsml = "｜DSML｜";
inline constexpr std::string_view kBlockOpen = "<｜DSML｜function_calls>";
inline constexpr std::string_view kBlockClose = "</｜DSML｜function_calls>";
inline constexpr std::string_view kInvokeOpen = "<｜DSML｜invoke";
inline constexpr std::string_view kInvokeClose = "</｜DSML｜invoke>";
inline constexpr std::string_view kParameterOpen = "<｜DSML｜parameter";
inline constexpr std::string_view kParameterClose = "</｜DSML｜parameter>";

// V3.1 and V3.2-Exp: each one token.
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
inline constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
inline constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
inline constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
inline constexpr std::string_view kSeparator = "<｜tool▁sep｜>";

}  // namespace dsv32::markers

#endif  // DSV32_LIB_TEXT_MARKERS_H_
