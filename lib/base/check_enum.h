// Enumerators of the public headers, where they come in: an application in another language may
// pass any byte for one.
#ifndef DSV32_LIB_BASE_CHECK_ENUM_H_
#define DSV32_LIB_BASE_CHECK_ENUM_H_

#include <string_view>
#include <type_traits>

#include "lib/base/check.h"

namespace dsv32 {

// Throws invalid_argument, naming `field`, for a value behind `last`.
template <class Enum>
void check_enum(std::string_view field, Enum value, Enum last) {
  using Number = std::underlying_type_t<Enum>;
  static_assert(std::is_unsigned_v<Number>);
  DSV32_CHECK(value <= last, invalid_argument, "{} is {}, not in 0..{}", field,
              int{static_cast<Number>(value)}, int{static_cast<Number>(last)});
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_CHECK_ENUM_H_
