// The one reader of JSON here, as strict as the library's own.
#ifndef DSV32_EXAMPLES_CLI_JSON_TEXT_H_
#define DSV32_EXAMPLES_CLI_JSON_TEXT_H_

#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

namespace cli {

// None if `text` is no JSON: something but white space behind the value, zero bytes (which
// nlohmann-json takes for the end of the text), a key twice in an object, more than 64 levels,
// more than 100,000,000 bytes.
std::optional<nlohmann::ordered_json> parse_json(std::string_view text);

}  // namespace cli

#endif  // DSV32_EXAMPLES_CLI_JSON_TEXT_H_
