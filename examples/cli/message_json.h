// Messages and sampling in OpenAI's words, both ways.
#ifndef EXAMPLES_CLI_MESSAGE_JSON_H_
#define EXAMPLES_CLI_MESSAGE_JSON_H_

#include <cstddef>
#include <string>

#include "dsv32/dsv32.h"

#include "cli/batch_fields.h"
#include "cli/batch_request.h"
#include "cli/output.h"

namespace cli {

// Throw BatchError, whose key begins with `name`, for anything that is not honoured.
dsv32::Message read_message(const Json& value, const std::string& name);
void read_sampling(Fields& fields, dsv32::SamplingParams& params);  // what is absent stays

Json message_json(const dsv32::Message& message);
Json sampling_json(const dsv32::SamplingParams& params);

[[noreturn]] void wrong(const std::string& name, const std::string& what);
std::string list_name(const std::string& list, std::size_t i);  // "list[i]"

}  // namespace cli

#endif  // EXAMPLES_CLI_MESSAGE_JSON_H_
