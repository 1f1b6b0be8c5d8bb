// The two files of a batch: lines of any size and ending, and results that outlive a stopped run.
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "cli/batch_lines.h"
#include "cli/batch_output.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

template <class Call>
void fails(const std::string& part, Call&& call) {
  try {
    call();
  } catch (const std::runtime_error& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).find(part) != std::string::npos);
    return;
  }
  FAIL("no error was thrown: " << part);
}

struct Seen {
  std::size_t number;
  std::string text;
  bool too_long;
  bool operator==(const Seen&) const = default;
};

std::vector<Seen> requests(const fs::path& file) {
  cli::BatchInput input(file);
  std::vector<Seen> seen;
  std::string line;
  while (input.next(line)) seen.push_back({input.number(), line, input.too_long()});
  CHECK(seen.size() == input.requests());
  return seen;
}

constexpr std::uint64_t kInput = 0x0123456789ABCDEFu;

std::string result(std::size_t line) {
  return R"({"id":"batch_req_0123456789abcdef_)" + std::to_string(line) + R"(","custom_id":"x"})";
}

}  // namespace

TEST_CASE("requests come line by line, whatever ends them") {
  const TempFolder folder;
  const fs::path file = folder.path() / "in";
  const std::string big(200'000, 'x');  // longer than any buffer
  write_text(file,
             "\xEF\xBB\xBF"
             "one\r\n\n \t\r\ntwo\n" +
                 big + "\n\nlast");
  CHECK(
      requests(file) ==
      std::vector<Seen>{{1, "one", false}, {4, "two", false}, {5, big, false}, {7, "last", false}});
  for (const char* empty : {"", "\n", "\r\n  \n"}) {
    write_text(file, empty);
    CHECK(requests(file).empty());
  }
}

TEST_CASE("a line that is too long is known by its number, and the next one is whole") {
  const TempFolder folder;
  const fs::path file = folder.path() / "in";
  const std::string fits(cli::BatchInput::kLongest, 'y');
  const std::string rest(200000, 'z');  // more than is read at once
  write_text(file, fits + "\n" + fits + rest + "\nnext\n");
  CHECK(requests(file) == std::vector<Seen>{{1, fits, false}, {2, "", true}, {3, "next", false}});
}

TEST_CASE("an input that cannot be read twice, or is no UTF-8, is refused") {
  const TempFolder folder;
  fails("No such file", [&] { cli::BatchInput(folder.path() / "absent"); });
  fails("read twice", [&] { cli::BatchInput(folder.path().string()); });
  REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
  fails("read twice", [&] { cli::BatchInput(folder.path() / "pipe"); });  // without waiting
  write_text(folder.path() / "wide", std::string("\xFF\xFE{\0\n\0", 6));
  fails("UTF-16", [&] { cli::BatchInput(folder.path() / "wide"); });
}

TEST_CASE("an input that changes while it is read is noticed") {
  const TempFolder folder;
  const fs::path file = folder.path() / "in";
  const auto read_after = [&](const std::string& changed) {
    write_text(file, "one\ntwo\n");
    cli::BatchInput input(file);
    write_text(file, changed);
    std::string line;
    std::size_t count = 0;
    while (input.next(line)) ++count;
    return count;
  };
  fails("was changed", [&] { read_after("one\ntwX\n"); });
  fails("was changed", [&] { read_after("one\n"); });
  CHECK(read_after("one\ntwo\n") == 2);
  CHECK(read_after("one\ntwo\nthree\n") == 2);  // what is appended later is another input
}

TEST_CASE("inputs that differ have different fingerprints") {
  const TempFolder folder;
  const auto fingerprint = [&](const std::string& text) {
    write_text(folder.path() / "in", text);
    return cli::BatchInput(folder.path() / "in").fingerprint();
  };
  CHECK(fingerprint("one\ntwo\n") == fingerprint("one\ntwo\n"));
  CHECK(fingerprint("one\ntwo\n") != fingerprint("one\ntwo\nthree\n"));
  CHECK(fingerprint("one\ntwo\n") != fingerprint("one\ntwX\n"));
  CHECK(fingerprint("one\ntwo\n") != fingerprint("two\none\n"));
}

TEST_CASE("results are found again, but for one that was not finished") {
  const TempFolder folder;
  const fs::path file = folder.path() / "out";
  {
    cli::BatchOutput output(file, kInput, 5);
    CHECK(output.id(3) == "batch_req_0123456789abcdef_3");
    output.write(3, result(3));
    output.write(1, result(1));
    CHECK(output.results() == 2);
  }
  const std::string whole = result(3) + "\n" + result(1) + "\n";
  CHECK(bytes_of(file) == whole);
  const std::string next = result(5);
  for (std::size_t cut = 0; cut <= next.size(); ++cut) {
    write_text(file, whole + next.substr(0, cut));
    cli::BatchOutput output(file, kInput, 5);
    CHECK((output.has(1) && output.has(3)));
    CHECK_FALSE((output.has(2) || output.has(5)));
    CHECK(output.results() == 2);
    output.write(5, next);
    CHECK(bytes_of(file) == whole + next + "\n");
  }
}

TEST_CASE("results of another input, and what is none, stay as they are") {
  const TempFolder folder;
  const fs::path file = folder.path() / "out";
  const auto stays = [&](const std::string& text, const std::string& part) {
    write_text(file, text);
    fails(part, [&] { cli::BatchOutput(file, kInput, 5); });
    CHECK(bytes_of(file) == text);
  };
  stays(R"({"id":"batch_req_0123456789abcdee_1"})"
        "\n",
        "line 1 of");
  stays(result(1) + "\n" + result(6) + "\n", "another input");  // there are five lines
  stays(result(0) + "\n", "another input");
  stays(R"({"id":"batch_req_0123456789abcdef_1x"})"
        "\n",
        "another input");
  stays(result(1) + "\n{}\n", "line 2 of");
  stays("some notes\n", "no result");
  stays("some notes, without an end", "no result");
  stays(result(1) + "\nnotes", "no result");
  stays("{\"id\": \"batch_req_", "no result");  // others' JSON has other blanks
  stays("\n", "no result");
}

TEST_CASE("one process writes a file of results") {
  const TempFolder folder;
  const fs::path file = folder.path() / "out";
  {
    cli::BatchOutput output(file, kInput, 5);
    fails("another process", [&] { cli::BatchOutput(file, kInput, 5); });
    output.write(1, result(1));
  }
  CHECK(cli::BatchOutput(file, kInput, 5).has(1));
  fails("cannot write", [&] { cli::BatchOutput(folder.path(), kInput, 5); });
  REQUIRE(::mkfifo((folder.path() / "pipe").c_str(), 0600) == 0);
  fails("no plain file", [&] { cli::BatchOutput(folder.path() / "pipe", kInput, 5); });
}

TEST_CASE("a file without a result goes again, unless it is kept or was there") {
  const TempFolder folder;
  const fs::path file = folder.path() / "out";
  { const cli::BatchOutput output(file, kInput, 5); }
  CHECK_FALSE(fs::exists(file));
  {
    cli::BatchOutput output(file, kInput, 5);
    output.keep();
  }
  CHECK(fs::exists(file));
  { const cli::BatchOutput output(file, kInput, 5); }
  CHECK(fs::exists(file));
}

TEST_CASE("a result that does not fit is taken back") {
  const TempFolder folder;
  const fs::path file = folder.path() / "out";
  cli::BatchOutput output(file, kInput, 5);
  output.write(1, result(1));
  const std::string before = bytes_of(file);
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const rlimit low{.rlim_cur = before.size() + 10, .rlim_max = old.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
  std::optional<std::string> message;
  try {
    output.write(2, result(2));
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
  REQUIRE(message);
  CHECK(message->find("File too large") != std::string::npos);
  CHECK(bytes_of(file) == before);
  CHECK_FALSE(output.has(2));
  output.write(2, result(2));
  CHECK(bytes_of(file) == before + result(2) + "\n");
}

}  // namespace dsv32::test
