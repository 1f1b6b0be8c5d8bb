// A conversation as a file: what is said in it, and all that an answer depends on but the model.
#ifndef EXAMPLES_CLI_SAVED_CHAT_H_
#define EXAMPLES_CLI_SAVED_CHAT_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/dsv32.h"

namespace cli {

struct SavedChat {
  std::string system{};
  std::vector<std::string> tools_json{};  // what the model reads; the programs are --tools'
  bool thinking = true;
  dsv32::SamplingParams sampling{};
  std::vector<dsv32::Message> messages{};  // of user, assistant and tools
};

// Indented, for people.
std::string saved_chat_json(const SavedChat& chat);
// Throws std::runtime_error that names the key that is wrong. Sampling that is absent is
// `defaults`'.
SavedChat read_saved_chat(std::string_view text, const dsv32::SamplingParams& defaults);

// Conversations in a folder: of each NAME.json, and NAME.kv, which spares a prefill.
class ChatFolder {
 public:
  // Makes it, for its owner alone, if there is none. Throws std::runtime_error.
  explicit ChatFolder(const std::filesystem::path& folder);

  // Throws std::runtime_error for what is no name: 1 to 64 letters, digits, '.', '_' and '-', the
  // first one no '.'.
  static void check_name(const std::string& name);
  std::filesystem::path json(const std::string& name) const { return folder_ / (name + ".json"); }
  std::filesystem::path kv(const std::string& name) const { return folder_ / (name + ".kv"); }
  bool has(const std::string& name) const { return std::filesystem::exists(json(name)); }
  std::vector<std::string> names() const;  // sorted

  // After a crash there is the old file or the new one.
  void write(const std::string& name, const SavedChat& chat) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_SAVED_CHAT_H_
