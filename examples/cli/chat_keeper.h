// Keeps a conversation in a folder while it goes on.
#ifndef EXAMPLES_CLI_CHAT_KEEPER_H_
#define EXAMPLES_CLI_CHAT_KEEPER_H_

#include <cstddef>
#include <filesystem>
#include <string>

#include "cli/conversation.h"
#include "cli/saved_chat.h"
#include "cli/terminal.h"

namespace cli {

// NAME.json is the truth, written after each turn. NAME.kv is a cache of what was computed, as
// large as the pages, so written only now and then: when much is new, by save(), and at the end.
// Missing, old or damaged it costs a prefill and nothing else.
class ChatKeeper {
 public:
  ChatKeeper(const std::filesystem::path& folder, std::string name, Conversation& conversation,
             const Terminal& terminal);

  const std::string& name() const noexcept { return name_; }
  const ChatFolder& folder() const noexcept { return folder_; }

  // All throw std::runtime_error or dsv32::Error; the conversation is then as before.
  void after_turn();
  void save();
  void load(const std::string& name);  // goes on in it
  void fork(const std::string& name);  // goes on in a copy of this one, which is not there yet
  void at_end() { write_kv(1); }

 private:
  void write_json() const { folder_.write(name_, conversation_.saved()); }
  void write_kv(std::size_t least);  // if so many tokens are new
  dsv32::Session session_of(const std::string& name);

  ChatFolder folder_;
  std::string name_;
  Conversation& conversation_;
  const Terminal& terminal_;
  std::size_t kept_ = 0;  // of the session's tokens, in NAME.kv
};

}  // namespace cli

#endif  // EXAMPLES_CLI_CHAT_KEEPER_H_
