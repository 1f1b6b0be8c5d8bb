// to_string against the headers themselves: every enumeration, every enumerator.
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "dsv32/dsv32.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using Name = std::function<std::string_view(std::uint8_t)>;
template <class E>
Name name_of() {
  return [](std::uint8_t value) { return to_string(static_cast<E>(value)); };
}

// The enumerators of every `enum class` in the public headers.
std::map<std::string, std::vector<std::string>> enumerations() {
  std::map<std::string, std::vector<std::string>> found;
  const std::regex comment("//[^\n]*"), word("[a-z_0-9]+");
  const std::regex declared(R"(enum class (\w+)[^{;]*\{([^}]*)\})");
  const auto folder = std::filesystem::path(DSV32_SOURCE_DIR) / "include/dsv32";
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const std::string text =
        std::regex_replace(conformance::read_file(file.path()), comment, std::string());
    for (std::sregex_iterator e(text.begin(), text.end(), declared), end; e != end; ++e) {
      const std::string body = (*e)[2];
      std::vector<std::string>& names = found[(*e)[1]];
      for (std::sregex_iterator w(body.begin(), body.end(), word), none; w != none; ++w)
        names.push_back(w->str());
    }
  }
  return found;
}

TEST_CASE("reports_D4 every enumerator of the public headers has its name") {
  const std::map<std::string, Name> known = {
      {"Device", name_of<Device>()},         {"FinishReason", name_of<FinishReason>()},
      {"LogLevel", name_of<LogLevel>()},     {"Numerics", name_of<Numerics>()},
      {"KvFormat", name_of<KvFormat>()},     {"IndexerKeys", name_of<IndexerKeys>()},
      {"FileAccess", name_of<FileAccess>()}, {"ErrorCode", name_of<ErrorCode>()},
      {"Verify", name_of<Verify>()},         {"Role", name_of<Role>()},
      {"ChatFormat", name_of<ChatFormat>()}, {"ThinkingMode", name_of<ThinkingMode>()},
      {"Kind", name_of<ParseEvent::Kind>()}, {"Fault", name_of<ParseEvent::Fault>()}};
  const auto found = enumerations();
  CHECK(found.size() == known.size());
  for (const auto& [enumeration, names] : found) {
    INFO(enumeration);
    REQUIRE(known.contains(enumeration));
    for (std::size_t i = 0; i < names.size(); ++i)
      CHECK(known.at(enumeration)(static_cast<std::uint8_t>(i)) == names[i]);
    for (const std::size_t i : {names.size(), std::size_t{255}})
      CHECK(known.at(enumeration)(static_cast<std::uint8_t>(i)) == "unknown");
  }
}

}  // namespace
}  // namespace dsv32::test
