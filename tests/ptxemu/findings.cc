#include "tests/ptxemu/findings.h"

#include <cstdio>

namespace dsv32::ptxemu {

const char* kind_name(Kind kind) {
  static constexpr const char* kNames[] = {"shared-race",
                                           "global-race",
                                           "global-conflict",
                                           "shared-uninitialised",
                                           "global-uninitialised",
                                           "shared-bounds",
                                           "global-bounds",
                                           "local-bounds",
                                           "write-to-const",
                                           "misaligned",
                                           "divergent-sync",
                                           "inactive-source",
                                           "barrier",
                                           "async-copy",
                                           "deadlock",
                                           "watchdog",
                                           "trap",
                                           "bad-launch",
                                           "bad-instruction"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Kind::count));
  const auto index = static_cast<std::size_t>(kind);
  return index < std::size(kNames) ? kNames[index] : "?";
}

bool Report::has(Kind kind) const {
  for (const Finding& finding : findings) {
    if (finding.kind == kind) return true;
  }
  return false;
}

std::string Report::text() const {
  std::string all;
  for (const Finding& finding : findings) {
    all += kind_name(finding.kind);
    all += ": " + finding.text;
    if (finding.times > 1) all += " (" + std::to_string(finding.times) + " times)";
    all += "\n";
  }
  return all;
}

bool Findings::again(Kind kind, int line) {
  if (ignored_ >> static_cast<unsigned>(kind) & 1) return true;
  const auto found = seen_.find({kind, line});
  if (found == seen_.end()) return false;
  ++list_[found->second].times;
  return true;
}

void Findings::add(Kind kind, const Place& place, const std::string& text) {
  if (again(kind, place.line)) return;
  seen_[{kind, place.line}] = list_.size();
  char where[80];
  std::snprintf(where, sizeof where, ", block %u thread %u, PTX line %d", place.block, place.thread,
                place.line);
  list_.push_back({kind, text + where, place.line, 1});
}

}  // namespace dsv32::ptxemu
