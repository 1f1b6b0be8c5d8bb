#include "cli/batch_fields.h"

#include <utility>

#include "cli/batch_request.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void wrong(const std::string& name, const std::string& what) {
  throw BatchError("\"" + name + "\" " + what, name);
}

}  // namespace

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object()) wrong(path_, "is no object");
}

const Json* Fields::find(const std::string& key) {
  known_.insert(key);
  const auto value = object_.find(key);
  return value == object_.end() || value->is_null() ? nullptr : &*value;
}

const Json& Fields::need(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) wrong(name(key), "is missing");
  return *value;
}

std::string Fields::text(const std::string& key, const std::string& otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) wrong(name(key), "is no text");
  return value->get<std::string>();
}

bool Fields::flag(const std::string& key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(name(key), "is neither true nor false");
  return value->get<bool>();
}

float Fields::number(const std::string& key, float otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) wrong(name(key), "is no number");
  return static_cast<float>(value->get<double>());
}

std::uint64_t Fields::count(const std::string& key, std::uint64_t least, std::uint64_t most,
                            std::uint64_t otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number_unsigned() || *value < least || *value > most)
    wrong(name(key),
          "is no whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return value->get<std::uint64_t>();
}

void Fields::end() const {
  for (const auto& [key, value] : object_.items())
    if (!value.is_null() && !known_.contains(key)) wrong(name(key), "is not honoured");
}

}  // namespace cli
