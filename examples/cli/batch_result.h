// A line of a batch's results, in OpenAI's words.
#ifndef EXAMPLES_CLI_BATCH_RESULT_H_
#define EXAMPLES_CLI_BATCH_RESULT_H_

#include <optional>
#include <span>
#include <string>
#include <utility>

#include "dsv32/dsv32.h"

#include "cli/batch_request.h"
#include "cli/output.h"

namespace cli {

// Which line of which batch a result is for.
struct BatchId {
  std::string id{};
  std::optional<std::string> custom_id{};
};

// {"id", "custom_id", "response": {"status_code": 200, "request_id", "body"}, "error": null}, the
// body a chat.completion with a choice for each turn.
Json batch_result(const BatchId& id, const BatchRequest& request,
                  std::span<const dsv32::ChatTurn> turns, const dsv32::Tokenizer& tokenizer);

// The same with an error: a response as a server would give it, and the error by itself.
Json batch_failure(const BatchId& id, const BatchError& error);

// What an exception that a request met says of that request. Rethrows it if it says more: that the
// device, the model's files or all memory is gone.
BatchError request_error(const std::exception_ptr& error);

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_RESULT_H_
