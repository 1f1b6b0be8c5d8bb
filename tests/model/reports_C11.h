// What the tests of options share: threads and memory as the system sees them, and a log kept.
#ifndef DSV32_TESTS_MODEL_REPORTS_C11_H_
#define DSV32_TESTS_MODEL_REPORTS_C11_H_

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {

// Ids of this process's threads.
inline std::set<int> threads_now() {
  std::set<int> ids;
  std::error_code error;  // threads end while they are listed
  for (std::filesystem::directory_iterator it("/proc/self/task", error), end; !error && it != end;
       it.increment(error)) {
    ids.insert(std::stoi(it->path().filename().string()));
  }
  return ids;
}

// Those that `before` does not hold.
inline std::set<int> new_threads(const std::set<int>& before) {
  std::set<int> ids = threads_now();
  std::erase_if(ids, [&](int id) { return before.contains(id); });
  return ids;
}

// The number behind `key` in the lines of /proc/self/smaps about mappings of `file`, or, without a
// file, in /proc/self/status; KiB, added up.
inline std::size_t proc_kib(const std::string& key, const std::string& file = {}) {
  std::ifstream lines(file.empty() ? "/proc/self/status" : "/proc/self/smaps");
  std::size_t kib = 0;
  bool inside = file.empty();
  for (std::string line; std::getline(lines, line);) {
    const bool header = !file.empty() && line.find('-') < line.find(' ');
    if (header) inside = line.ends_with(file);
    if (inside && line.starts_with(key + ":")) kib += std::stoul(line.substr(key.size() + 1));
  }
  return kib;
}

inline bool is_mapped(const std::string& file) { return proc_kib("Size", file) > 0; }

// The logits after so many tokens, the same ones each time.
inline Bits run(const Model& model, std::size_t tokens) {
  Session session(model);
  return copy(session.append(some_tokens(tokens, 1)));
}

// What a load said, a list for each level.
struct Log {
  LogSink sink() {
    return [this](LogLevel level, std::string_view message) {
      const std::lock_guard lock(mutex);
      (level == LogLevel::warning ? warnings : infos).emplace_back(message);
    };
  }
  std::mutex mutex;
  std::vector<std::string> warnings, infos;
};

// Tokens whose cache is twice the machine's memory.
inline std::size_t tokens_beyond_memory() {
  const Plan page = Checkpoint::open(golden("fp8")).plan({.kv_cache_tokens = 64});
  return (2 * available_backends().front().memory_bytes / page.kv_cache_bytes + 1) * 64;
}

// The golden model with a tensor of 8 MiB that is not of it.
class UnusedTensor {
 public:
  UnusedTensor() {
    Tensors tensors = tensors_of(golden("fp8"));
    tensors["left.over"] = {"U8", {8 << 20}, std::string(8 << 20, 'x')};
    std::filesystem::copy(golden("fp8") + "/config.json", path());
    write_shard(file(), tensors);
  }
  const std::filesystem::path& path() const { return folder_.path(); }
  std::string file() const { return (path() / "model.safetensors").string(); }

 private:
  TempFolder folder_;
};

struct Check {
  const char* field;
  void (*holds)();
};

// Each field has its check, and each check holds.
inline void check_all(const std::string& fields, std::span<const Check> checks) {
  std::string checked;
  for (const Check& check : checks)
    checked += (checked.empty() ? "" : ", ") + std::string(check.field);
  REQUIRE(checked == fields);
  for (const Check& check : checks) {
    INFO(check.field);
    check.holds();
  }
}

// The fields' names. That they are all of them the compiler knows: no other number of names binds.
#define DSV32_ALL_FIELDS(Type, ...)                       \
  [[maybe_unused]] void bind(const Type& options) {       \
    [[maybe_unused]] const auto& [__VA_ARGS__] = options; \
  }                                                       \
  constexpr const char* k##Type = #__VA_ARGS__

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_REPORTS_C11_H_
