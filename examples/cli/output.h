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

// Tokens that passes of one gave: all but the first, which the prompt gives; an end token counts.
std::size_t decoded_tokens(const dsv32::Generation& generation);
// Prompt, answer, their speed, keys. A rate that nothing was measured of is left out.
std::string summary(const dsv32::Usage& usage, std::size_t decoded);

// What a person should know of an answer that ended before its end; empty if it did not.
// `max_tokens` as asked for; `answered`: there is content, or there are calls.
std::string cut_short(const dsv32::Generation& generation, std::size_t max_tokens, bool answered);

// "; ended by token 1; seed 7"
std::string ending(const dsv32::Generation& generation);
// As human_bytes, "unknown" for null.
std::string bytes_or_unknown(const Json& value);

// One line; ill-formed UTF-8 becomes U+FFFD, every control character an escape.
std::string one_line(const Json& value);

}  // namespace cli

#endif  // EXAMPLES_CLI_OUTPUT_H_
