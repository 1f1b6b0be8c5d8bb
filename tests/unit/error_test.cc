// What an error says: short, printable, and with the name that matters.
#include "dsv32/error.h"

#include <string>
#include <vector>

#include "lib/base/check.h"
#include "lib/base/file.h"
#include "tests/support/catch.h"

namespace dsv32 {
namespace {

TEST_CASE("foreign text is cut and escaped, a long path keeps the file's name") {
  CHECK(quote("a\"b\\\n\xff") == R"("a\x22b\x5c\x0a\xff")");
  CHECK(quote(std::string(64, 'x')) == '"' + std::string(64, 'x') + '"');
  CHECK(quote(std::string(65, 'x')) == '"' + std::string(64, 'x') + "..\"");
  const std::string cache(200, 'c');
  CHECK(quote_path("/" + cache + "/config.json").ends_with("ccc/config.json\""));
  CHECK(quote_path("/" + cache + "/config.json").size() == 64 + 4);
  CHECK(quote_path("short/config.json") == "\"short/config.json\"");
}

TEST_CASE("a message has at most 512 bytes of whole characters") {
  CHECK(std::string(Error(ErrorCode::io, std::string(600, 'y')).what()).size() == 512);
  std::string accents;
  for (int i = 0; i < 400; ++i) accents += "é";
  const std::string cut = Error(ErrorCode::io, "x" + accents).what();
  CHECK(cut.size() == 511);
  CHECK(cut.ends_with("é"));
}

TEST_CASE("a missing file far down in the folders is named") {
  test::check_error(ErrorCode::not_found, "model-00001-of-000163.safetensors", [] {
    const std::string name = "model-00001-of-000163.safetensors";
    const Folder folder("/");
    File(folder, "no/" + std::string(200, 'd') + "/" + name, FileAccess::mmap);
  });
}

TEST_CASE("joined separates all values, empty ones too") {
  CHECK(joined(std::vector<int>{}, ", ").empty());
  CHECK(joined(std::vector<int>{7}, ", ") == "7");
  CHECK(joined(std::vector<int>{1, -2, 3}, ", ") == "1, -2, 3");
  CHECK(joined(std::vector<std::string>{"", "a", ""}, "+") == "+a+");
}

}  // namespace
}  // namespace dsv32
