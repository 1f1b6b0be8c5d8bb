// A folder for what a user typed.
#include <filesystem>
#include <string>
#include <string_view>

#include "dsv32/checkpoint.h"

#include "lib/base/check.h"
#include "lib/base/file.h"

namespace dsv32 {
namespace {

namespace fs = std::filesystem;

// Letters, digits, dot, dash, underscore: what the hub allows; so no name climbs out of the cache.
bool is_hub_name(std::string_view name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !name.empty() && name.find_first_not_of(kAllowed) == std::string_view::npos &&
         name.find("..") == std::string_view::npos;
}

// The snapshot of `revision` (a branch, a tag, or a commit) in a hub cache; empty if absent.
fs::path snapshot(const fs::path& repo, const std::string& revision) {
  std::error_code error;
  fs::path direct = repo / "snapshots" / revision;
  if (fs::is_directory(direct, error)) return direct;
  if (!fs::is_regular_file(repo / "refs" / revision, error)) return {};
  std::string commit = read_text(Folder(repo / "refs"), revision, 256);
  commit.erase(commit.find_last_not_of(" \r\n") + 1);
  if (!is_hub_name(commit)) return {};
  const fs::path folder = repo / "snapshots" / commit;
  return fs::is_directory(folder, error) ? folder : fs::path();
}

}  // namespace

fs::path resolve_model(std::string_view name, const fs::path& hub) {
  constexpr std::string_view kScheme = "hf://";
  std::error_code error;
  fs::path typed(name);
  if (fs::is_directory(typed, error)) return typed;
  if (fs::is_regular_file(typed, error)) return typed.has_parent_path() ? typed.parent_path() : ".";
  if (name.starts_with(kScheme)) name.remove_prefix(kScheme.size());
  const std::size_t slash = name.find('/'), at = name.find('@');
  const std::string_view org = name.substr(0, slash);
  const std::string_view repo =
      slash == std::string_view::npos
          ? ""
          : name.substr(slash + 1, at == std::string_view::npos ? at : at - slash - 1);
  const std::string revision(at == std::string_view::npos ? "main" : name.substr(at + 1));
  DSV32_CHECK(is_hub_name(org) && is_hub_name(repo) && is_hub_name(revision), not_found,
              "{} is no folder, no file, and no org/name[@revision]", quote_path(typed.string()));
  fs::path folder = snapshot(hub / formatted("models--{}--{}", org, repo), revision);
  DSV32_CHECK(!folder.empty(), not_found,
              "{}/{} at {} is not in {}; get it with: hf download {}/{} --revision {}", org, repo,
              revision, quote_path(hub.string()), org, repo, revision);
  return folder;
}

}  // namespace dsv32
