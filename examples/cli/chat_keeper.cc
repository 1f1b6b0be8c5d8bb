#include "cli/chat_keeper.h"

#include <stdexcept>
#include <utility>

#include "cli/text_input.h"

namespace cli {
namespace {

// New tokens that are worth a file of all.
constexpr std::size_t kMuch = 1024;

}  // namespace

ChatKeeper::ChatKeeper(const std::filesystem::path& folder, std::string name,
                       Conversation& conversation, const Terminal& terminal)
    : folder_(folder), name_(std::move(name)), conversation_(conversation), terminal_(terminal) {
  ChatFolder::check_name(name_);
}

void ChatKeeper::after_turn() {
  write_json();
  write_kv(kMuch);
}

void ChatKeeper::save() {
  write_json();
  write_kv(1);
}

void ChatKeeper::write_kv(std::size_t least) {
  const std::size_t tokens = conversation_.tokens();
  if (tokens < kept_) kept_ = 0;  // cut: what is there is of another text
  if (tokens < kept_ + least) return;
  conversation_.session().save(folder_.kv(name_));
  kept_ = tokens;
}

dsv32::Session ChatKeeper::session_of(const std::string& name) {
  try {
    return dsv32::Session::load(conversation_.model(), folder_.kv(name));
  } catch (const dsv32::Error& error) {
    if (error.code() != dsv32::ErrorCode::not_found)
      terminal_.note("(computed again, because " + std::string(error.what()) + ")");
    return dsv32::Session(conversation_.model());
  }
}

void ChatKeeper::load(const std::string& name) {
  ChatFolder::check_name(name);
  const std::string file = folder_.json(name).string();
  SavedChat chat;
  const std::string text = read_file(file);
  try {
    chat = read_saved_chat(text, conversation_.model().default_sampling());
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("'" + file + "' is no saved conversation: " + error.what());
  }
  dsv32::Session session = session_of(name);
  const std::size_t tokens = session.tokens().size();
  conversation_.resume(std::move(chat), std::move(session));
  name_ = name;
  kept_ = tokens;
}

void ChatKeeper::fork(const std::string& name) {
  ChatFolder::check_name(name);
  if (folder_.has(name)) throw std::runtime_error("'" + name + "' is there already");
  save();
  folder_.write(name, conversation_.saved());
  name_ = name;
  kept_ = 0;
  write_kv(1);
}

}  // namespace cli
