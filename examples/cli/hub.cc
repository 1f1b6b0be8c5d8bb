// Where Hugging Face's own tools keep their cache, by the rules of their constants.py.
#include "cli/hub.h"

#include <algorithm>
#include <cstdlib>
#include <pwd.h>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace cli {
namespace {

constexpr std::string_view kWord =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

// Empty counts as not set.
std::string environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::string() : std::string(value);
}

// Of a user, or of this one; empty if there is none.
std::string home_of(const std::string& user) {
  if (user.empty()) {
    if (std::string home = environment("HOME"); !home.empty()) return home;
  }
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(16384);
  if (user.empty())
    ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found);
  else
    ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::string() : std::string(found->pw_dir);
}

// "~" and "~user" in front.
std::string with_home(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const std::size_t end = std::min(path.find('/'), path.size());
  const std::string home = home_of(path.substr(1, end - 1));
  return home.empty() ? path : home + path.substr(end);
}

// "$NAME" and "${NAME}"; what is not set stays as it is.
std::string with_variables(const std::string& path) {
  std::string out;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = at + 1;
    std::string name;
    if (path[at] == '$') {
      const bool braces = path.compare(at + 1, 1, "{") == 0;
      const std::size_t first = at + (braces ? 2 : 1);
      end = std::min(braces ? path.find('}', first) : path.find_first_not_of(kWord, first),
                     path.size());
      name = path.substr(first, end - first);
      if (braces) end = std::min(end + 1, path.size());
    }
    const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
    out += value == nullptr ? path.substr(at, end - at) : std::string(value);
    at = end;
  }
  return out;
}

}  // namespace

std::filesystem::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string path = environment(name); !path.empty())
      return with_variables(with_home(path));
  }
  std::filesystem::path home = environment("HF_HOME");
  if (home.empty()) {
    const std::string caches = environment("XDG_CACHE_HOME");
    home = std::filesystem::path(caches.empty() ? "~/.cache" : caches) / "huggingface";
  }
  return std::filesystem::path(with_variables(with_home(home.string()))) / "hub";
}

}  // namespace cli
