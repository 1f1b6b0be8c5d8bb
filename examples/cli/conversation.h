// A conversation with tools: what `dsv32 chat` holds between lines.
#ifndef EXAMPLES_CLI_CONVERSATION_H_
#define EXAMPLES_CLI_CONVERSATION_H_

#include <string>
#include <vector>

#include "dsv32/dsv32.h"

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/saved_chat.h"
#include "cli/terminal.h"
#include "cli/tools.h"

namespace cli {

struct ConversationOptions {
  std::string system{};
  std::vector<Tool> tools{};
  bool thinking = true;
  bool hide_thinking = false;
  bool silent = false;      // print no transcript
  int max_tool_rounds = 8;  // answers that may call tools before one must not
  dsv32::ChatOptions chat{};
};

class Conversation {
 public:
  Conversation(dsv32::Session session, ConversationOptions options, const Terminal& terminal,
               Interrupt& interrupt);

  enum class Outcome { answered, stopped, too_many_calls };
  // Answers a user's message, calling tools as the model asks. What was said stays, however it
  // ended; if it throws before the model wrote anything, the message is forgotten.
  Outcome say(const std::string& text);

  // All that is said, and how; a copy to write into a file.
  SavedChat saved() const;
  // Goes on where `chat` ends, on the pages of `session`, whatever they hold. Of its tools those
  // with a program are `options().tools` of the same name. Throws dsv32::Error if it is no
  // conversation that the model could read; this one is then as before.
  void resume(SavedChat chat, dsv32::Session session);
  const dsv32::Session& session() const noexcept { return session_; }
  const dsv32::Model& model() const { return session_.model(); }

  void reset();
  // Forgets the oldest exchanges, a message and all that answers it, or the newest. Returns how
  // many.
  std::size_t drop_oldest(std::size_t count);
  std::size_t drop_newest();
  std::size_t exchanges() const noexcept { return begins_.size(); }
  ConversationOptions& options() noexcept { return options_; }
  const dsv32::Usage& last_usage() const noexcept { return usage_; }
  std::size_t last_decoded() const noexcept { return decoded_; }
  const std::string& last_ending() const noexcept { return ending_; }  // as ending() writes it
  dsv32::SparseStats sparse_stats() const { return session_.sparse_stats(); }
  std::size_t tokens() const { return session_.tokens().size(); }
  // What every answer of the latest say() was, for --json.
  const Json& rounds() const noexcept { return rounds_; }

 private:
  dsv32::ChatTurn answer();
  void show(const dsv32::ParseEvent& event);
  void end_line();
  Outcome answer_with_tools();
  void close_exchange();
  void call_tools(const std::vector<dsv32::ToolCall>& calls);
  std::vector<dsv32::Message> messages() const;

  dsv32::Session session_;
  ConversationOptions options_;
  const Terminal& terminal_;
  Interrupt& interrupt_;
  std::vector<dsv32::Message> history_;
  std::vector<std::size_t> begins_;  // of each exchange in it
  dsv32::Message partial_{};         // of the answer that is being written
  dsv32::Usage usage_{};
  std::size_t decoded_ = 0;
  std::string ending_{};
  Json rounds_ = Json::array();
  bool in_thinking_ = false;
  bool line_open_ = false;  // text was printed since the last newline
};

}  // namespace cli

#endif  // EXAMPLES_CLI_CONVERSATION_H_
