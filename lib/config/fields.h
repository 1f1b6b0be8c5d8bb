// Typed members of one object of config.json, and which of them somebody asked for.
#ifndef DSV32_LIB_CONFIG_FIELDS_H_
#define DSV32_LIB_CONFIG_FIELDS_H_

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/json.h"

namespace dsv32 {

inline constexpr const char* kConfigFile = "config.json";

// Messages name the key, with the block that it is in. A null counts as absent, but for is_null().
class Fields {
 public:
  // `path` begins the names of this block's keys: empty, or "rope_scaling.".
  Fields(const Json& object, std::string path);

  const Json* find(std::string_view key) const;  // null if absent; from now on the key was read
  const Json* peek(std::string_view key) const;  // the same, but the key was not read by this
  bool is_null(std::string_view key) const;      // present as null
  const Json& get(std::string_view key) const;   // throws bad_format if absent
  Fields block(std::string_view key) const;      // throws bad_format unless it is an object

  int integer(std::string_view key) const;
  int integer(std::string_view key, int otherwise) const;
  float number(std::string_view key) const;
  float number(std::string_view key, float otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string text(std::string_view key, std::string otherwise) const;

  std::string name(std::string_view key) const;  // with its path, in quotes
  const std::string& path() const { return path_; }

  // Members that nobody read, in the order of the file.
  std::vector<const JsonMember*> unread() const;

 private:
  const Json& object_;
  std::string path_;
  mutable std::vector<bool> read_;
};

// An integer literal, or a number without a fraction (61.0); `name` as Fields::name() gives it.
int config_integer(const Json& value, std::string_view name);
float config_number(const Json& value, std::string_view name);

}  // namespace dsv32

#endif  // DSV32_LIB_CONFIG_FIELDS_H_
