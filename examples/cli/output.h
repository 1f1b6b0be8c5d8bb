// The library's values as JSON and as words.
#ifndef EXAMPLES_CLI_OUTPUT_H_
#define EXAMPLES_CLI_OUTPUT_H_

#include <string>

#include <nlohmann/json.hpp>

#include "dsv32/dsv32.h"

namespace cli {

using Json = nlohmann::ordered_json;

Json to_json(const dsv32::Usage& usage);
Json to_json(const dsv32::SparseStats& stats);
Json to_json(const dsv32::ToolCall& call);  // arguments as JSON, or as text if they are none

Json to_json(const dsv32::ChatTurn& turn);
// What ended it, and the seed: for the object of a generation.
void add_ending(Json& object, const dsv32::Generation& generation);

// "24 tokens, 81.2 tokens/s; attention read 6 % of the visible keys"
std::string summary(const dsv32::Usage& usage);

// "; ended by token 1; seed 7"
std::string ending(const dsv32::Generation& generation);
// As human_bytes, "unknown" for null.
std::string bytes_or_unknown(const Json& value);

// One line; ill-formed UTF-8 becomes U+FFFD.
std::string one_line(const Json& value);

}  // namespace cli

#endif  // EXAMPLES_CLI_OUTPUT_H_
