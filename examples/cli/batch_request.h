// A line of a batch, in OpenAI's words: what is asked for, or why there is no answer.
#ifndef EXAMPLES_CLI_BATCH_REQUEST_H_
#define EXAMPLES_CLI_BATCH_REQUEST_H_

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/dsv32.h"

namespace cli {

// One line's failure, as its result says it.
struct BatchError : std::runtime_error {
  explicit BatchError(const std::string& message, std::string parameter = "",
                      std::string reason = "invalid_argument", int http_status = 400)
      : std::runtime_error(message),
        param(std::move(parameter)),
        code(std::move(reason)),
        status(http_status) {}
  std::string param;  // the key: "body.stop"
  std::string code;   // a name of dsv32::ErrorCode
  int status;         // as a server would answer
};

struct BatchRequest {
  std::string model{};  // as asked for: whatever it says, there is one
  std::vector<dsv32::Message> messages{};
  dsv32::ThinkingMode mode = dsv32::ThinkingMode::chat;
  dsv32::GenerateOptions options{};
  int n = 1;
  bool logprobs = false;
};

struct BatchLine {
  std::optional<std::string> custom_id{};  // if it says one
  BatchRequest request{};
  std::optional<BatchError> error{};  // then the request means nothing
};

// {"custom_id", "method": "POST", "url": "/v1/chat/completions", "body"}. Whatever a body does not
// say is `defaults`'. A key whose value is null counts as absent; any other that is not honoured,
// wherever it stands, is an error that names it.
BatchLine read_batch_line(std::string_view text, const dsv32::SamplingParams& defaults);

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_REQUEST_H_
