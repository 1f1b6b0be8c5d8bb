// Reading objects of JSON whose every key must mean something.
#ifndef EXAMPLES_CLI_BATCH_FIELDS_H_
#define EXAMPLES_CLI_BATCH_FIELDS_H_

#include <cstdint>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

namespace cli {

// Getters return what the key says, or `otherwise` if it is absent or null; they throw BatchError
// for a value of another kind.
class Fields {
 public:
  using Json = nlohmann::ordered_json;

  Fields(const Json& object, std::string path);  // "body.messages[0]"; throws if it is no object

  const Json* find(const std::string& key);  // null if absent or null
  const Json& need(const std::string& key);  // throws if it is
  std::string text(const std::string& key, const std::string& otherwise = "");
  bool flag(const std::string& key, bool otherwise = false);
  float number(const std::string& key, float otherwise);
  std::uint64_t count(const std::string& key, std::uint64_t least, std::uint64_t most,
                      std::uint64_t otherwise);
  // Throws for the first key that nobody asked for and that says something.
  void end() const;

  std::string name(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> known_{};
};

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_FIELDS_H_
