// Values of a JSON member that say as much as its absence.
#ifndef DSV32_LIB_BASE_NEUTRAL_H_
#define DSV32_LIB_BASE_NEUTRAL_H_

#include "lib/base/json.h"

namespace dsv32 {

// null, false, an empty string, list or object. A number says something, 0 too.
inline bool is_neutral(const Json& value) {
  switch (value.kind) {
    case Json::Kind::null:
      return true;
    case Json::Kind::boolean:
      return !value.boolean;
    case Json::Kind::string:
      return value.text.empty();
    case Json::Kind::array:
      return value.items.empty();
    case Json::Kind::object:
      return value.members.empty();
    default:
      return false;
  }
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_NEUTRAL_H_
