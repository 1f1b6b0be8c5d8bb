// A batch, from lines to results.
#ifndef EXAMPLES_CLI_BATCH_RUN_H_
#define EXAMPLES_CLI_BATCH_RUN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "dsv32/dsv32.h"

#include "cli/batch_lines.h"
#include "cli/batch_output.h"
#include "cli/batch_result.h"

namespace cli {

struct BatchOptions {
  int max_sequences = 16;  // answers that run at once
  int draft_tokens = 0;
  std::string model{};  // the name of that which answers, for requests that name none
  std::stop_token cancel{};
};

// Reads lines while there is room in the engine, and writes each result when its answers are done.
// A line that is wrong gets its error; what ends the run is thrown, and OUT has all results so far.
class BatchRun {
 public:
  BatchRun(const dsv32::Model& model, BatchInput& input, BatchOutput& output,
           const BatchOptions& options);

  // False: cancelled. `on_step` hears how many lines have a result.
  bool run(const std::function<void(std::size_t)>& on_step);

  std::size_t answered() const noexcept { return answered_; }
  std::size_t failed() const noexcept { return failed_; }
  dsv32::EngineStats stats() const noexcept { return engine_.stats(); }

 private:
  // One of a line's answers. Each is a request of its own, so that a stop string in it, which the
  // stream finds, ends it alone.
  struct Answer {
    dsv32::ChatStream stream;
    dsv32::RequestId request = 0;
    bool stopping = false, finished = false;
  };
  struct Job {
    std::size_t line = 0;
    BatchId id{};
    BatchRequest request{};
    std::vector<Answer> answers{};
    std::optional<BatchError> error{};
    bool dropped = false;  // cancelled from outside: no result
  };
  using Jobs = std::map<std::uint64_t, Job>;

  void fill();
  void begin(const std::string& text);
  void submit(Job& job);
  void stop(Job& job);
  void take(const dsv32::RequestUpdate& update);
  void finish(Answer& answer, Job& job, const dsv32::RequestUpdate& update);
  void write(Jobs::iterator job);
  void fail(std::size_t line, const BatchId& id, const BatchError& error);

  dsv32::Model model_;
  dsv32::Tokenizer tokenizer_;
  BatchInput& input_;
  BatchOutput& output_;
  BatchOptions options_;
  dsv32::Engine engine_;
  Jobs jobs_{};  // by the number of their first answer
  std::uint64_t next_ = 0;
  std::unordered_map<std::string, std::size_t> lines_{};  // of each custom_id, the first
  std::size_t open_ = 0, answered_ = 0, failed_ = 0;      // answers; lines
  bool more_ = true;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_BATCH_RUN_H_
