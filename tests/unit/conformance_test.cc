// That the conformance program cannot pass by running nothing.
#include "tests/conformance/conformance.h"

#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

using conformance::Report;

TEST_CASE("vector files that are missing, empty, no JSON, or of an unknown kind are failures") {
  const TempFolder folder;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder.path() / name) << text;
    return (folder.path() / name).string();
  };
  const std::string good = std::string(DSV32_SOURCE_DIR) + "/tests/golden/chat/stream_cases.jsonl";
  CHECK(conformance::run_stream({good}) == 0);
  const std::string files[] = {
      write("empty.jsonl", ""),       write("blank.jsonl", "\n \n"),
      write("text.jsonl", "no JSON"), write("kind.jsonl", R"({"name": "a", "kind": "song"})"),
      write("bare.jsonl", "{}"),      (folder.path() / "absent").string()};
  for (const std::string& file : files) {
    INFO(file);
    CHECK(conformance::run_chat({file}) == 1);
    CHECK(conformance::run_stream({file, good}) == 1);
    CHECK(conformance::run_tokenizer({folder.path().string(), file}) == 1);
    CHECK(conformance::run_model({file}) == 1);
  }
  CHECK_THROWS_AS(conformance::run_chat({}), conformance::UsageError);
  CHECK(Report().finish() == 1);
}

TEST_CASE("a row that cannot be read does not hide the next") {
  const TempFolder folder;
  const auto file = folder.path() / "rows.jsonl";
  std::ofstream(file) << "{\"n\": 1}\nno JSON\n{\"n\": 3}\n";
  Report report;
  int rows = 0;
  conformance::for_each_row(file, report, [&](const Json& row) {
    ++rows;
    report.result(conformance::member(row, "n").text, true);
  });
  CHECK(rows == 2);
  CHECK(report.finish() == 1);
}

}  // namespace
}  // namespace dsv32::test
