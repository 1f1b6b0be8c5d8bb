// What all subcommands share.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "lib/base/check.h"
#include "tests/conformance/conformance.h"

namespace dsv32::conformance {

void Report::result(std::string_view name, bool passed, std::string_view detail) {
  (passed ? passed_ : failed_) += 1;
  std::printf("%s %.*s%s%.*s\n", passed ? "ok  " : "FAIL", static_cast<int>(name.size()),
              name.data(), detail.empty() ? "" : "  ", static_cast<int>(detail.size()),
              detail.data());
}

void Report::skip(std::string_view name, std::string_view reason) {
  ++skipped_;
  std::printf("skip %.*s  %.*s\n", static_cast<int>(name.size()), name.data(),
              static_cast<int>(reason.size()), reason.data());
}

int Report::finish() const {
  if (skipped_ > 0) std::printf("%d skipped\n", skipped_);
  std::printf("%d passed, %d failed\n", passed_, failed_);
  return failed_ == 0 && passed_ > 0 ? 0 : 1;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  DSV32_CHECK(in.good(), not_found, "cannot read {}", quote(path.string()));
  return {std::istreambuf_iterator<char>(in), {}};
}

void for_each_row(const std::filesystem::path& path, Report& report,
                  const std::function<void(const Json&)>& check) {
  const std::string file = path.filename().string();
  std::string text;
  try {
    text = read_file(path);
  } catch (const Error& error) {
    return report.result(file, false, error.what());
  }
  int line_number = 0;
  bool empty = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    empty = false;
    const std::string where = formatted("{}:{}", file, line_number);
    try {
      check(parse_json(line, where));
    } catch (const Error& error) {
      report.result(where, false, error.what());
    }
  }
  if (empty) report.result(file, false, "holds no case");
}

const Json& member(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  DSV32_CHECK(value != nullptr, bad_format, "a case lacks {}", quote(key));
  return *value;
}

}  // namespace dsv32::conformance
