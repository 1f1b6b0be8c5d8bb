// A folder for what a user typed.
#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/checkpoint.h"

#include "lib/base/check.h"
#include "lib/base/file.h"
#include "lib/base/float_state.h"

namespace dsv32 {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostListed = 3;

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Letters, digits and underscores, dots and dashes between them: what the hub allows; so no name
// climbs out of the cache, and no relative path looks like one.
bool is_hub_name(std::string_view name) {
  return !name.empty() && is_word(name.front()) && is_word(name.back()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_word(c) || c == '-' || c == '.'; }) &&
         name.find("..") == std::string_view::npos && name.find("--") == std::string_view::npos;
}

// A part of a revision; none climbs.
bool is_revision_part(std::string_view part) {
  return !part.empty() && part.front() != '.' && std::all_of(part.begin(), part.end(), [](char c) {
    return is_word(c) || c == '-' || c == '.' || c == '+';
  });
}

// A branch, a tag or a commit, whose name may be a path ("refs/pr/7").
bool is_revision(std::string_view name) {
  std::size_t slash = name.find('/');
  for (; slash != std::string_view::npos; slash = name.find('/')) {
    if (!is_revision_part(name.substr(0, slash))) return false;
    name.remove_prefix(slash + 1);
  }
  return is_revision_part(name);
}

// The snapshot of `revision` in a hub cache; empty if absent. A reference of that name counts
// first, as it does in the hub's own tools.
fs::path snapshot(const fs::path& repo, const std::string& revision) {
  std::error_code error;
  std::string commit = revision;
  const fs::path reference = repo / "refs" / revision;
  if (fs::is_regular_file(reference, error)) {
    commit = read_text(Folder(reference.parent_path()), reference.filename().string(), 256);
    commit.erase(commit.find_last_not_of(" \r\n") + 1);
  }
  if (!is_revision_part(commit)) return {};
  const fs::path folder = repo / "snapshots" / commit;
  return fs::is_directory(folder, error) ? folder : fs::path();
}

// What may be asked for instead, and how to get what was.
std::string advice(const fs::path& repo, std::string_view name, const std::string& revision) {
  std::error_code error;
  std::vector<std::string> there;
  for (fs::directory_iterator it(repo / "snapshots", error), end; !error && it != end;
       it.increment(error))
    there.push_back(formatted("{}@{}", name, it->path().filename().string()));
  std::sort(there.begin(), there.end());
  const bool more = there.size() > kMostListed;
  if (more) there.resize(kMostListed);
  std::string get = formatted("get it with: hf download {} --revision {}", name, revision);
  if (there.empty()) return get;
  return formatted("there is {}{}; {}", joined(there, ", "), more ? ", .." : "", get);
}

}  // namespace

fs::path resolve_model(std::string_view name, const fs::path& hub) {
  const FloatState ours;  // paths compute with floats when they grow
  constexpr std::string_view kScheme = "hf://";
  std::error_code error;
  fs::path typed(name);
  if (fs::is_directory(typed, error)) return typed;
  if (fs::is_regular_file(typed, error)) return typed.has_parent_path() ? typed.parent_path() : ".";
  if (name.starts_with(kScheme)) name.remove_prefix(kScheme.size());
  const std::size_t at = name.find('@');
  const std::string_view repo = name.substr(0, at);
  const std::size_t slash = repo.find('/');
  const std::string revision(at == std::string_view::npos ? "main" : name.substr(at + 1));
  DSV32_CHECK(slash != std::string_view::npos && is_hub_name(repo.substr(0, slash)) &&
                  is_hub_name(repo.substr(slash + 1)) && is_revision(revision),
              not_found, "{} is no folder, no file, and no org/name[@revision]",
              quote_path(typed.string()));
  const fs::path cache =
      hub / formatted("models--{}--{}", repo.substr(0, slash), repo.substr(slash + 1));
  fs::path folder = snapshot(cache, revision);
  DSV32_CHECK(!folder.empty(), not_found, "{} at {} is not in {}; {}", repo, revision,
              quote_path(hub.string()), advice(cache, repo, revision));
  return folder;
}

}  // namespace dsv32
