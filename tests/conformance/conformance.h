// The conformance program's parts: one function a subcommand, one report for all.
#ifndef DSV32_TESTS_CONFORMANCE_CONFORMANCE_H_
#define DSV32_TESTS_CONFORMANCE_CONFORMANCE_H_

#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/json.h"

namespace dsv32::conformance {

using Args = std::vector<std::string>;

// The command line is wrong: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Prints a line a case and counts; `finish` prints "N passed, N failed" and returns the exit code:
// 0 only if something ran and nothing failed.
class Report {
 public:
  void result(std::string_view name, bool passed, std::string_view detail = {});
  void skip(std::string_view name, std::string_view reason);
  int finish() const;

 private:
  int passed_ = 0, failed_ = 0, skipped_ = 0;
};

std::string read_file(const std::filesystem::path& path);      // throws Error not_found
const Json& member(const Json& object, std::string_view key);  // throws bad_format

// Runs `check` on each row of a jsonl file. A row that it throws for is a failure, and so is a file
// that is missing, empty or no JSON; the rows behind and the other files are still run.
void for_each_row(const std::filesystem::path& path, Report& report,
                  const std::function<void(const Json&)>& check);

int run_chat(const Args& args);
int run_stream(const Args& args);
int run_tokenizer(const Args& args);
int run_model(const Args& args);
int run_file(const Args& args);
int run_parse(const Args& args);

}  // namespace dsv32::conformance

#endif  // DSV32_TESTS_CONFORMANCE_CONFORMANCE_H_
