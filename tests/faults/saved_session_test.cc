// Saving and loading sessions while the system refuses, memory is short, or the process is killed.
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "dsv32/session.h"

#include "tests/conformance/conformance.h"
#include "tests/faults/fail_each.h"
#include "tests/faults/seams.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/new_seed.h"
#include "tests/support/until_met.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

Model load_model() {
  LoadOptions options;
  options.backend.num_threads = 1;
  options.kv_cache_tokens = 1024;
  options.mtp = true;
  return Model::load(golden_model("fp8"), options);
}

std::string bytes_of(const fs::path& file) { return conformance::read_file(file); }

std::ptrdiff_t files_in(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

TEST_CASE("SV-08 a full disk, a failing sync or rename: the old file, and nothing else") {
  const Model model = load_model();
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  Session old(model), next(model);
  old.append(some_tokens(40, 1));
  old.save(file);
  const std::string before = bytes_of(file);
  next.append(some_tokens(200, 2));
  const int descriptors = open_descriptors();
  const auto refused = [&](const Seams& fault, const char* part) {
    seams = fault;
    check_error(ErrorCode::io, part, [&] { next.save(file); });
    seams = {};
    CHECK(bytes_of(file) == before);
    CHECK(files_in(folder.path()) == 1);
    CHECK(open_descriptors() == descriptors);
  };
  seams = {};
  next.save(folder.path() / "count");
  const int writes = seams.writes;
  fs::remove(folder.path() / "count");
  REQUIRE(writes >= 5);
  for (int k = 0; k < writes; ++k)
    refused({.fail_write = k, .error = ENOSPC}, "No space left on device");
  refused({.fail_sync = 0, .error = EIO}, "cannot sync");
  refused({.fail_rename = 0, .error = EACCES}, "cannot replace");
  // The folder's entry comes last: the new file is there by then, whole.
  seams = {.fail_sync = 1, .error = EIO};
  check_error(ErrorCode::io, "folder", [&] { next.save(file); });
  seams = {};
  const Session loaded = Session::load(model, file);
  CHECK(loaded.tokens().size() == 200);
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("writes that come in pieces are put together") {
  const Model model = load_model();
  const TempFolder folder;
  Session session(model);
  session.append(some_tokens(100, 3));
  session.save(folder.path() / "whole");
  seams = {.short_writes = true};
  session.save(folder.path() / "pieces");
  const int writes = seams.writes;
  seams = {};
  CHECK(writes > 20);
  CHECK(bytes_of(folder.path() / "whole") == bytes_of(folder.path() / "pieces"));
}

TEST_CASE("a save or a load that gets no thread, or fails on one, is as without") {
  LoadOptions options;
  options.backend.num_threads = 2;
  options.kv_cache_tokens = 2048;
  const Model model = Model::load(golden_model("fp8"), options);
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv", other = folder.path() / "other";
  Session session(model);
  session.append(some_tokens(400, 8));  // seven pages, four pieces
  session.save(file);
  const std::string want = bytes_of(file);
  seams = {.threads = 0};
  session.save(other);
  const Session loaded = Session::load(model, file);
  seams = {};
  CHECK(bytes_of(other) == want);
  CHECK(std::ranges::equal(loaded.tokens(), session.tokens()));
  fs::remove(other);
  session.save(other);
  const int writes = seams.writes;
  for (int k = 0; k < writes; ++k) {
    seams = {.fail_write = k, .error = ENOSPC};
    check_error(ErrorCode::io, "No space left", [&] { session.save(file); });
    seams = {};
    CHECK(bytes_of(file) == want);
  }
  std::string changed = want;
  changed[want.size() / 2] = static_cast<char>(changed[want.size() / 2] ^ 1);
  const std::size_t free = model.free_cache_tokens();
  for (const std::string& bytes : {want.substr(0, want.size() - 100'000), changed}) {
    write_text(file, bytes);
    check_error(ErrorCode::bad_format, "s.kv", [&] { Session::load(model, file); });
    CHECK(model.free_cache_tokens() == free);
  }
}

TEST_CASE("RS-01 an allocation that fails while saving or loading costs nothing else") {
  const Model model = load_model();
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  Session session(model);
  session.append(some_tokens(150, 4));
  session.save(file);
  const std::string want = bytes_of(file);
  const std::size_t free = model.free_cache_tokens();
  const int descriptors = open_descriptors();
  const auto check = [&] {
    CHECK(bytes_of(file) == want);
    CHECK(files_in(folder.path()) == 1);
    CHECK(model.free_cache_tokens() == free);
    CHECK(open_descriptors() == descriptors);
  };
  fail_each_allocation(
      1, [&] { session.save(file); }, check);
  fail_each_allocation(
      1, [&] { Session::load(model, file); }, check);
}

TEST_CASE("SV-13 a head that promises much allocates little") {
  const Model model = load_model();
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  Session session(model);
  session.append(some_tokens(100, 5));
  session.save(file);
  std::string bytes = bytes_of(file);
  for (std::size_t i = 24; i < 40; ++i) {  // tokens, bytes of a page
    std::string changed = bytes;
    changed[i] = '\x7F';
    write_text(file, changed);
    const CountAllocations count;
    CHECK_THROWS_AS(Session::load(model, file), Error);
    CHECK(count.bytes() < 200'000);
  }
}

// A process that saves two sessions to one file in turns until it is killed.
[[noreturn]] void save_for_ever(const fs::path& file, int ready) {
  try {
    const Model model = load_model();
    Session one(model), other(model);
    one.append(some_tokens(70, 6));
    other.append(some_tokens(300, 7));
    one.save(file);
    if (write(ready, "x", 1) != 1) _exit(2);
    for (;;) {
      other.save(file);
      one.save(file);
    }
  } catch (...) {
  }
  _exit(3);
}

TEST_CASE("SV-09 kills at random moments of a save leave the old file or the new one") {
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  std::mt19937_64 random(new_seed());
  int whole[2] = {}, left = 0;  // that many were killed while they wrote
  const auto kill_one = [&](int) {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) save_for_ever(file, ready[1]);
    REQUIRE(child > 0);
    close(ready[1]);
    char x = 0;
    const bool begun = read(ready[0], &x, 1) == 1;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    close(ready[0]);
    REQUIRE(begun);
    REQUIRE(WIFSIGNALED(status));
    const bool saving = fs::exists(folder.path() / "s.kv.saving");
    REQUIRE(files_in(folder.path()) == (saving ? 2 : 1));
    left += saving ? 1 : 0;
    const Model model = load_model();
    const Session loaded = Session::load(model, file);
    const std::size_t size = loaded.tokens().size();
    REQUIRE((size == 70 || size == 300));
    const Tokens want = size == 70 ? some_tokens(70, 6) : some_tokens(300, 7);
    REQUIRE(std::ranges::equal(loaded.tokens(), want));
    ++whole[size == 70 ? 0 : 1];
  };
  CHECK(run_until_met(is_slow() ? 20 : 200, kill_one,
                      [&] { return left > 0 && whole[0] > 0 && whole[1] > 0; }));
}

}  // namespace
}  // namespace dsv32::test
