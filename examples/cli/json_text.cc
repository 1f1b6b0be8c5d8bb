#include "cli/json_text.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxBytes = 100'000'000;
constexpr int kMaxDepth = 64;

}  // namespace

std::optional<Json> parse_json(std::string_view text) {
  if (text.size() > kMaxBytes || text.find('\0') != text.npos) return std::nullopt;
  bool good = true;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  // What it returns false for is not kept: a hostile text costs no memory.
  const auto on_event = [&](int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end && !keys.empty()) keys.pop_back();
    if (event == Event::key) good = good && keys.back().insert(value.get<std::string>()).second;
    const bool opens = event == Event::object_start || event == Event::array_start;
    good = good && (!opens || depth < kMaxDepth);
    return good;
  };
  Json value = Json::parse(text.begin(), text.end(), on_event, false);
  if (!good || value.is_discarded()) return std::nullopt;
  return value;
}

}  // namespace cli
