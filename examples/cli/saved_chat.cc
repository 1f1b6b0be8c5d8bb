#include "cli/saved_chat.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <stdexcept>
#include <sys/stat.h>
#include <system_error>

#include "cli/json_text.h"
#include "cli/message_json.h"
#include "cli/scratch.h"

namespace cli {
namespace {

constexpr std::uint64_t kVersion = 1;

}  // namespace

std::string saved_chat_json(const SavedChat& chat) {
  Json out = {{"dsv32_chat", kVersion}, {"system", chat.system}, {"thinking", chat.thinking}};
  out["sampling"] = sampling_json(chat.sampling);
  Json& tools = out["tools"] = Json::array();
  for (const std::string& tool : chat.tools_json)
    tools.push_back(parse_json(tool).value_or(Json(tool)));
  Json& messages = out["messages"] = Json::array();
  for (const dsv32::Message& message : chat.messages) messages.push_back(message_json(message));
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

SavedChat read_saved_chat(std::string_view text, const dsv32::SamplingParams& defaults) {
  const auto value = parse_json(text);
  if (!value || !value->is_object()) throw std::runtime_error("it is no JSON object");
  Fields fields(*value, "");
  fields.need("dsv32_chat");
  if (fields.count("dsv32_chat", 1, ~std::uint64_t{0}, 1) != kVersion)
    wrong("dsv32_chat", "is of a later version");
  SavedChat chat{.system = fields.text("system"), .thinking = fields.flag("thinking", true)};
  chat.sampling = defaults;
  if (const Json* object = fields.find("sampling")) {
    Fields sampling(*object, "sampling");
    read_sampling(sampling, chat.sampling);
    sampling.end();
  }
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array()) wrong("tools", "is no list");
    for (const Json& tool : *tools) chat.tools_json.push_back(tool.dump());
  }
  const Json& list = fields.need("messages");
  if (!list.is_array()) wrong("messages", "is no list");
  for (std::size_t i = 0; i < list.size(); ++i) {
    chat.messages.push_back(read_message(list[i], list_name("messages", i)));
    const dsv32::Role role = chat.messages.back().role;
    if (role == dsv32::Role::system || role == dsv32::Role::developer)
      wrong(list_name("messages", i) + ".role", "is not user, assistant or tool");
    if (i == 0 && role != dsv32::Role::user) wrong("messages[0].role", "is not user");
  }
  fields.end();
  return chat;
}

ChatFolder::ChatFolder(const std::filesystem::path& folder) : folder_(folder) {
  if (::mkdir(folder.c_str(), 0700) == 0) return;
  const int error = errno;
  std::error_code none;
  if (!std::filesystem::is_directory(folder, none))
    throw std::runtime_error("cannot make the folder '" + folder.string() +
                             "': " + std::strerror(error));
}

void ChatFolder::check_name(const std::string& name) {
  const auto known = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (name.empty() || name.size() > 64 || name[0] == '.' ||
      !std::all_of(name.begin(), name.end(), known))
    throw std::runtime_error("'" + name + "' is no name: 1 to 64 of letters, digits, . _ and -");
}

std::vector<std::string> ChatFolder::names() const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".json") names.push_back(it->path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void ChatFolder::write(const std::string& name, const SavedChat& chat) const {
  const std::string text = saved_chat_json(chat);
  ScratchFile file(json(name), 0600);
  file.write(0, std::as_bytes(std::span(text)));
  file.sync();
  file.keep();
}

}  // namespace cli
