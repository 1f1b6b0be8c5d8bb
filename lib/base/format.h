// Text from values. The implementation of header-only fmt, three seconds in every file that calls
// it, is compiled once (format.cc); what a format string may say is checked at compile time.
#ifndef DSV32_LIB_BASE_FORMAT_H_
#define DSV32_LIB_BASE_FORMAT_H_

#include <cstddef>
#include <string>
#include <string_view>

// fmt's own assertions would print to stderr and terminate.
#ifndef FMT_ASSERT
#define FMT_ASSERT(condition, message) ((void)0)
#endif
#if __has_include(<fmt/base.h>)  // from fmt 11 on
#include <fmt/base.h>
#else
#include <fmt/core.h>
#endif

namespace dsv32 {

std::string vformatted(fmt::string_view text, fmt::format_args values);

// fmt::format.
template <class... Values>
std::string formatted(fmt::format_string<Values...> text, Values&&... values) {
  return vformatted(text, fmt::make_format_args(values...));
}

// For people: "1000 B", "1.5 KiB", "641.9 GiB".
std::string human_bytes(std::size_t bytes);

// fmt::join.
template <class Range>
std::string joined(const Range& values, std::string_view separator) {
  std::string out;
  std::string_view before;
  for (const auto& value : values) {
    out += before;
    out += formatted("{}", value);
    before = separator;
  }
  return out;
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FORMAT_H_
