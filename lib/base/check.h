// Conditions that must hold: at the edges of the library, and (code `internal`) our own invariants.
#ifndef DSV32_LIB_BASE_CHECK_H_
#define DSV32_LIB_BASE_CHECK_H_

#include <string>
#include <string_view>

#include "dsv32/error.h"

#include "lib/base/format.h"

namespace dsv32 {

// Text from a file, a model or a caller, fit for a message: at most 64 bytes, escaped, in quotes.
std::string quote(std::string_view foreign);
// The same for a path, of which a long one keeps its end: the file's name.
std::string quote_path(std::string_view path);

}  // namespace dsv32

// Throws Error(code, formatted(...)) unless `condition` holds.
#define DSV32_CHECK(condition, code, ...)                                              \
  do {                                                                                 \
    if (!(condition)) [[unlikely]]                                                     \
      throw ::dsv32::Error(::dsv32::ErrorCode::code, ::dsv32::formatted(__VA_ARGS__)); \
  } while (false)

#endif  // DSV32_LIB_BASE_CHECK_H_
