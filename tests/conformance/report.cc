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

std::vector<Json> read_jsonl(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  std::vector<Json> rows;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    if (line.find_first_not_of(" \r") != std::string_view::npos) {
      rows.push_back(parse_json(line, path.filename().string()));
    }
    begin = end + 1;
  }
  DSV32_CHECK(!rows.empty(), bad_format, "{} holds no case", quote(path.string()));
  return rows;
}

const Json& member(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  DSV32_CHECK(value != nullptr, bad_format, "a case lacks {}", quote(key));
  return *value;
}

}  // namespace dsv32::conformance
