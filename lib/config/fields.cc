#include "lib/config/fields.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "lib/base/check.h"

namespace dsv32 {

Fields::Fields(const Json& object, std::string path)
    : object_(object), path_(std::move(path)), read_(object.members.size()) {}

const Json* Fields::find(std::string_view key) const {
  for (std::size_t i = 0; i < object_.members.size(); ++i) {
    const JsonMember& member = object_.members[i];
    if (member.key != key) continue;
    read_[i] = true;
    return member.value.kind == Json::Kind::null ? nullptr : &member.value;
  }
  return nullptr;
}

const Json* Fields::peek(std::string_view key) const {
  const Json* value = object_.find(key);
  return value && value->kind != Json::Kind::null ? value : nullptr;
}

bool Fields::is_null(std::string_view key) const {
  const Json* value = object_.find(key);
  return value && value->kind == Json::Kind::null;
}

const Json& Fields::get(std::string_view key) const {
  const Json* value = find(key);
  DSV32_CHECK(value, bad_format, "{}: key {} is {}", kConfigFile, name(key),
              is_null(key) ? "null" : "missing");
  return *value;
}

Fields Fields::block(std::string_view key) const {
  const Json& value = get(key);
  DSV32_CHECK(value.is_object(), bad_format, "{}: key {} is no object", kConfigFile, name(key));
  return {value, formatted("{}{}.", path_, key)};
}

int Fields::integer(std::string_view key) const { return config_integer(get(key), name(key)); }

int Fields::integer(std::string_view key, int otherwise) const {
  const Json* value = find(key);
  return value ? config_integer(*value, name(key)) : otherwise;
}

float Fields::number(std::string_view key) const { return config_number(get(key), name(key)); }

float Fields::number(std::string_view key, float otherwise) const {
  const Json* value = find(key);
  return value ? config_number(*value, name(key)) : otherwise;
}

bool Fields::boolean(std::string_view key, bool otherwise) const {
  const Json* value = find(key);
  if (!value) return otherwise;
  DSV32_CHECK(value->kind == Json::Kind::boolean, bad_format, "{}: key {} is no boolean",
              kConfigFile, name(key));
  return value->boolean;
}

std::string Fields::text(std::string_view key, std::string otherwise) const {
  const Json* value = find(key);
  if (!value) return otherwise;
  DSV32_CHECK(value->is_string(), bad_format, "{}: key {} is no string", kConfigFile, name(key));
  return value->text;
}

std::string Fields::name(std::string_view key) const {
  return quote(formatted("{}{}", path_, key));
}

std::vector<const JsonMember*> Fields::unread() const {
  std::vector<const JsonMember*> members;
  for (std::size_t i = 0; i < read_.size(); ++i) {
    if (!read_[i]) members.push_back(&object_.members[i]);
  }
  return members;
}

int config_integer(const Json& value, std::string_view name) {
  std::int64_t result = 0;
  if (value.kind == Json::Kind::integer) {
    result = parse_i64(value.text, name);
  } else {
    DSV32_CHECK(value.kind == Json::Kind::real && value.real == std::floor(value.real) &&
                    std::fabs(value.real) < 1e15,
                bad_format, "{}: key {} is no integer", kConfigFile, name);
    result = static_cast<std::int64_t>(value.real);
  }
  DSV32_CHECK(result <= std::numeric_limits<int>::max() || name != quote("max_position_embeddings"),
              limit, "{}: {} is {}, over 2^31 - 1", kConfigFile, name, result);
  DSV32_CHECK(
      result >= std::numeric_limits<int>::min() && result <= std::numeric_limits<int>::max(),
      bad_format, "{}: {} is out of range: {}", kConfigFile, name, result);
  return static_cast<int>(result);
}

float config_number(const Json& value, std::string_view name) {
  if (value.kind == Json::Kind::integer) return static_cast<float>(parse_i64(value.text, name));
  DSV32_CHECK(value.kind == Json::Kind::real, bad_format, "{}: key {} is no number", kConfigFile,
              name);
  return static_cast<float>(value.real);
}

}  // namespace dsv32
